"""Inverse roots of matrices whose small eigenvalues are rounding errors."""

import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia.second_order._inverse_root import inverse_roots


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("small", [0.0, 1e-30])
def test_eigenvalues_below_rounding_count_as_rounding(alone, dtype, small):
    """Without that floor a direction of noise is amplified without a bound."""
    values = jnp.array([4.0, small], dtype)
    floor = 4 * jnp.finfo(dtype).eps
    statistics = jnp.diag(values)[None], values[None]
    roots = inverse_roots(
        statistics,
        tuple(map(jnp.ones_like, statistics)),
        jnp.array(True),
        jnp.ones([], dtype),
        jnp.zeros([], dtype),
        power=0.5,
        relative=False,
        alone=alone,
    )
    want = np.array([0.5, floor**-0.5])
    np.testing.assert_allclose(jnp.diag(roots[0][0]), want, rtol=1e-5)
    np.testing.assert_allclose(roots[1][0], want, rtol=1e-5)
