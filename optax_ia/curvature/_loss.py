"""A loss, whole or in two parts."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

LossFn = Callable[[Any, Any], jax.Array]
"""``(params, batch)`` to the mean loss over the batch."""


class NetworkLoss(NamedTuple):
    """A loss in two parts, for the matrices that know about outputs.

    Attributes:
      logits_fn: ``(params, batch)`` to outputs of shape (examples, ...).
      output_loss: ``(outputs, batch)`` to the mean over the examples, a scalar to which
        each example contributes through its own outputs alone.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from optax_ia import curvature
      >>> loss = curvature.NetworkLoss(
      ...     lambda w, batch: batch[0] @ w,
      ...     lambda z, batch: jnp.mean((z - batch[1]) ** 2) / 2,
      ... )
      >>> print(loss.total(jnp.ones(2), (jnp.eye(2), jnp.zeros(2))))
      0.5
    """

    logits_fn: Callable[[Any, Any], jax.Array]
    output_loss: Callable[[jax.Array, Any], jax.Array]

    def total(self, params: Any, batch: Any) -> jax.Array:
        """The loss as a function of parameters and batch."""
        return self.output_loss(self.logits_fn(params, batch), batch)


@functools.cache
def _whole(logits_fn: Any, output_loss: Any) -> LossFn:
    """One function for each pair: compiled products are found by it."""
    return NetworkLoss(logits_fn, output_loss).total


def scalar_loss(loss: Any) -> LossFn:
    """A loss as one function, whether it came whole or in two parts."""
    if callable(loss):
        whole: Any = loss
        return whole
    return _whole(*parts(loss, "hessian_operator"))


def parts(loss: Any, maker: str) -> NetworkLoss:
    """A loss in two parts; raises TypeError, naming ``maker``, if it is not."""
    if isinstance(loss, tuple) and len(loss) == 2 and all(map(callable, loss)):
        return loss if isinstance(loss, NetworkLoss) else NetworkLoss(*loss)
    raise TypeError(
        f"{maker} needs the loss in two parts, (logits_fn, output_loss), got "
        f"{type(loss).__name__}."
    )
