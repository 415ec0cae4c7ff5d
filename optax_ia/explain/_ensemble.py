"""Ensembles of predictions, against which averages of weights are held."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia._src import checks
from optax_ia.explain._logits import wide_logits


def _log_weights(weights: Any, count: int) -> jax.Array:
    if weights is None:
        return jnp.full(count, -jnp.log(float(count)))
    given, weights = weights, jnp.asarray(weights, jnp.result_type(float))
    if weights.shape != (count,):
        raise ValueError(
            f"weights must have shape ({count},), one a model, got {weights.shape}."
        )
    # as everywhere, arrays of JAX may be traced and are not looked at
    if not isinstance(given, jax.Array) and not (
        np.min(given) >= 0 and np.sum(given) > 0
    ):
        raise ValueError(f"weights must be >= 0, and not all 0, got {weights}.")
    return jnp.log(weights / weights.sum())


def ensemble_logits(
    logits: jax.typing.ArrayLike,
    weights: Any = None,
    *,
    mean: Literal["arithmetic", "geometric"] = "arithmetic",
) -> jax.Array:
    r"""The logarithms of an ensemble's probabilities, which are logits as well.

    .. math::
      \log \sum_k w_k\, p_k \quad\text{or}\quad
      \log \mathrm{softmax}\Big(\sum_k w_k \log p_k\Big)

    with :math:`p_k` the softmax outputs of model k. For losses and accuracies that take
    logits; unlike the logarithm of :func:`ensemble_probabilities` they never overflow.

    Args:
      logits: of every model on the same examples, shape (models, ..., classes).
      weights: w >= 0, shape (models,), of any sum but 0; None weighs all alike.
      mean: "arithmetic" averages probabilities, the usual ensemble; "geometric"
        averages logits.

    Returns:
      Log-probabilities, shape (..., classes), in float32 or wider.

    Raises:
      ValueError: if a shape does not fit, a weight is negative or ``mean`` is unknown.
      TypeError: if the logits are complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import explain
      >>> logits = jnp.array([[0.0, 0.0], [2000.0, 0.0]])  # two models, one example
      >>> print(explain.ensemble_logits(logits).round(4))
      [-0.2877 -1.3863]
      >>> print(explain.ensemble_logits(logits, mean="geometric"))
      [    0. -1000.]

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Method, 2021, section 3 and figure 3(a).
    """
    checks.check_choice("mean", mean, ("arithmetic", "geometric"))
    values = jax.nn.log_softmax(wide_logits("logits", logits, axes=2))
    shares = _log_weights(weights, values.shape[0]).astype(values.dtype)
    shares = shares.reshape(-1, *[1] * (values.ndim - 1))
    if mean == "arithmetic":
        return jax.nn.logsumexp(values + shares, axis=0)
    # a model of weight 0 has no say, even where its probability is 0
    weighted = jnp.where(jnp.isneginf(shares), 0, jnp.exp(shares) * values)
    return jax.nn.log_softmax(weighted.sum(axis=0))


def ensemble_probabilities(
    logits: jax.typing.ArrayLike,
    weights: Any = None,
    *,
    mean: Literal["arithmetic", "geometric"] = "arithmetic",
) -> jax.Array:
    """An ensemble's probabilities: the mean over models of their softmax outputs.

    Args:
      logits: of every model on the same examples, shape (models, ..., classes).
      weights: >= 0, shape (models,), of any sum but 0; None weighs all alike.
      mean: "arithmetic" averages probabilities, the usual ensemble; "geometric"
        averages logits.

    Returns:
      Probabilities, shape (..., classes), in float32 or wider; they sum to 1.

    Raises:
      ValueError: if a shape does not fit, a weight is negative or ``mean`` is unknown.
      TypeError: if the logits are complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import explain
      >>> logits = jnp.array([[0.0, 0.0], [2000.0, 0.0]])  # two models, one example
      >>> print(explain.ensemble_probabilities(logits))
      [0.75 0.25]

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Method, 2021, section 3 and figure 3(a).
    """
    return jnp.exp(ensemble_logits(logits, weights, mean=mean))
