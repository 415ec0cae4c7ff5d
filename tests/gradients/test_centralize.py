"""Gradient centralisation: invariants, and how it differs from Optax's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia


def centralize(grads):
    tx = optax_ia.centralize()
    return jax.jit(tx.update)(grads, tx.init(grads))[0]


@pytest.mark.parametrize("shape", [(5, 3), (3, 3, 4, 6), (3, 4, 2), (1, 4)])
def test_each_output_channel_has_mean_zero(shape):
    g = jax.random.normal(jax.random.key(0), shape) + 3.0
    once = centralize(g)
    means = once.mean(axis=tuple(range(len(shape) - 1)))
    np.testing.assert_allclose(means, np.zeros(shape[-1]), atol=1e-14)
    np.testing.assert_allclose(centralize(once), once, atol=1e-14)


@pytest.mark.parametrize("shape", [(), (4,), (1,)])
def test_vectors_and_scalars_pass(shape):
    g = jnp.full(shape, 2.0)
    np.testing.assert_array_equal(centralize(g), g)


def test_it_is_optax_on_the_transposed_kernel():
    g = jax.random.normal(jax.random.key(1), (5, 3))
    tx = optax.centralize()
    theirs, _ = tx.update(g.T, tx.init(g.T))
    np.testing.assert_allclose(centralize(g), theirs.T, atol=1e-14)
    assert not np.allclose(centralize(g), tx.update(g, tx.init(g))[0])


def test_bfloat16_means_are_taken_in_float32():
    """4096 entries: a sum in bfloat16 would stop at 256."""
    g = jnp.ones((4096, 2), jnp.bfloat16)
    updates = centralize(g)
    assert updates.dtype == jnp.bfloat16
    np.testing.assert_array_equal(updates.astype(jnp.float32), 0.0)


def test_an_empty_axis_gives_no_nan():
    updates = centralize({"w": jnp.zeros((0, 3)), "v": jnp.ones((2, 2))})
    assert updates["w"].shape == (0, 3)
    np.testing.assert_array_equal(updates["v"], 0.0)
