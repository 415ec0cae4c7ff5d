"""Trace and Frobenius norm: right values, and standard errors that are right."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia import curvature
from tests.curvature.problem import PROBLEMS, dense_hessian, symmetric, times

MLP = PROBLEMS["cross entropy"]
KEYS = 60
PROBES = 12
SPREAD = symmetric(np.linspace(-1.0, 3.0, 30))
LOW_RANK = symmetric(np.repeat([0.0, 2.0, 50.0], [26, 2, 2]))
DECAYING = symmetric(30.0 / np.arange(1.0, 31) ** 2)


def estimates(function, matrix, probes=PROBES, keys=KEYS, **options):
    """Means and standard errors of an estimate under many keys."""
    product = times(matrix)
    found = [
        function(product, jnp.zeros(len(matrix)), probes, key=key, **options)
        for key in jax.random.split(jax.random.key(11), keys)
    ]
    means, errors = zip(*found, strict=True)
    return np.asarray(means), np.asarray(errors)


@functools.cache
def hutchinson():
    return estimates(curvature.trace, SPREAD)


def test_hutchinson_is_unbiased():
    means, _ = hutchinson()
    error = means.std(ddof=1) / KEYS**0.5
    assert abs(means.mean() - np.trace(SPREAD)) < 3.3 * error


def test_hutchinsons_standard_error_is_the_spread_over_keys():
    means, errors = hutchinson()
    a = np.asarray(SPREAD)
    variance = 2 * (np.sum(a**2) - np.sum(np.diag(a) ** 2)) / PROBES
    # of a sample variance: sqrt(2 / n), 3.3 of them on either side
    np.testing.assert_allclose(
        means.var(ddof=1), variance, rtol=3.3 * (2 / KEYS) ** 0.5
    )
    within = 3.3 * (2 / (KEYS * (PROBES - 1))) ** 0.5
    np.testing.assert_allclose(np.mean(errors**2), variance, rtol=within)


def test_hutchinson_on_a_network():
    operator = curvature.hessian_operator(MLP.loss, MLP.params, MLP.batch)
    found = curvature.trace(operator, MLP.params, 60, key=jax.random.key(3))
    assert found.mean.shape == found.standard_error.shape == ()
    a = dense_hessian(MLP)
    assert abs(found.mean - np.trace(a)) < 4 * found.standard_error
    spread = (2 * (np.sum(a**2) - np.sum(np.diag(a) ** 2)) / 60) ** 0.5
    np.testing.assert_allclose(found.standard_error, spread, rtol=0.5)


@pytest.mark.parametrize("probes", [12, 13, 40])
def test_hutch_plus_plus_is_exact_for_low_rank(probes):
    means, errors = estimates(
        curvature.trace, LOW_RANK, probes, keys=3, method="hutch++"
    )
    np.testing.assert_allclose(means, 104, rtol=1e-12)
    np.testing.assert_allclose(errors, 0, atol=1e-10)


def test_hutch_plus_plus_is_better_than_hutchinson_where_few_eigenvalues_matter():
    plain, _ = estimates(curvature.trace, DECAYING, keys=20)
    better, errors = estimates(curvature.trace, DECAYING, keys=20, method="hutch++")
    exact = np.trace(DECAYING)
    assert np.sqrt(np.mean((better - exact) ** 2)) < 0.5 * np.sqrt(
        np.mean((plain - exact) ** 2)
    )
    assert abs(better.mean() - exact) < 3.3 * better.std(ddof=1) / 20**0.5
    np.testing.assert_allclose(
        np.sqrt(np.mean(errors**2)), better.std(ddof=1), rtol=0.5
    )


def test_hutch_plus_plus_on_a_network():
    operator = curvature.hessian_operator(MLP.loss, MLP.params, MLP.batch)
    found = curvature.trace(
        operator, MLP.params, 60, key=jax.random.key(3), method="hutch++"
    )
    assert abs(found.mean - np.trace(dense_hessian(MLP))) < 4 * found.standard_error


def test_hutch_plus_plus_spends_its_probes():
    for probes in (3, 13, 40):
        calls = []

        def product(v, calls=calls):
            calls.append(None)
            return SPREAD @ v

        curvature.trace(
            product, jnp.zeros(30), probes, key=jax.random.key(0), method="hutch++"
        )
        assert len(calls) == probes


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_more_probes_than_dimensions(method):
    stretch = jnp.array([1.0, 2.0, 4.0])
    found = curvature.trace(
        lambda v: stretch * v, stretch, 40, key=jax.random.key(0), method=method
    )
    np.testing.assert_allclose(found.mean, 7, rtol=1e-12)
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-12)


def test_the_frobenius_norm_and_its_standard_error():
    means, errors = estimates(curvature.frobenius_norm, SPREAD)
    exact = np.linalg.norm(SPREAD)
    np.testing.assert_allclose(means.mean(), exact, rtol=0.01)
    ratio = np.sqrt(np.mean(errors**2)) / means.std(ddof=1)
    np.testing.assert_allclose(ratio, 1, atol=3.3 * (1 / (2 * KEYS)) ** 0.5)
    squares = means**2  # which are unbiased, the root is not
    error = squares.std(ddof=1) / KEYS**0.5
    assert abs(squares.mean() - exact**2) < 3.3 * error


def test_the_frobenius_norm_of_a_network():
    operator = curvature.hessian_operator(MLP.loss, MLP.params, MLP.batch)
    found = curvature.frobenius_norm(operator, MLP.params, 60, key=jax.random.key(3))
    exact = np.linalg.norm(dense_hessian(MLP))
    assert abs(found.mean - exact) < 4 * found.standard_error
    assert found.standard_error < 0.2 * exact


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_per_parameter_is_the_mean_eigenvalue(method):
    product, like = times(SPREAD), jnp.zeros(30)
    options = {"key": jax.random.key(5), "method": method}
    whole = curvature.trace(product, like, PROBES, **options)
    mean = curvature.trace(product, like, PROBES, per_parameter=True, **options)
    np.testing.assert_allclose(mean.mean, whole.mean / 30, rtol=1e-12)
    np.testing.assert_allclose(
        mean.standard_error, whole.standard_error / 30, rtol=1e-10
    )


def test_per_parameter_is_the_mean_squared_eigenvalue():
    means, errors = estimates(
        curvature.frobenius_norm, SPREAD, keys=20, per_parameter=True
    )
    exact = np.mean(np.linspace(-1.0, 3.0, 30) ** 2)
    assert abs(means.mean() - exact) < 3.3 * means.std(ddof=1) / 20**0.5
    rooted, rooted_errors = estimates(curvature.frobenius_norm, SPREAD, keys=20)
    np.testing.assert_allclose(means, rooted**2 / 30, rtol=1e-12)
    # the error of a square is twice the root's, times the root
    np.testing.assert_allclose(errors, 2 * rooted * rooted_errors / 30, rtol=1e-10)


def test_the_zero_operator():
    for method in ("hutchinson", "hutch++"):
        found = curvature.trace(
            jnp.zeros_like, jnp.zeros(5), 6, key=jax.random.key(0), method=method
        )
        assert found == (0, 0)
    norm = curvature.frobenius_norm(
        jnp.zeros_like, jnp.zeros(5), 6, key=jax.random.key(0)
    )
    assert norm == (0, 0)


def test_one_probe_has_no_standard_error():
    for function in (curvature.trace, curvature.frobenius_norm):
        found = function(lambda v: v, jnp.zeros(5), 1, key=jax.random.key(0))
        assert np.isfinite(found.mean)
        assert np.isnan(found.standard_error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_probes": 0}, "num_probes must be >= 1, got 0"),
        ({"num_probes": 2, "method": "hutch++"}, "num_probes must be >= 3, got 2"),
        ({"num_probes": 2.5}, "num_probes must be a whole number, got 2.5"),
        ({"num_probes": 2, "method": "xtrace"}, "method must be one of .*'xtrace'"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        curvature.trace(lambda v: v, jnp.zeros(4), key=jax.random.key(0), **options)


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
@pytest.mark.parametrize("entries", [np.full(5, np.nan), [1.0, np.nan, 2.0, 3.0, 4.0]])
def test_nan_is_passed_on(entries, method):
    """As the docstrings say: in mean and error, wherever in the products it is."""
    stretch = jnp.asarray(entries)
    product, key = lambda v: stretch * v, jax.random.key(0)
    found = curvature.trace(product, stretch, 3, key=key, method=method)
    norm = curvature.frobenius_norm(product, stretch, 3, key=key)
    assert np.isnan(found).all()
    assert np.isnan(norm).all()


def test_one_nan_product_of_many_is_passed_on():
    calls = []

    def product(v):
        calls.append(None)
        return v * jnp.nan if len(calls) == 2 else v

    for function in (curvature.trace, curvature.frobenius_norm):
        calls.clear()
        found = function(product, jnp.zeros(5), 3, key=jax.random.key(0))
        assert np.isnan(found).all()


def test_a_loss_that_is_nan_has_a_trace_of_nan():
    operator = curvature.hessian_operator(
        lambda w, x: jnp.sqrt(-jnp.sum(w**2)) * x.mean(), jnp.ones(5), jnp.ones((2, 1))
    )
    assert np.isnan(operator(jnp.ones(5))).all()
    found = curvature.trace(operator, jnp.ones(5), 3, key=jax.random.key(0))
    assert np.isnan(found).all()
