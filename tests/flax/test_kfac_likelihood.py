"""Losses and drawn labels of the likelihoods."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia.flax
from optax_ia.flax._kfac_likelihood import default_labels, likelihood_of, shares
from tests.flax.kfac_problem import KEY, normal

Z = normal((2, 3, 4))


def test_categorical():
    likelihood = likelihood_of("categorical")
    labels = np.arange(6).reshape(2, 3) % 4
    log_p = Z - np.log(np.exp(Z).sum(-1, keepdims=True))
    wanted = -np.take_along_axis(log_p, labels[..., None], -1)[..., 0]
    one_hot = np.eye(4)[labels]
    for given in (labels, one_hot, one_hot.astype(int)):
        got = likelihood.negative_log_likelihood(jnp.asarray(Z), given)
        np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_bernoulli():
    p = 1 / (1 + np.exp(-Z))
    labels = np.random.default_rng(0).uniform(size=Z.shape)
    wanted = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).sum(-1)
    terms = likelihood_of("bernoulli").negative_log_likelihood
    np.testing.assert_allclose(terms(jnp.asarray(Z), labels), wanted, rtol=1e-12)
    assert terms(jnp.asarray(Z), labels > 0.5).shape == (2, 3)


def test_gaussian():
    got = likelihood_of("gaussian").negative_log_likelihood(jnp.asarray(Z), Z + 2)
    np.testing.assert_allclose(got, 8 * np.ones((2, 3)))


@pytest.mark.parametrize("name", ["categorical", "bernoulli", "gaussian"])
def test_drawn_labels_have_the_score_zero_on_average(name):
    """The gradient of the log likelihood at the model's own labels has mean 0."""
    likelihood = likelihood_of(name)
    outputs = jnp.broadcast_to(jnp.asarray(Z[0]), (4000, 3, 4))
    labels = likelihood.sample(KEY, outputs)

    def total(outputs):
        return likelihood.negative_log_likelihood(outputs, labels).sum()

    scores = jax.grad(total)(outputs)
    error = scores.std(axis=0) / np.sqrt(len(scores))
    assert np.all(np.abs(scores.mean(axis=0)) < 4 * error)


@pytest.mark.parametrize("name", ["categorical", "bernoulli", "gaussian"])
def test_low_precision_outputs(name):
    likelihood = likelihood_of(name)
    outputs = jnp.asarray(Z, jnp.bfloat16)
    labels = likelihood.sample(KEY, outputs)
    terms = likelihood.negative_log_likelihood(outputs, labels)
    assert terms.shape == (2, 3)
    assert terms.dtype == jnp.float32


@pytest.mark.parametrize(
    ("name", "labels", "wanted"),
    [
        ("categorical", np.zeros((2,), int), r"integers of shape \(2, 3\)"),
        ("categorical", np.zeros((2, 3)), "or probabilities"),
        ("bernoulli", np.zeros((2, 3)), "of the same shape"),
        ("gaussian", np.zeros((2, 3, 1)), "of the same shape"),
    ],
)
def test_labels_of_the_wrong_shape(name, labels, wanted):
    with pytest.raises(ValueError, match=f"labels of a {name} .*{wanted}.*got shape"):
        likelihood_of(name).negative_log_likelihood(jnp.asarray(Z), labels)


def test_unknown_likelihoods():
    with pytest.raises(ValueError, match="must be one of 'categorical', 'bernoulli'"):
        optax_ia.flax.kfac_value_and_grad(None, "poisson")
    with pytest.raises(TypeError, match="a name or an optax_ia.flax.Likelihood"):
        optax_ia.flax.kfac_value_and_grad(None, len)


def test_labels_of_a_batch():
    assert default_labels((1, 2, 3)) == 2
    for name in ("label", "labels", "y"):
        assert default_labels({"x": 1, name: 2}) == 2
    for batch in ({"x": 1}, (1,), np.ones(2)):
        with pytest.raises(ValueError, match="has no labels: pass labels="):
            default_labels(batch)


def test_shares():
    terms = jnp.zeros((2, 2))
    np.testing.assert_array_equal(shares(terms, None), np.full((2, 2), 0.25))
    weights = np.array([[3, 0], [0, 1]])
    np.testing.assert_array_equal(shares(terms, weights), weights / 4)
    assert not shares(terms, 0 * weights).any()


@pytest.mark.parametrize("empirical", [False, True])
@pytest.mark.parametrize("kept", [4, 0])
def test_masked_labels_do_not_count_and_are_never_nan(kept, empirical):
    """-100 marks padding: gradient and factors are those of the examples left."""
    model = nn.Sequential([nn.Dense(3), nn.tanh, nn.Dense(5)])
    x = jax.random.normal(jax.random.key(0), (6, 4))
    labels = jnp.where(jnp.arange(6) < kept, jnp.arange(6) % 5, -100)
    params = model.init(jax.random.key(1), x)["params"]

    def measured(batch, weights):
        function = optax_ia.flax.kfac_value_and_grad(
            model, apply_kwargs={}, weights=weights, empirical=empirical
        )
        (loss, _), grads, factors = function(params, batch, jax.random.key(2))
        return loss, grads, factors

    masked = measured((x, labels), lambda batch: (batch[1] >= 0).astype(float))
    for leaf in jax.tree.leaves(masked):
        assert jnp.isfinite(leaf).all()
    if not kept:
        assert masked[0] == 0
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(masked[1]))
        return
    whole = measured((x[:kept], labels[:kept]), None)
    for got, want in zip(
        jax.tree.leaves(masked[:2]), jax.tree.leaves(whole[:2]), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
