"""Every case on empty trees, scalars, None leaves and zero gradients."""

import jax
import jax.numpy as jnp
import optax
import pytest

import optax_ia
from tests.contract.cases import over_cases
from tests.contract.problem import initial, signature


def assert_finite(tree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            assert jnp.isfinite(leaf).all(), jax.tree_util.keystr(path)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
@over_cases("zero_gradient")
def test_zero_gradients_give_finite_updates(case, dtype):
    """From the first step on, repeatedly, and again after a useful gradient."""
    tx = case.make()
    update = jax.jit(tx.update)
    params = initial(dtype)
    state = case.init(tx, params)
    zeros = optax.tree.zeros_like(params)
    ones = optax.tree.ones_like(params)
    for grads in (zeros, zeros, ones, zeros, zeros):
        updates, state = update(grads, state, params)
        assert_finite(updates)
        params = optax.apply_updates(params, updates)
    assert_finite(params)
    if case.averages:
        assert_finite(optax_ia.averaged_params(state, params))


@pytest.mark.parametrize("size", [1e-30, 1e18])
@over_cases("extreme_gradient")
def test_tiny_and_huge_gradients_give_finite_updates(case, size):
    """The square of the first is zero in float32, that of the second near its end."""
    tx = case.make()
    params = initial()
    state = tx.init(params)
    grads = jax.tree.map(lambda w: jnp.full_like(w, size), params)
    for _ in range(2):
        updates, state = tx.update(grads, state, params)
        assert_finite(updates)


@over_cases("empty_tree")
def test_empty_tree(case):
    tx = case.make()
    state = tx.init({})
    updates, new_state = jax.jit(tx.update)({}, state, {})
    assert updates == {}
    assert signature(new_state) == signature(state)
    if case.averages:
        assert optax_ia.averaged_params(new_state, {}) == {}


@over_cases("scalar_leaves")
def test_scalar_leaves_and_bare_arrays(case):
    tx = case.make()
    for params in ({"scale": jnp.float32(2.0), "w": jnp.ones(3)}, jnp.float32(2.0)):
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(params, state, params)
            assert signature(updates) == signature(params)
        if case.averages:
            average = optax_ia.averaged_params(state, params)
            assert signature(average) == signature(params)


@over_cases("none_leaves")
def test_none_leaves_are_left_out(case):
    tx = case.make()
    with_none = {"frozen": None, **initial()}
    state = tx.init(with_none)
    plain_state = tx.init(initial())
    params = with_none
    plain = initial()
    for _ in range(3):
        updates, state = tx.update(params, state, params)
        assert updates["frozen"] is None
        params = optax.apply_updates(params, updates)
        plain_updates, plain_state = tx.update(plain, plain_state, plain)
        plain = optax.apply_updates(plain, plain_updates)
    assert params["frozen"] is None
    assert all(
        bool((a == b).all())
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(plain), strict=True)
    )
    if case.averages:
        average = optax_ia.averaged_params(state, params)
        assert average["frozen"] is None


@over_cases("containers")
def test_any_container(case):
    """Tuples, lists and named tuples, as a Flax or NNX state may hold them."""
    tx = case.make()
    leaves = jax.tree.leaves(initial())
    expected, _ = tx.update(leaves, tx.init(leaves), leaves)
    nested = {"a": (leaves[0],), "b": [leaves[1], ()]}
    updates, state = tx.update(nested, tx.init(nested), nested)
    assert jax.tree.structure(updates) == jax.tree.structure(nested)
    for got, want in zip(jax.tree.leaves(updates), expected, strict=True):
        assert bool((got == want).all())
    if case.averages:
        average = optax_ia.averaged_params(state, nested)
        assert jax.tree.structure(average) == jax.tree.structure(nested)
