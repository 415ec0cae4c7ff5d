"""Lanczos: all eigenvalues at full order, breakdowns, bad conditions, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from optax_ia import curvature
from tests.curvature.problem import PROBLEMS, dense_hessian, symmetric, times

SPECTRA = {
    "spread": np.linspace(-3.0, 5.0, 40),
    "condition 1e8": np.geomspace(1e-8, 1.0, 40),
    "condition 1e8, both signs": np.geomspace(1e-8, 1.0, 40) * (-1.0) ** np.arange(40),
    "large": np.geomspace(1.0, 1e8, 40),
    "repeated": np.repeat([-1.0, 0.0, 2.0, 7.0], 10),
    "pairs, condition 1e8": np.repeat(np.geomspace(1e-8, 1.0, 20), 2),
    "identity": np.ones(40),
    "projector": np.repeat([0.0, 1.0], [33, 7]),
    "rank one": np.repeat([0.0, 3.0], [39, 1]),
    "zero": np.zeros(40),
    "cluster": 1.0 + 1e-9 * np.arange(40.0),
}


def start(size=40, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=size))


def rows(basis):
    """A basis as a dense matrix, one vector a row."""
    return np.asarray(jax.vmap(lambda tree: ravel_pytree(tree)[0])(basis))


@pytest.mark.parametrize("name", SPECTRA)
def test_full_order_gives_all_eigenvalues(name):
    values = np.sort(SPECTRA[name])
    a = symmetric(values)
    found = curvature.lanczos(times(a), start(), 40)
    scale = max(np.abs(values).max(), 1e-300)
    np.testing.assert_allclose(found.eigh()[0], values, atol=1e-8 * scale, rtol=0)
    basis = rows(found.basis)
    np.testing.assert_allclose(basis @ basis.T, np.eye(40), atol=1e-12)
    tridiagonal = (
        np.diag(found.alpha) + np.diag(found.beta, 1) + np.diag(found.beta, -1)
    )
    np.testing.assert_allclose(basis @ a @ basis.T, tridiagonal, atol=1e-12 * scale)


def test_full_order_gives_all_eigenvalues_of_a_network():
    problem = PROBLEMS["cross entropy"]
    operator = curvature.hessian_operator(problem.loss, problem.params, problem.batch)
    found = curvature.lanczos(operator, problem.params, operator.dimension)
    expected = np.linalg.eigvalsh(dense_hessian(problem))
    np.testing.assert_allclose(found.eigh()[0], expected, atol=1e-8, rtol=0)
    for basis, leaf in zip(
        jax.tree.leaves(found.basis), jax.tree.leaves(problem.params), strict=True
    ):
        assert basis.shape == (operator.dimension, *leaf.shape)


@pytest.mark.parametrize(("name", "distinct"), [("repeated", 4), ("projector", 2)])
def test_the_krylov_space_holds_each_repeated_eigenvalue_once(name, distinct):
    a = symmetric(SPECTRA[name])
    found = curvature.lanczos(times(a), start(), distinct)
    assert found.breakdowns == 0
    np.testing.assert_allclose(
        found.eigh()[0], np.unique(SPECTRA[name]), atol=1e-10, rtol=0
    )
    assert found.residual < 1e-10
    more = curvature.lanczos(times(a), start(), distinct + 1)
    # zero if it counts as a breakdown, else what rounding leaves
    assert (more.beta[-1] == 0) == (more.breakdowns == 1)
    assert more.beta[-1] < 1e-12


def test_a_breakdown_at_every_step_of_the_identity():
    found = curvature.lanczos(lambda v: v, start(), 9)
    assert found.breakdowns == 8
    np.testing.assert_array_equal(found.beta, 0)
    np.testing.assert_allclose(found.alpha, 1, rtol=1e-14)


def test_the_first_vector_may_be_an_eigenvector():
    stretch = jnp.arange(1.0, 41.0)
    found = curvature.lanczos(lambda v: stretch * v, jnp.eye(40)[2], 40)
    assert found.beta[0] == 0
    np.testing.assert_allclose(found.eigh()[0], stretch, atol=1e-10)


def test_the_key_draws_what_follows_a_breakdown():
    a = symmetric(SPECTRA["projector"])

    def run(seed):
        key = None if seed is None else jax.random.key(seed)
        return rows(curvature.lanczos(times(a), start(), 5, key=key).basis)

    np.testing.assert_array_equal(run(1), run(1))
    np.testing.assert_array_equal(run(None), run(None))
    np.testing.assert_array_equal(run(1)[:2], run(2)[:2])
    assert np.abs(run(1)[2:] - run(2)[2:]).max() > 1e-3


@pytest.mark.parametrize("extra", [1, 1000])
def test_more_steps_than_dimensions_are_cut(extra):
    found = curvature.lanczos(times(symmetric(np.arange(1.0, 41))), start(), 40 + extra)
    assert found.num_steps == 40
    assert found.alpha.shape == found.basis.shape[:1] == (40,)
    assert found.beta.shape == (39,)
    np.testing.assert_allclose(found.eigh()[0], np.arange(1, 41), rtol=1e-10)


def test_one_step_and_one_dimension():
    found = curvature.lanczos(lambda v: -2.0 * v, jnp.array(3.0), 4)
    assert (found.num_steps, found.breakdowns) == (1, 0)
    assert found.beta.shape == (0,)
    np.testing.assert_allclose(found.eigh()[0], [-2.0])


def test_few_steps_are_the_partial_factorisation():
    a = symmetric(SPECTRA["condition 1e8"])
    found = curvature.lanczos(times(a), start(), 9)
    q = rows(found.basis)
    t = np.diag(found.alpha) + np.diag(found.beta, 1) + np.diag(found.beta, -1)
    np.testing.assert_allclose(q[0], start() / jnp.linalg.norm(start()), rtol=1e-14)
    np.testing.assert_allclose(q @ q.T, np.eye(9), atol=1e-13)
    left = np.asarray(a) @ q.T - q.T @ t
    np.testing.assert_allclose(left[:, :-1], 0, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(left[:, -1]), found.residual, rtol=1e-6)


def test_the_size_of_the_first_vector_does_not_matter():
    a = times(symmetric(SPECTRA["spread"]))
    small, large = (curvature.lanczos(a, s * start(), 9) for s in (1e-140, 1e140))
    np.testing.assert_allclose(small.alpha, large.alpha, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_size_of_the_operator_does_not_matter(scale):
    values = scale * SPECTRA["spread"]
    found = curvature.lanczos(times(symmetric(values)), start(), 40)
    np.testing.assert_allclose(found.eigh()[0], values, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lower_precision_keeps_the_basis_orthonormal(dtype):
    a = symmetric(SPECTRA["spread"]).astype(dtype)
    found = curvature.lanczos(times(a), start().astype(dtype), 40)
    assert found.alpha.dtype == found.basis.dtype == jnp.float32
    basis = rows(found.basis)
    np.testing.assert_allclose(basis @ basis.T, np.eye(40), atol=1e-5)
    tol = 1e-5 if dtype == "float32" else 0.05
    np.testing.assert_allclose(found.eigh()[0], SPECTRA["spread"], atol=tol)


def test_a_float32_projector_breaks_down():
    a = symmetric(SPECTRA["projector"]).astype("float32")
    found = curvature.lanczos(times(a), start().astype("float32"), 40)
    assert found.breakdowns >= 1
    values = np.sort(SPECTRA["projector"])
    np.testing.assert_allclose(found.eigh()[0], values, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_products_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="must be finite, got NaN or infinity"):
        curvature.lanczos(lambda v: v * value, start(), 3)


def test_a_loss_that_is_nan_is_refused():
    operator = curvature.hessian_operator(
        lambda w, x: jnp.sqrt(-jnp.sum(w**2)) * x.mean(), start(), jnp.ones((2, 1))
    )
    with pytest.raises(ValueError, match="is the loss"):
        curvature.lanczos(operator, start(), 3)


@pytest.mark.parametrize(
    ("v0", "num_steps", "message"),
    [
        (jnp.zeros(3), 2, "v0 must be finite and not zero, got norm 0.0"),
        (jnp.array([1.0, np.nan]), 2, "v0 must be finite and not zero, got norm nan"),
        (jnp.ones(3), 0, "num_steps must be >= 1, got 0"),
        (jnp.ones(3), 1.5, "num_steps must be a whole number, got 1.5"),
        ({}, 2, "got an empty tree"),
    ],
)
def test_wrong_arguments_are_refused(v0, num_steps, message):
    with pytest.raises(ValueError, match=message):
        curvature.lanczos(lambda v: v, v0, num_steps)
