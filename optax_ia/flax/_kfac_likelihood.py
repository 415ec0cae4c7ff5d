"""The distribution of labels given a network's outputs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.checks import check_choice

_LABEL_KEYS = ("label", "labels", "y")


@dataclasses.dataclass(frozen=True)
class Likelihood:
    r"""What the outputs of a network say of its labels.

    Ready-made are

    - "categorical": outputs are logits (..., classes), labels integers (...) or
      probabilities (..., classes); a term :math:`-\log \mathrm{softmax}(z)_y` for each
      leading position;
    - "bernoulli": outputs are logits (..., n), labels in [0, 1] of the same shape; the
      binary cross entropy, summed over the last axis;
    - "gaussian": outputs and labels (..., n); :math:`\tfrac12 \|z - y\|^2` over the
      last axis, the variance being 1.

    Attributes:
      name: for messages.
      negative_log_likelihood: ``(outputs, labels)`` to the terms of the loss, an array
        of any shape, one entry for each independent label.
      sample: ``(key, outputs)`` to labels drawn from the model.

    Example:
      >>> import jax, jax.numpy as jnp, optax_ia.flax
      >>> poisson = optax_ia.flax.Likelihood(
      ...     "poisson",
      ...     lambda log_rate, count: jnp.exp(log_rate) - count * log_rate,
      ...     lambda key, log_rate: jax.random.poisson(key, jnp.exp(log_rate)),
      ... )
      >>> print(poisson.negative_log_likelihood(jnp.zeros(2), jnp.array([0.0, 5.0])))
      [1. 1.]

    References:
      Martens, `New Insights and Perspectives on the Natural Gradient Method
      <https://arxiv.org/abs/1412.1193>`_, 2020, section 5.
    """

    name: str
    negative_log_likelihood: Callable[[Any, Any], jax.Array]
    sample: Callable[[jax.Array, Any], Any]


def _wide(outputs: jax.Array) -> jax.Array:
    """At least float32: a softmax over many classes needs it."""
    return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))


def _wrong_labels(name: str, labels: Any, outputs: Any, wanted: str) -> ValueError:
    return ValueError(
        f"labels of a {name} likelihood must be {wanted} for outputs of shape "
        f"{jnp.shape(outputs)}, got shape {jnp.shape(labels)} and dtype "
        f"{jnp.result_type(labels)}: pass labels=, a function of a batch."
    )


def _check_same(name: str, labels: Any, outputs: Any) -> None:
    if jnp.shape(labels) != jnp.shape(outputs):
        raise _wrong_labels(name, labels, outputs, "of the same shape")


def _categorical_terms(outputs, labels):
    logits = _wide(outputs)
    shape = jnp.shape(labels)
    if (
        jnp.issubdtype(jnp.result_type(labels), jnp.integer)
        and shape == logits.shape[:-1]
    ):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if shape != logits.shape:
        wanted = f"integers of shape {logits.shape[:-1]} or probabilities"
        raise _wrong_labels("categorical", labels, outputs, wanted)
    return optax.softmax_cross_entropy(logits, jnp.asarray(labels, logits.dtype))


def _bernoulli_terms(outputs, labels):
    _check_same("bernoulli", labels, outputs)
    logits = _wide(outputs)
    labels = jnp.asarray(labels, logits.dtype)
    return optax.sigmoid_binary_cross_entropy(logits, labels).sum(axis=-1)


def _bernoulli_sample(key, outputs):
    logits = _wide(outputs)
    return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(logits.dtype)


def _gaussian_terms(outputs, labels):
    _check_same("gaussian", labels, outputs)
    return 0.5 * jnp.sum(jnp.square(_wide(outputs) - labels), axis=-1)


def _gaussian_sample(key, outputs):
    mean = _wide(outputs)
    return mean + jax.random.normal(key, mean.shape, mean.dtype)


_LIKELIHOODS = {
    likelihood.name: likelihood
    for likelihood in (
        Likelihood(
            "categorical",
            _categorical_terms,
            lambda key, outputs: jax.random.categorical(key, _wide(outputs)),
        ),
        Likelihood("bernoulli", _bernoulli_terms, _bernoulli_sample),
        Likelihood("gaussian", _gaussian_terms, _gaussian_sample),
    )
}


def likelihood_of(likelihood: str | Likelihood) -> Likelihood:
    """A likelihood, also from its name; raises if there is none."""
    if isinstance(likelihood, Likelihood):
        return likelihood
    if not isinstance(likelihood, str):
        raise TypeError(
            "likelihood must be a name or an optax_ia.flax.Likelihood, got a "
            f"{type(likelihood).__name__}."
        )
    check_choice("likelihood", likelihood, _LIKELIHOODS)
    return _LIKELIHOODS[likelihood]


def default_labels(batch: Any) -> Any:
    """A tuple's second element, or a mapping's "label", "labels" or "y"."""
    if isinstance(batch, Mapping):
        for key in _LABEL_KEYS:
            if key in batch:
                return batch[key]
        found = f"the keys {', '.join(map(repr, batch))}"
    elif isinstance(batch, tuple | list) and len(batch) >= 2:
        return batch[1]
    else:
        found = f"type {type(batch).__name__}"
    raise ValueError(
        f"a batch of {found} has no labels: pass labels=, a function of a batch."
    )


def without_masked(labels: Any, weights: Any) -> Any:
    """Labels with 0 where the weight is 0.

    A masked label, such as -100, is no class: its term would be NaN, and zero times NaN
    would spoil the sum and its gradient.
    """
    kept = jnp.asarray(weights) != 0
    labels = jnp.asarray(labels)
    if kept.shape != labels.shape[: kept.ndim]:
        return labels  # ``shares`` refuses the weights
    kept = kept.reshape(kept.shape + (1,) * (labels.ndim - kept.ndim))
    return jnp.where(kept, labels, jnp.zeros_like(labels))


def shares(terms: jax.Array, weights: Any) -> jax.Array:
    """What each term of the loss counts for: they sum to 1.

    Args:
      terms: the terms, for their shape and dtype.
      weights: one number >= 0 for each term, or None.

    Raises:
      ValueError: if there is no term, or the weights have another shape.
    """
    if not terms.size:
        raise ValueError(
            f"the batch must hold at least one example, got outputs for {terms.shape}."
        )
    if weights is None:
        return jnp.full(terms.shape, 1 / terms.size, terms.dtype)
    if jnp.shape(weights) != terms.shape:
        raise ValueError(
            "weights must give one number for each term of the loss, shape "
            f"{terms.shape}, got shape {jnp.shape(weights)}."
        )
    weights = jnp.asarray(weights, terms.dtype)
    total = jnp.sum(weights)
    return weights / jnp.where(total == 0, 1, total)
