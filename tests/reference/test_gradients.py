"""Gradient centralisation against its definition for Flax kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia

SHAPES = {
    "dense": (5, 3),
    "conv": (3, 3, 4, 6),
    "conv1d": (3, 4, 2),
    "bias": (4,),
    "scale": (),
}


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
def test_centralize_subtracts_the_mean_over_all_axes_but_the_last(dtype):
    rng = np.random.default_rng(1)
    raw = {n: jnp.asarray(1 + rng.normal(size=s), dtype) for n, s in SHAPES.items()}
    tx = optax_ia.centralize()
    updates, _ = jax.jit(tx.update)(raw, tx.init(raw), raw)
    tolerance = {"float64": 1e-14, "float32": 1e-6, "bfloat16": 2e-2}
    for name, shape in SHAPES.items():
        g = np.asarray(raw[name], np.float64)
        if len(shape) > 1:
            g = g - g.mean(axis=tuple(range(len(shape) - 1)), keepdims=True)
        assert updates[name].dtype == dtype
        np.testing.assert_allclose(
            np.asarray(updates[name], np.float64),
            g,
            atol=tolerance[jnp.dtype(dtype).name],
        )


def test_output_channels_are_what_is_kept_apart():
    """Rows differ from channels: the PyTorch axes would give another answer."""
    grads = {"kernel": jnp.array([[1.0, 10.0], [3.0, 30.0]])}
    updates, _ = optax_ia.centralize().update(grads, optax_ia.centralize().init(grads))
    np.testing.assert_array_equal(updates["kernel"], [[-1.0, -10.0], [1.0, 10.0]])
