"""Keeping a state where it lies while it is trained.

The compiler chooses the shardings of what a step returns. Here it is told, inside the
optimiser and the network, so that the state of one step is laid out as that of the
next expects: nothing is moved or compiled twice.
"""

import functools
from collections.abc import Callable
from typing import Any

import optax

from experiments.parallel._placement import Placement


@functools.cache
def in_place(
    tx: optax.GradientTransformationExtraArgs, placement: Placement
) -> optax.GradientTransformationExtraArgs:
    """An optimiser whose updates and states lie as a placement says.

    Cached, so that compiled programs are found again.

    Args:
      tx: the optimiser.
      placement: the devices.

    Returns:
      The same rule with the same states.
    """

    def init(params: Any) -> Any:
        return tx.init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        # The gradient too: summed straight into the parts that are kept.
        updates = placement.constrain(updates)
        return placement.constrain(tx.update(updates, state, params, **extra))

    return optax.GradientTransformationExtraArgs(init, update)


@functools.cache
def apply_in_place(
    apply_fn: Callable[..., Any], placement: Placement
) -> Callable[..., Any]:
    """An ``apply`` whose new batch statistics lie as a placement says.

    Args:
      apply_fn: a Linen module's ``apply``.
      placement: the devices.

    Returns:
      The same function.
    """

    def apply(variables: Any, *inputs: Any, mutable: Any = False, **kwargs: Any) -> Any:
        found = apply_fn(variables, *inputs, mutable=mutable, **kwargs)
        if not mutable:
            return found
        outputs, updated = found
        return outputs, placement.constrain(updated)

    return apply
