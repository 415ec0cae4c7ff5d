"""One update out of the gradients of several small batches."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


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
