"""Captured factors against rows that are stored, gradients by vmap, dense Fishers."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import optax_ia.flax
from optax_ia.flax._kfac_likelihood import likelihood_of
from tests.flax.kfac_problem import (
    IMAGES,
    KEY,
    LABELS,
    Mlp,
    assert_factors,
    compiled,
    drawn_labels,
    linen_net,
    normal,
    plain_factors,
)

EXACT = {"rtol": 1e-10, "atol": 1e-13}
X = normal((6, 5))
Y = {
    "categorical": np.arange(6) % 3,
    "bernoulli": (normal((6, 3), seed=1) > 0).astype(float),
    "gaussian": normal((6, 3), seed=1),
}


def mlp(*widths, x=X):
    net = Mlp(widths)
    shapes = jax.eval_shape(net.init, KEY, x)["params"]
    return net, jax.tree.map(lambda leaf: 0.5 * normal(leaf.shape, 3), shapes)


def capturing(net, likelihood="categorical", **kwargs):
    kwargs = {"apply_kwargs": {}} | kwargs
    return compiled(optax_ia.flax.kfac_value_and_grad(net, likelihood, **kwargs))


@pytest.mark.parametrize("name", Y)
def test_loss_gradient_and_factors(name):
    net, params = mlp(4, 3)
    likelihood = likelihood_of(name)
    (loss, aux), grads, factors = capturing(net, name)(params, (X, Y[name]), KEY)

    def mean_loss(params):
        outputs = net.apply({"params": params}, X)
        return likelihood.negative_log_likelihood(outputs, Y[name]).mean()

    value, gradient = compiled(jax.value_and_grad(mean_loss))(params)
    np.testing.assert_allclose(loss, value, **EXACT)
    jax.tree.map(partial(np.testing.assert_allclose, **EXACT), grads, gradient)
    assert aux == ({}, None)

    labels = drawn_labels(likelihood, net.apply({"params": params}, X))
    wanted = plain_factors(
        lambda params: net.apply({"params": params}, X),
        params,
        lambda z: likelihood.negative_log_likelihood(z, labels).sum() / np.sqrt(6),
    )
    assert_factors(factors, wanted, **EXACT)
    assert not np.array_equal(labels, Y[name])


def test_gradients_of_examples_by_vmap():
    net, params = mlp(4, 3)
    terms = likelihood_of("categorical").negative_log_likelihood
    batch = X, Y["categorical"]
    _, _, factors = capturing(net, empirical=True)(params, batch)

    @compiled
    @jax.vmap
    def gradients(x, y):
        return jax.grad(lambda p: terms(net.apply({"params": p}, x), y))(params)

    for path, example in gradients(*batch).items():
        # with the bias the last row: its input is 1, its gradient that of the output
        matrix = np.concatenate([example["kernel"], example["bias"][:, None]], axis=1)
        g = example["bias"]
        np.testing.assert_allclose(factors[path].outputs, g.T @ g / 6, **EXACT)
        a = matrix @ g[:, :, None] / np.sum(g**2, axis=1)[:, None, None]
        np.testing.assert_allclose(
            factors[path].inputs, a[..., 0].T @ a[..., 0] / 6, **EXACT
        )


def test_weights_of_a_text():
    x, mask = normal((3, 4, 5)), np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0.0]])
    batch = {"x": x, "y": np.zeros((3, 4), int), "mask": mask}
    net, params = mlp(4, 3, x=x)
    likelihood = likelihood_of("categorical")
    for empirical in (False, True):
        capture = capturing(net, weights=lambda b: b["mask"], empirical=empirical)
        (loss, _), _, factors = capture(params, batch, KEY)
        outputs = net.apply({"params": params}, x)
        labels = batch["y"] if empirical else drawn_labels(likelihood, outputs)
        terms = likelihood.negative_log_likelihood(outputs, batch["y"])
        np.testing.assert_allclose(loss, jnp.sum(mask * terms) / 7, **EXACT)
        wanted = plain_factors(
            lambda params: net.apply({"params": params}, x),
            params,
            lambda z, labels=labels: jnp.sum(
                np.sqrt(mask / 7) * likelihood.negative_log_likelihood(z, labels)
            ),
        )
        assert_factors(factors, wanted, **EXACT)


def test_weights_that_are_all_zero_give_finite_factors():
    net, params = mlp(3)
    for empirical in (False, True):
        capture = capturing(net, weights=lambda b: jnp.zeros(6), empirical=empirical)
        (loss, _), _, factors = capture(params, (X, Y["categorical"]), KEY)
        assert loss == 0
        assert not factors["Dense_0"].outputs.any()


@pytest.fixture(scope="module")
def convolutional():
    """The network with BatchNorm, its compiled capture, and what that gives."""
    net, params, stats = linen_net()
    value_and_grad = capturing(net, apply_kwargs=None)
    result = value_and_grad(params, (IMAGES, LABELS), KEY, stats)
    return net, params, stats, value_and_grad, result


def test_batch_statistics_are_updated_once(convolutional):
    net, params, stats, _, ((loss, aux), grads, factors) = convolutional

    @compiled
    @partial(jax.value_and_grad, has_aux=True)
    def plain(params):
        variables = {"params": params, "batch_stats": stats}
        z, updated = net.apply(variables, IMAGES, train=True, mutable="batch_stats")
        terms = likelihood_of("categorical").negative_log_likelihood(z, LABELS)
        return terms.mean(), updated["batch_stats"]

    (value, updated), gradient = plain(params)
    np.testing.assert_allclose(loss, value, **EXACT)
    jax.tree.map(partial(np.testing.assert_allclose, **EXACT), aux.batch_stats, updated)
    jax.tree.map(partial(np.testing.assert_allclose, **EXACT), grads, gradient)
    assert set(factors) == {"conv", "head"}


def test_factors_of_a_sharded_batch_are_those_of_the_whole(convolutional):
    _, params, stats, value_and_grad, alone = convolutional
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    over, everywhere = (
        NamedSharding(mesh, PartitionSpec(*names)) for names in (("data",), ())
    )
    batch = jax.device_put((IMAGES, LABELS), over)
    params, stats = jax.device_put((params, stats), everywhere)
    spread = value_and_grad(params, batch, KEY, stats)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), spread, alone
    )


def flops(function, *arguments):
    return function.lower(*arguments).compile().cost_analysis()["flops"]


def test_what_a_backward_pass_does_not_need_is_not_computed():
    x = normal((200, 40))
    widths = (50, 60, 10)
    net, params = mlp(*widths, x=x)
    batch = x, np.zeros(200, int)
    terms = likelihood_of("categorical").negative_log_likelihood
    plain = jax.jit(
        jax.value_and_grad(
            lambda p: terms(net.apply({"params": p}, x), batch[1]).mean()
        )
    )
    sides = list(zip((40, *widths), widths, strict=False))
    products = sum(rows**2 + columns**2 for rows, columns in sides)
    backward = sum(rows * columns for rows, columns in sides[1:])
    base = flops(plain, params)
    empirical = flops(capturing(net, empirical=True), params, batch, KEY) - base
    sampled = flops(capturing(net), params, batch, KEY) - base
    assert 2 * 200 * products < empirical < 1.1 * 2 * 200 * products
    assert sampled - empirical < 1.3 * 2 * 200 * backward


def test_random_streams_are_those_of_the_training_step():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.Dropout(0.5, deterministic=not train)(x)
            return nn.Dense(3, param_dtype=float)(x)

    net = Net()
    params = net.init(KEY, X, train=False)["params"]
    value_and_grad = capturing(net, apply_kwargs=None)
    (loss, _), _, factors = value_and_grad(params, (X, Y["categorical"]), KEY)
    dropout = {"dropout": jax.random.split(KEY, 1)[0]}
    z = net.apply({"params": params}, X, train=True, rngs=dropout)
    terms = likelihood_of("categorical").negative_log_likelihood(z, Y["categorical"])
    np.testing.assert_allclose(loss, terms.mean(), **EXACT)
    assert np.any(np.diag(factors["Dense_0"].inputs)[:-1] > np.mean(X**2, axis=0))


def test_bfloat16():
    net, params = mlp(4, 3)
    low = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    value_and_grad = capturing(net, empirical=True)
    batch = jnp.asarray(X, jnp.bfloat16), Y["categorical"]
    (loss, _), grads, factors = value_and_grad(low, batch)
    assert loss.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(factors)} == {jnp.dtype("float32")}
    _, _, wanted = value_and_grad(params, (X, Y["categorical"]))
    assert_factors(factors, wanted, rtol=0.1, atol=0.02)


def test_layers_are_looked_for_once():
    passes = []

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            passes.append(None)
            return nn.Dense(3, param_dtype=float)(x)

    net = Net()
    params = {"Dense_0": {"kernel": normal((5, 3)), "bias": np.zeros(3)}}
    value_and_grad = capturing(net)
    for _ in range(3):
        value_and_grad(params, (X, Y["categorical"]), KEY)
    assert len(passes) == 2  # one to look, one in the program
