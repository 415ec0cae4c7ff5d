"""The extreme eigenpairs, their residuals, and whether they have converged."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia import curvature
from tests.curvature.problem import PROBLEMS, dense_hessian, symmetric, times

KEY = jax.random.key(0)
MLP = PROBLEMS["cross entropy"]
VALUES = np.concatenate([np.linspace(-1, 1, 34), [-9, -6, 2, 4, 7, 10]])
ORDER = {
    "magnitude": [10.0, -9.0, 7.0, -6.0, 4.0, 2.0],
    "largest": [10.0, 7.0, 4.0, 2.0],
    "smallest": [-9.0, -6.0],
}
over_ends = pytest.mark.parametrize("which", ORDER)


@functools.cache
def spiked():
    a = symmetric(VALUES)
    return a, times(a)


@over_ends
@pytest.mark.parametrize("k", [1, 2])
def test_the_wanted_end_comes_first(which, k):
    a, product = spiked()
    top = curvature.top_eigenpairs(product, jnp.zeros(40), k, key=KEY, which=which)
    np.testing.assert_allclose(top.eigenvalues, ORDER[which][:k], rtol=1e-9)
    vectors = np.asarray(top.eigenvectors)
    assert vectors.shape == (k, 40)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(k), atol=1e-10)
    left = a @ vectors.T - vectors.T * np.asarray(top.eigenvalues)[None]
    np.testing.assert_allclose(
        top.residuals, np.linalg.norm(left, axis=0), rtol=1e-6, atol=1e-14
    )
    assert top.converged.dtype == bool
    assert top.converged.shape == top.residuals.shape == (k,)
    assert bool(top.converged.all())


@over_ends
def test_all_outliers_are_found_in_order(which):
    _, product = spiked()
    expected = ORDER[which]
    top = curvature.top_eigenpairs(
        product, jnp.zeros(40), len(expected), key=KEY, which=which, tol=1e-6
    )
    np.testing.assert_allclose(top.eigenvalues, expected, rtol=1e-6)


@over_ends
def test_too_few_steps_are_said_not_to_have_converged(which):
    _, product = spiked()
    top = curvature.top_eigenpairs(
        product, jnp.zeros(40), 2, key=KEY, num_steps=5, which=which
    )
    assert not bool(top.converged.any())
    assert top.residuals.min() > 1e-3 * 10


def test_the_tolerance_is_relative_to_the_largest_eigenvalue():
    for scale in (1e-12, 1e12):
        a = symmetric(scale * VALUES)
        find = functools.partial(
            curvature.top_eigenpairs, times(a), jnp.zeros(40), 1, key=KEY
        )
        assert bool(find(num_steps=40).converged.all())
        assert not bool(find(num_steps=5).converged.any())
    _, product = spiked()
    rough = curvature.top_eigenpairs(
        product, jnp.zeros(40), 1, key=KEY, num_steps=12, tol=0.2
    )
    exact = curvature.top_eigenpairs(
        product, jnp.zeros(40), 1, key=KEY, num_steps=12, tol=1e-9
    )
    assert bool(rough.converged.all())
    assert not bool(exact.converged.any())
    np.testing.assert_array_equal(rough.residuals, exact.residuals)


@over_ends
def test_eigenpairs_of_a_network(which):
    operator = curvature.hessian_operator(MLP.loss, MLP.params, MLP.batch)
    top = curvature.top_eigenpairs(operator, MLP.params, 3, key=KEY, which=which)
    values = np.linalg.eigvalsh(dense_hessian(MLP))
    order = {
        "magnitude": np.argsort(-np.abs(values)),
        "largest": np.argsort(-values),
        "smallest": np.argsort(values),
    }
    np.testing.assert_allclose(
        top.eigenvalues, values[order[which][:3]], rtol=1e-8, atol=1e-10
    )
    assert jax.tree.structure(top.eigenvectors) == jax.tree.structure(MLP.params)
    vectors = np.concatenate(
        [np.reshape(leaf, (3, -1)) for leaf in jax.tree.leaves(top.eigenvectors)],
        axis=1,
    )
    left = dense_hessian(MLP) @ vectors.T - vectors.T * np.asarray(top.eigenvalues)
    assert np.linalg.norm(left, axis=0).max() < 1e-8
    assert bool(top.converged.all())


def test_repeated_eigenvalues_have_orthonormal_eigenvectors():
    a = symmetric(np.repeat([0.0, 5.0], [37, 3]))
    top = curvature.top_eigenpairs(times(a), jnp.zeros(40), 4, key=KEY)
    np.testing.assert_allclose(top.eigenvalues, [5, 5, 5, 0], atol=1e-10)
    vectors = np.asarray(top.eigenvectors)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(4), atol=1e-12)
    assert bool(top.converged.all())


def test_the_zero_operator_has_converged():
    top = curvature.top_eigenpairs(jnp.zeros_like, jnp.zeros(40), 2, key=KEY)
    np.testing.assert_array_equal(top.eigenvalues, 0)
    np.testing.assert_array_equal(top.residuals, 0)
    assert bool(top.converged.all())
    assert curvature.spectral_norm(jnp.zeros_like, jnp.zeros(40), key=KEY) == 0


def test_spectral_norm_is_of_either_sign():
    for sign in (1, -1):
        a = sign * spiked()[0]
        norm = curvature.spectral_norm(times(a), jnp.zeros(40), key=KEY)
        np.testing.assert_allclose(norm, 10, rtol=1e-9)


def test_one_key_gives_one_answer():
    operator = curvature.hessian_operator(MLP.loss, MLP.params, MLP.batch)
    find = functools.partial(
        curvature.top_eigenpairs, operator, MLP.params, 2, num_steps=5
    )
    first, again, other = (find(key=jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.residuals, again.residuals)
    assert not np.array_equal(first.residuals, other.residuals)


def test_a_block_has_its_own_eigenpairs():
    operator = curvature.hessian_operator(MLP.loss, MLP.params, MLP.batch)
    block = operator.block("Dense_1")
    top = curvature.top_eigenpairs(block, block.params, 1, key=KEY)
    part = dense_hessian(MLP)[-18:, -18:]
    np.testing.assert_allclose(
        top.eigenvalues[0], np.linalg.eigvalsh(part)[-1], rtol=1e-8
    )
    assert set(top.eigenvectors) == {"Dense_1/bias", "Dense_1/kernel"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be >= 1, got 0"),
        ({"k": 11}, "k must be <= 10, got 11"),
        ({"k": 1.5}, "k must be a whole number, got 1.5"),
        ({"k": 3, "num_steps": 2}, "num_steps must be >= 3, got 2"),
        ({"tol": 0.0}, "tol must be > 0, got 0.0"),
        ({"which": "LM"}, "which must be one of 'magnitude', .*, got 'LM'"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        curvature.top_eigenpairs(lambda v: v, jnp.zeros(10), key=KEY, **options)


def test_nan_is_refused():
    for find in (curvature.top_eigenpairs, curvature.spectral_norm):
        with pytest.raises(ValueError, match="got NaN or infinity"):
            find(lambda v: v * jnp.nan, jnp.zeros(40), key=KEY)
