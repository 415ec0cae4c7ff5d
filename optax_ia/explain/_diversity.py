"""How much the predictions of two solutions, or of many, differ."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia._src import checks
from optax_ia.explain._logits import wide_logits


def _pair(p_logits: Any, q_logits: Any) -> tuple[jax.Array, jax.Array]:
    p = wide_logits("p_logits", p_logits, axes=1)
    q = wide_logits("q_logits", q_logits, axes=1)
    if p.shape != q.shape:
        raise ValueError(
            f"q_logits must have the shape of p_logits, {p.shape}, got {q.shape}."
        )
    return p, q


def symmetric_kl(
    p_logits: jax.typing.ArrayLike, q_logits: jax.typing.ArrayLike
) -> jax.Array:
    r"""The symmetrised Kullback-Leibler divergence of two solutions' predictions.

    .. math::
      \mathcal D(p, q) = \tfrac12 \sum_c \Big(p_c \log\frac{p_c}{q_c} +
      q_c \log\frac{q_c}{p_c}\Big)

    between the softmax outputs, averaged over the examples. It is 0 for equal
    predictions, never negative, and has no upper bound. A class that both exclude
    (logit of minus infinity) counts nothing, one that only one of them does, infinity.

    Args:
      p_logits: one solution's logits, shape (..., classes).
      q_logits: the other's, the same shape.

    Returns:
      The mean over all examples, a scalar in float32 or wider.

    Raises:
      ValueError: if the shapes differ or are empty.
      TypeError: if the logits are complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import explain
      >>> sure, unsure = jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 0.0]])
      >>> print(f"{explain.symmetric_kl(sure, unsure):.4f}")
      0.0749
      >>> print(explain.symmetric_kl(sure, sure + 1000))
      0.0

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Method, 2021, section 3 and figure 4(b).
    """
    p, q = (jax.nn.log_softmax(logits) for logits in _pair(p_logits, q_logits))
    apart = jnp.exp(p) - jnp.exp(q)
    # 0 (log 0 - log 0) is 0: the logarithms are looked at where they matter
    counts = apart != 0
    ratio = jnp.where(counts, p, 0) - jnp.where(counts, q, 0)
    return jnp.mean(jnp.sum(apart * ratio, axis=-1) / 2)


def total_variation(
    p_logits: jax.typing.ArrayLike, q_logits: jax.typing.ArrayLike
) -> jax.Array:
    r"""The squared distance of two solutions' predictions.

    .. math::
      \|p - q\|^2 = \sum_c (p_c - q_c)^2 \in [0, 2]

    between the softmax outputs, averaged over the examples.

    Args:
      p_logits: one solution's logits, shape (..., classes).
      q_logits: the other's, the same shape.

    Returns:
      The mean over all examples, a scalar in float32 or wider.

    Raises:
      ValueError: if the shapes differ or are empty.
      TypeError: if the logits are complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import explain
      >>> one, other = jnp.array([[50.0, 0.0]]), jnp.array([[0.0, 50.0]])
      >>> print(explain.total_variation(one, other), explain.total_variation(one, one))
      2.0 0.0

    .. note::
      Elsewhere the total variation is half the sum of absolute differences. This is
      what P0 calls by that name and measures.

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Method, 2021, section 3.1 and figure 4(b).
    """
    p, q = (jax.nn.softmax(logits) for logits in _pair(p_logits, q_logits))
    return jnp.mean(jnp.sum(jnp.square(p - q), axis=-1))


_MEASURES = {"symmetric_kl": symmetric_kl, "total_variation": total_variation}


class Diversity(NamedTuple):
    """How much several solutions' predictions differ.

    Attributes:
      mean: over all pairs of different solutions, shape ().
      pairwise: the measure of each pair, symmetric with a zero diagonal, shape
        (models, models).
    """

    mean: jax.Array
    pairwise: jax.Array


def solution_diversity(
    logits: jax.typing.ArrayLike,
    measure: Literal["symmetric_kl", "total_variation"] = "symmetric_kl",
) -> Diversity:
    """The mean difference between all pairs of solutions, such as collected iterates.

    Averaging helps where it is large: averaging equal solutions changes nothing.

    Args:
      logits: of every solution on the same examples, shape (models, ..., classes), of
        at least two models.
      measure: :func:`symmetric_kl` or :func:`total_variation`.

    Returns:
      :class:`Diversity`.

    Raises:
      ValueError: if there are fewer than two models, or ``measure`` is unknown.
      TypeError: if the logits are complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import explain
      >>> logits = jnp.array([[[50.0, 0.0]], [[50.0, 0.0]], [[0.0, 50.0]]])
      >>> found = explain.solution_diversity(logits, "total_variation")
      >>> print(f"{found.mean:.3f}", found.pairwise[0])
      1.333 [0. 0. 2.]

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Method, 2021, figure 4(b).
    """
    checks.check_choice("measure", measure, _MEASURES)
    logits = wide_logits("logits", logits, axes=2)
    count = logits.shape[0]
    if count < 2:
        raise ValueError(f"diversity needs at least two models, got {count}.")
    first, second = np.triu_indices(count, 1)
    # one pair after the other: all at once would take count times the memory
    values = jax.lax.map(
        lambda pair: _MEASURES[measure](logits[pair[0]], logits[pair[1]]),
        jnp.stack([jnp.asarray(first), jnp.asarray(second)], axis=1),
    )
    half = jnp.zeros((count, count), values.dtype).at[first, second].set(values)
    return Diversity(mean=values.mean(), pairwise=half + half.T)
