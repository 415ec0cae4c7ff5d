"""One update out of the gradients of several small batches."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.errors import ExperimentError
from experiments.loops._skip import check_skipping
from experiments.parallel import Placement
from optax_ia import registry

Parts = Sequence[Any]
"""The small batches that a batch is cut into, most often one; ready for the devices."""

_WHOLE = ("grad_fn", "value_fn", "matvec", "full_gradient", "kfac_factors")


class SeenNorm(NamedTuple):
    """The norm of the gradient that the latest update was made from.

    Attributes:
      gradient_norm: float32, of the mean over the small batches.
    """

    gradient_norm: jax.Array


def _see_norm() -> optax.GradientTransformation:
    def init(params: Any) -> SeenNorm:
        del params
        return SeenNorm(jnp.zeros((), jnp.float32))

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        del state, params
        norm = optax.tree.norm(updates)
        return updates, SeenNorm(jnp.asarray(norm, jnp.float32))

    return optax.GradientTransformation(init, update)


@functools.cache
def accumulated(
    tx: optax.GradientTransformation, every: int
) -> optax.GradientTransformationExtraArgs:
    """An optimiser that updates at every so many gradients, from their mean.

    Its schedules count updates, and so do its averages: they see nothing of the small
    batches. Extra arguments reach it; they are those of the last small batch.

    Cached, so that compiled programs are found again.

    Args:
      tx: the optimiser.
      every: gradients an update.

    Returns:
      The transformation, whose state holds a :class:`SeenNorm`.
    """
    inner = optax.chain(_see_norm(), tx)
    steps: Any = optax.MultiSteps(inner, every)
    # ``steps.gradient_transformation()`` would not take extra arguments.
    return optax.GradientTransformationExtraArgs(steps.init, steps.update)


def gradient_norm(opt_state: Any) -> jax.Array:
    """The norm of the gradient of the latest update.

    Args:
      opt_state: of :func:`accumulated`, on its own or within others.

    Returns:
      float32 scalar.
    """
    return optax.tree.get(opt_state, "gradient_norm")


def cut(batch: Any, accumulate: int = 1, placement: Placement | None = None) -> Parts:
    """Cuts this host's share of a batch into small batches, and places them.

    Args:
      batch: a tree of arrays in this host's memory, of which ``accumulate`` divides the
        rows.
      accumulate: how many small batches.
      placement: the devices; None leaves them on the host.

    Returns:
      The small batches.
    """
    arrays, structure = jax.tree.flatten(batch)
    rows = len(arrays[0]) // accumulate
    parts = tuple(
        structure.unflatten([array[first : first + rows] for array in arrays])
        for first in range(0, accumulate * rows, rows)
    )
    return parts if placement is None else placement.share(parts)


def check_cut(
    optimizer: str, batch_size: int, accumulate: int, devices: int, *, skip: bool
) -> None:
    """Checks that a batch can be cut into small batches, and these over devices.

    Args:
      optimizer: its name.
      batch_size: rows of a whole batch.
      accumulate: small batches an update.
      devices: how many.
      skip: whether updates that are not finite are left out.

    Raises:
      ExperimentError: naming the argument and what does not fit.
    """
    parts = devices * accumulate
    if batch_size % parts:
        of = [f"{devices} devices"] * (devices > 1)
        of += [f"--accumulate {accumulate}"] * (accumulate > 1)
        fewer = "; --devices takes fewer" if devices > 1 else ""
        raise ExperimentError(
            f"--batch-size must be a multiple of {parts} ({' times '.join(of)}{fewer})"
            f", got {batch_size}"
        )
    if accumulate > 1 and skip:
        raise ExperimentError(
            f"--accumulate must be 1 with --on-nan skip, got {accumulate}"
        )
    needs = registry.get_record(optimizer).needs
    if skip:
        check_skipping(needs)
    whole = [name for name in needs if name in _WHOLE]
    if accumulate > 1 and whole:
        raise ExperimentError(
            f"--accumulate must be 1 for {optimizer}, which evaluates whole batches "
            f"itself (it needs {', '.join(whole)}), got {accumulate}"
        )


def check_run(
    config: Any, placement: Placement | None = None, *, skip: bool = False
) -> None:
    """Checks that optimiser, batch and devices of a run go together.

    Args:
      config: the run, with an optimizer, a batch size and a number of small batches.
      placement: the devices; None for one.
      skip: whether updates that are not finite are left out.

    Raises:
      ExperimentError: naming the argument and what does not fit.
    """
    devices = 1 if placement is None else placement.devices
    check_cut(
        config.optimizer, config.batch_size, config.accumulate, devices, skip=skip
    )
