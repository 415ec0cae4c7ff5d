"""Grafting: the size of each tensor's step taken from another method."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

Method = Literal["sgd", "adagrad", "rmsprop"] | None

METHODS = ("sgd", "adagrad", "rmsprop")


class Grafted(NamedTuple):
    """The numbers of a grafted method; arrays of shape ().

    Attributes:
      decay: of RMSprop's second moment.
      correction: what that moment is divided by.
      eps: added to the moment's root.
    """

    decay: jax.Array
    correction: jax.Array
    eps: jax.Array


def remembers(method: Method) -> bool:
    """Whether a method keeps a second moment."""
    return method in ("adagrad", "rmsprop")


def step(
    method: Method, gradient: jax.Array, memory: Any, numbers: Grafted
) -> tuple[jax.Array, Any]:
    """A method's step, without its learning rate, and its new second moment.

    Args:
      method: ``"sgd"``, ``"adagrad"`` or ``"rmsprop"``.
      gradient: of any shape.
      memory: the second moment, like the gradient; None for SGD.
      numbers: of the method.

    Returns:
      The step and the moment.
    """
    if not remembers(method):
        return gradient, memory
    squares = gradient * gradient
    if method == "adagrad":
        memory = mean = memory + squares
    else:
        keep = numbers.decay.astype(memory.dtype)
        memory = keep * memory + (1 - keep) * squares
        mean = memory / numbers.correction.astype(memory.dtype)
    root = jnp.sqrt(mean) + numbers.eps.astype(memory.dtype)
    # a root of zero stands under a gradient of zero
    return gradient / jnp.maximum(root, jnp.finfo(root.dtype).tiny), memory


def resized(
    direction: jax.Array, own_square: jax.Array, square: jax.Array
) -> jax.Array:
    """A direction at another length; a zero stays one.

    Args:
      direction: of any shape.
      own_square: its squared norm, shape ().
      square: that of the result, shape ().

    Returns:
      The direction, scaled.
    """
    ratio = jnp.sqrt(square) / jnp.sqrt(jnp.where(own_square > 0, own_square, 1))
    return direction * jnp.where(own_square > 0, ratio, 0)
