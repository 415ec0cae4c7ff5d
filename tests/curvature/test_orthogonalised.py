"""Orthogonality to a basis that nearly holds the vector."""

import jax.numpy as jnp
import numpy as np

from optax_ia.curvature._lanczos import orthogonalised


def test_a_vector_almost_in_the_span_becomes_orthogonal():
    """Rounding of one projection is as large as the part that remains."""
    rng = np.random.default_rng(0)
    columns, _ = np.linalg.qr(rng.normal(size=(200, 21)))
    basis = jnp.asarray(columns[:, :20].T, jnp.float32)
    inside = basis.T @ jnp.asarray(rng.normal(size=20), jnp.float32)
    vector = inside + 1e-6 * jnp.asarray(columns[:, 20], jnp.float32)
    rest = orthogonalised({"w": basis}, {"w": vector})["w"]
    assert jnp.linalg.norm(rest) > 0
    assert jnp.abs(basis @ rest).max() < 1e-5 * jnp.linalg.norm(rest)
