"""Prediction ensembles: against NumPy, weighted, and with large logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia import explain

LOGITS = 3 * np.random.default_rng(0).normal(size=(4, 6, 5))


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.0, 5.0)])
def test_arithmetic_mean_of_probabilities(weights):
    expected = np.average(softmax(LOGITS), axis=0, weights=weights)
    found = explain.ensemble_probabilities(LOGITS, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(np.sum(found, axis=-1), 1, rtol=1e-12)
    np.testing.assert_allclose(
        explain.ensemble_logits(LOGITS, weights), np.log(expected), rtol=1e-12
    )


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.0, 5.0)])
def test_geometric_mean_of_probabilities(weights):
    expected = softmax(np.average(LOGITS, axis=0, weights=weights))
    found = explain.ensemble_probabilities(LOGITS, weights, mean="geometric")
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_equal_models_are_their_own_ensemble(mean):
    same = np.broadcast_to(LOGITS[:1], LOGITS.shape)
    found = explain.ensemble_probabilities(same, mean=mean)
    np.testing.assert_allclose(found, softmax(LOGITS[0]), rtol=1e-12)


def test_the_ensemble_is_no_worse_than_its_members_on_average():
    """Jensen: the cross entropy of the mean is below the mean cross entropy."""
    labels = np.arange(6) % 5
    for mean in ("arithmetic", "geometric"):
        ensemble = explain.ensemble_logits(LOGITS, mean=mean)
        loss = -np.mean(np.asarray(ensemble)[np.arange(6), labels])
        members = -np.log(softmax(LOGITS))[:, np.arange(6), labels]
        assert loss < members.mean()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_large_logits_stay_finite(dtype):
    logits = jnp.array([[[1e5, 0.0, -1e5]], [[1e5, 0.0, -1e5]]], dtype)
    for mean in ("arithmetic", "geometric"):
        found = explain.ensemble_logits(logits, mean=mean)
        assert found.dtype == jnp.float32
        large = float(logits[0, 0, 0])
        np.testing.assert_allclose(found, [[0.0, -large, -2 * large]], rtol=1e-6)


def test_a_model_of_weight_zero_has_no_say():
    logits = jnp.array([[0.0, 1.0], [-jnp.inf, 0.0]])
    for mean in ("arithmetic", "geometric"):
        found = explain.ensemble_probabilities(logits, (1.0, 0.0), mean=mean)
        np.testing.assert_allclose(found, softmax(np.array([0.0, 1.0])), rtol=1e-12)


def test_traced_weights():
    found = jax.jit(explain.ensemble_probabilities)(LOGITS, jnp.arange(1.0, 5.0))
    expected = np.average(softmax(LOGITS), axis=0, weights=np.arange(1.0, 5.0))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((jnp.ones(3),), "logits must have shape"),
        ((LOGITS, (1.0, 2.0)), r"weights must have shape \(4,\)"),
        ((LOGITS, (1.0, 2.0, -1.0, 0.0)), "weights must be >= 0"),
        ((LOGITS, np.zeros(4)), "weights must be >= 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        explain.ensemble_logits(*arguments)


def test_an_unknown_mean():
    with pytest.raises(ValueError, match="mean must be one of"):
        explain.ensemble_logits(LOGITS, mean="median")
