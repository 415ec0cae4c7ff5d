"""A loss, whole or in two parts."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

LossFn = Callable[[Any, Any], Any]
"""``(params, batch)`` to the mean loss over the batch, or to it and metrics."""


def scalar_of(result: Any) -> jax.Array:
    """The loss of what a loss function returned: a scalar, or a pair with metrics.

    Raises:
      ValueError: if it is neither.
    """
    pair = isinstance(result, tuple) and len(result) == 2
    loss: Any = result[0] if pair else result
    if not hasattr(loss, "shape") and not isinstance(loss, (int, float)):
        raise ValueError(
            "loss_fn must return the mean loss, a scalar, or (loss, metrics), got a "
            f"{type(loss).__name__}."
        )
    if jnp.shape(loss) != ():
        raise ValueError(
            "loss_fn must return the mean loss, a scalar, or (loss, metrics), got "
            f"shape {jnp.shape(loss)}."
        )
    return jnp.asarray(loss)


def mean_loss(loss_fn: LossFn) -> Callable[..., jax.Array]:
    """A loss function whose metrics are left out and whose result is checked."""

    def scalar(*arguments: Any) -> jax.Array:
        return scalar_of(loss_fn(*arguments))

    return scalar


def checked_outputs(outputs: Any) -> jax.Array:
    """The outputs of a network; raises TypeError if they are no single array."""
    if not hasattr(outputs, "ndim"):
        raise TypeError(
            "logits_fn must return one array of outputs, got a "
            f"{type(outputs).__name__}: select it, as in "
            "lambda params, batch: model(params, batch)[0]."
        )
    return outputs


class NetworkLoss(NamedTuple):
    """A loss in two parts, for the matrices that know about outputs.

    Attributes:
      logits_fn: ``(params, batch)`` to outputs of shape (examples, ...).
      output_loss: ``(outputs, batch)`` to the mean over the examples, a scalar to which
        each example contributes through its own outputs alone, or a pair of it and
        metrics.

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
        outputs = checked_outputs(self.logits_fn(params, batch))
        return scalar_of(self.output_loss(outputs, batch))


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
