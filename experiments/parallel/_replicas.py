"""Batch statistics of each replica's share of a batch.

What a network normalises with is then what unsynchronised BatchNorm sees in data
parallel training elsewhere: the statistics of the examples of one device. The gradient
is the mean over replicas, as there.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

from experiments.parallel._placement import AXIS, Placement


@functools.cache
def per_replica(
    apply_fn: Callable[..., Any], replicas: int, placement: Placement | None
) -> Callable[..., Any]:
    """An ``apply`` whose batch statistics are those of equal shares of the batch.

    The shares are consecutive rows: those of one device, if there are as many replicas
    as devices. Each draws its own dropout. The running averages that are kept are the
    mean of those of the replicas, of which the variance is the mean of the variances
    within them. (PyTorch keeps those of the first replica and forgets the others'.)

    Cached, so that compiled programs are found again.

    Args:
      apply_fn: a Linen module's ``apply``, whose ``train`` selects training mode.
      replicas: how many shares; must divide the batch.
      placement: the devices; None for one.

    Returns:
      The same as ``apply_fn`` for evaluation.
    """
    # The shares stay on the devices that have them.
    along = None if placement is None or replicas % placement.devices else AXIS

    def apply(
        variables: Any,
        x: jax.Array,
        *,
        train: bool = True,
        rngs: dict[str, jax.Array] | None = None,
        mutable: Any = False,
    ) -> Any:
        if not train:
            return apply_fn(variables, x, train=False, rngs=rngs, mutable=mutable)

        def on_share(x: jax.Array, rngs: dict[str, jax.Array] | None) -> Any:
            return apply_fn(variables, x, train=True, rngs=rngs, mutable=mutable)

        shares = x.reshape(replicas, x.shape[0] // replicas, *x.shape[1:])
        keys = jax.tree.map(lambda key: jax.random.split(key, replicas), rngs)
        found = jax.vmap(on_share, spmd_axis_name=along)(shares, keys)
        if not mutable:
            return _joined(found)
        outputs, updated = found
        return _joined(outputs), jax.tree.map(lambda leaf: leaf.mean(0), updated)

    return apply


def _joined(outputs: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), outputs)
