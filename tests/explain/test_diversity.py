"""Distances of predictions: against NumPy, their bounds, and large logits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia import explain

MEASURES = (explain.symmetric_kl, explain.total_variation)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def logit_pair(shape=(20, 10), scale=3.0, seed=0):
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=shape), scale * rng.normal(size=shape)


@pytest.mark.parametrize("shape", [(20, 10), (4,), (3, 5, 2)])
def test_symmetric_kl_against_numpy(shape):
    a, b = logit_pair(shape)
    p, q = softmax(a), softmax(b)
    expected = np.mean(np.sum(p * np.log(p / q) + q * np.log(q / p), axis=-1) / 2)
    found = explain.symmetric_kl(a, b)
    assert found.shape == ()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(20, 10), (4,), (3, 5, 2)])
def test_total_variation_against_numpy(shape):
    a, b = logit_pair(shape)
    expected = np.mean(np.sum((softmax(a) - softmax(b)) ** 2, axis=-1))
    np.testing.assert_allclose(explain.total_variation(a, b), expected, rtol=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_symmetric_never_negative_and_zero_for_equal_ones(measure, scale):
    a, b = logit_pair(scale=scale)
    assert measure(a, a) == 0
    np.testing.assert_allclose(measure(a, b), measure(b, a), rtol=1e-13)
    assert measure(a, b) > 0
    if measure is explain.total_variation:
        assert measure(a, b) <= 2
    shift = np.arange(20.0)[:, None]  # a constant for all classes changes nothing
    np.testing.assert_allclose(measure(a + shift, b), measure(a, b), rtol=1e-9)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_large_logits(dtype):
    """Surely one class, and surely the other: the probabilities underflow."""
    a, b = jnp.array([[3e4, 0.0, 0.0]], dtype), jnp.array([[0.0, 0.0, 3e4]], dtype)
    large = float(a[0, 0])
    assert explain.symmetric_kl(a, b) == large  # (1 - 0) (0 + large) twice, halved
    assert explain.total_variation(a, b) == 2
    assert explain.symmetric_kl(a, b).dtype == jnp.float32


def test_nearly_equal_predictions_in_float32():
    """The divergence goes with the square of a difference of 1e-3."""
    a = logit_pair()[0]
    b = a + 1e-3 * logit_pair(seed=1)[0]
    exact = explain.symmetric_kl(a, b)
    found = explain.symmetric_kl(a.astype(np.float32), b.astype(np.float32))
    np.testing.assert_allclose(found, exact, rtol=5e-3)


def test_excluded_classes():
    a = jnp.array([[1.0, 2.0, -jnp.inf]])
    b = jnp.array([[2.0, 2.0, -jnp.inf]])
    np.testing.assert_allclose(
        explain.symmetric_kl(a, b), explain.symmetric_kl(a[:, :2], b[:, :2]), rtol=1e-14
    )
    assert explain.symmetric_kl(a, jnp.zeros((1, 3))) == jnp.inf


@pytest.mark.parametrize("measure", ["symmetric_kl", "total_variation"])
def test_diversity_of_many_is_the_mean_over_pairs(measure):
    logits = np.random.default_rng(2).normal(size=(5, 12, 4))
    found = jax.jit(explain.solution_diversity, static_argnums=1)(logits, measure)
    pairs = {
        (i, j): getattr(explain, measure)(logits[i], logits[j])
        for i, j in itertools.combinations(range(5), 2)
    }
    assert found.pairwise.shape == (5, 5)
    for (i, j), value in pairs.items():
        np.testing.assert_allclose(found.pairwise[i, j], value, rtol=1e-12)
        assert found.pairwise[j, i] == found.pairwise[i, j]
    np.testing.assert_array_equal(np.diag(found.pairwise), 0)
    np.testing.assert_allclose(found.mean, np.mean(list(pairs.values())), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: explain.symmetric_kl(jnp.ones((2, 3)), jnp.ones((2, 4))), ValueError,
         r"shape of p_logits, \(2, 3\), got \(2, 4\)"),
        (lambda: explain.symmetric_kl(jnp.ones((2, 3)), jnp.ones(3)), ValueError,
         "q_logits must have the shape"),
        (lambda: explain.total_variation(jnp.ones(()), jnp.ones(())), ValueError,
         "p_logits must have shape"),
        (lambda: explain.total_variation(jnp.ones((0, 3)), jnp.ones((0, 3))),
         ValueError, "p_logits must have shape"),
        (lambda: explain.symmetric_kl(jnp.ones(3) * 1j, jnp.ones(3)), TypeError,
         "p_logits must be real"),
        (lambda: explain.solution_diversity(jnp.ones((1, 2, 3))), ValueError,
         "at least two models, got 1"),
    ],
)  # fmt: skip
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_unknown_measure():
    logits = jnp.ones((2, 2, 3))
    with pytest.raises(ValueError, match="measure must be one of"):
        explain.solution_diversity(logits, "hellinger")
