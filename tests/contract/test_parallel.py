"""Every case over eight host devices: pmap, and a mesh with sharded parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import optax_ia
from tests.contract.cases import over_cases
from tests.contract.problem import (
    STEPS,
    assert_trees_close,
    baseline,
    gradients,
    initial,
    make_step,
    run,
)

DEVICES = 8


@pytest.fixture(scope="module")
def mesh():
    assert jax.device_count() == DEVICES
    return jax.make_mesh(
        (DEVICES,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )


@over_cases("pmap")
def test_pmap_equals_one_device(case):
    tx = case.make()

    def step(params, state, t, weight):
        grads = jax.tree.map(lambda g: weight * g, gradients(params, t))
        grads = jax.lax.pmean(grads, "data")
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    # Every device sees a part of the gradient; the mean of the parts is the whole.
    weights = jnp.linspace(0.3, 1.7, DEVICES, dtype=jnp.float32)
    weights = weights / weights.mean()
    parallel = jax.pmap(step, axis_name="data", in_axes=(0, 0, None, 0))
    params, state = (
        jax.tree.map(lambda leaf: jnp.stack([leaf] * DEVICES), tree)
        for tree in (initial(), case.init(tx, initial()))
    )
    for t in range(STEPS):
        params, state = parallel(params, state, t, weights)
    for device in (0, DEVICES - 1):
        actual = jax.tree.map(
            lambda leaf, device=device: jnp.asarray(np.asarray(leaf)[device]),
            (params, state),
        )
        assert_trees_close(actual, baseline(case), rtol=1e-4, atol=1e-5)


def assert_sharded_like(tree, sharding):
    """Asserts that every leaf in the place of a parameter is split as they are."""
    places = {
        (jax.tree_util.keystr(path), leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(initial())
    }
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if any(name.endswith(end) and leaf.shape == shape for end, shape in places):
            assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim), (
                jax.tree_util.keystr(path),
                leaf.sharding,
            )


@over_cases("sharding")
def test_mesh_equals_one_device_and_keeps_the_sharding(case, mesh):
    tx = case.make()
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    params = jax.device_put(initial(), sharding)
    state = case.init(tx, params)
    assert_sharded_like(state, sharding)
    step = jax.jit(make_step(tx), donate_argnums=(0, 1))
    # The scalars of a fresh state are on one device: the first step spreads them.
    params, state = run(step, params, state, last=2)
    compiled = step._cache_size()
    params, state = run(step, params, state, first=2)
    assert step._cache_size() == compiled
    assert_sharded_like((params, state), sharding)
    if case.averages:
        average = optax_ia.averaged_params(state, params)
        assert_sharded_like(average, sharding)
        compiled = jax.jit(optax_ia.averaged_params)(state, params)
        assert_sharded_like(compiled, sharding)
        expected = optax_ia.averaged_params(*reversed(baseline(case)))
        assert_trees_close(average, expected)
        assert_trees_close(compiled, expected)
    assert_trees_close((params, state), baseline(case))


@over_cases("sharding")
def test_data_parallel_mesh_with_replicated_parameters(case, mesh):
    tx = case.make()
    replicated = NamedSharding(mesh, PartitionSpec())
    params = jax.device_put(initial(), replicated)
    begin = jax.jit(lambda params: case.init(tx, params), out_shardings=replicated)
    state = begin(params)
    step = jax.jit(
        make_step(tx),
        in_shardings=(replicated, replicated, None),
        out_shardings=(replicated, replicated),
        donate_argnums=(0, 1),
    )
    assert_trees_close(run(step, params, state), baseline(case))
    assert step._cache_size() == 1
