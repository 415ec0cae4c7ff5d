"""Rows of every kind of layer: their products are the gradient of the kernel."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia.flax._batches import default_inputs
from optax_ia.flax._kfac_linen import linen_pass
from optax_ia.flax._kfac_passes import find
from optax_ia.flax._kfac_rules import EmbedRule
from optax_ia.flax._step_extras import Settings
from optax_ia.second_order._kfac_layers import leaves_by_path
from tests.flax.kfac_problem import LAYERS, compiled, normal

SETTINGS = Settings((), lambda outputs, batch: 0.0, default_inputs, None, {}, (), False)


def rule_of(module, params, x, max_dim=100):
    def run(params, observer, x):
        return linen_pass(SETTINGS, module.apply, params, x, None, None, observer)

    (rule,) = find(run, params, max_dim, x).rules.values()
    return rule


def prepared(name, max_dim=100):
    """A layer, its input, parameters, a cotangent and the rule; nothing compiled."""
    module, shape = LAYERS[name]
    x = normal(shape)
    abstract = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda leaf: normal(leaf.shape, seed=2), abstract)
    outputs = jax.eval_shape(module.apply, {"params": params}, x)
    g = normal(outputs.shape, seed=1)
    return module, x, params, g, rule_of(module, abstract, x, max_dim)


def explicit(rule, x, g):
    """Rows of inputs with the bias, and of gradients, (groups, rows, width)."""
    rows = jnp.moveaxis(rule.input_rows(x), 1, 0)
    if rule.layer.bias is not None:
        rows = jnp.concatenate([rows, jnp.ones((*rows.shape[:2], 1))], axis=-1)
    columns = rule.layer.sizes(rule.kernel_shape)[1]
    gradients = jnp.moveaxis(g.reshape(-1, rule.layer.groups, columns), 1, 0)
    return rows, gradients


@pytest.mark.parametrize("name", LAYERS)
def test_rows_give_the_gradient_of_the_kernel(name):
    module, x, params, g, rule = prepared(name)

    @compiled
    def both(params, x, g):
        _, backward = jax.vjp(lambda p: module.apply({"params": p}, x), params)
        grads = leaves_by_path(backward(g)[0])[0]
        product = jnp.einsum("gri,gro->gio", *explicit(rule, x, g))
        return product, rule.layer.to_matrix(grads)

    got, wanted = both(params, x, g)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "name",
    ["dense", "dense no bias", "general two axes", "same", "groups", "depthwise"],
)
@pytest.mark.parametrize("diagonal", [False, True])
def test_sums_are_those_of_the_rows(name, diagonal):
    _, x, _, g, rule = prepared(name, max_dim=0 if diagonal else 100)
    assert rule.layer.diagonal_inputs is rule.layer.diagonal_outputs is diagonal

    @compiled
    def both(x, g):
        total, count = rule.inputs_sum(x, x.dtype)
        return count, (total, rule.outputs_sum(g)), explicit(rule, x, g)

    count, sums, rows = both(x, g)
    assert count == rows[0].shape[1]
    products = [np.einsum("gri,grj->gij", part, part) for part in rows]
    if diagonal:
        products = [np.diagonal(part, axis1=1, axis2=2) for part in products]
    shapes = rule.layer.factor_shapes(rule.kernel_shape)
    for got, wanted, like in zip(sums, products, shapes, strict=True):
        assert got.shape == like
        np.testing.assert_allclose(got, wanted.reshape(like), rtol=1e-12)


@pytest.mark.parametrize("rows", [1, 5])
def test_inputs_of_an_embedding_are_the_frequencies_of_its_rows(rows):
    module = nn.Embed(rows, 2, param_dtype=float)
    numbers = jnp.array([[0, 3, -1], [3, 3, 2]]) if rows > 1 else jnp.zeros(6, int)
    params = module.init(jax.random.key(0), numbers)["params"]
    rule = rule_of(module, params, numbers)
    assert isinstance(rule, EmbedRule)
    assert rule.layer.diagonal_inputs
    assert not rule.layer.diagonal_outputs
    total, count = rule.inputs_sum(numbers, float)
    assert total.tolist() == ([1, 0, 1, 3, 1] if rows > 1 else [6])
    assert count == 6


def test_low_precision_is_summed_in_float32():
    module = nn.Dense(3, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    x = jnp.asarray(normal((700, 4)), jnp.bfloat16)
    params = module.init(jax.random.key(0), x)["params"]
    rule = rule_of(module, params, x)
    total, count = rule.inputs_sum(x, x.dtype)
    assert total.dtype == count.dtype == rule.outputs_sum(x[:, :3]).dtype == jnp.float32
    assert count == 700  # not a number of bfloat16
    wide = np.asarray(x, float)
    np.testing.assert_allclose(total[:4, :4], wide.T @ wide, rtol=1e-4)


def test_integers_as_inputs():
    module = nn.Dense(3, param_dtype=float)
    x = jnp.arange(8, dtype=jnp.uint8).reshape(2, 4) * 20
    params = module.init(jax.random.key(0), x)["params"]
    total, _ = rule_of(module, params, x).inputs_sum(x, float)
    wide = np.asarray(x, float)
    np.testing.assert_array_equal(total[:4, :4], wide.T @ wide)


def test_a_rule_takes_the_diagonals_asked_for():
    rule = prepared("dense")[-1]
    wanted = dataclasses.replace(rule.layer, diagonal_outputs=True)
    assert rule.replaced_diagonals(wanted).layer == wanted
