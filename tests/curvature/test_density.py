"""Stochastic Lanczos quadrature: moments, weights, and the density's integral."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia import curvature
from tests.curvature.problem import PROBLEMS, dense_hessian, symmetric, times

MLP = PROBLEMS["cross entropy"]
SPECTRA = {
    "spread": np.linspace(-3.0, 5.0, 40),
    "condition 1e8": np.geomspace(1e-8, 1.0, 40),
    "spiked": np.concatenate([np.linspace(-0.1, 0.1, 37), [3.0, 5.0, 9.0]]),
    "projector": np.repeat([0.0, 1.0], [30, 10]),
    "shifted": np.linspace(99.0, 101.0, 40),
}
over_spectra = pytest.mark.parametrize("name", SPECTRA)
PROBES = 24


@functools.cache
def measured(name):
    a = symmetric(SPECTRA[name])
    return curvature.spectral_density(
        times(a),
        jnp.zeros(40),
        num_probes=PROBES,
        num_steps=9,
        key=jax.random.key(2),
    )


def integral(density):
    return np.trapezoid(density.density, density.grid)


@over_spectra
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_moments_are_within_their_standard_error(name, order):
    mean, error = measured(name).moment(order)
    expected = np.mean(SPECTRA[name] ** order)
    # Student's t for 23 degrees of freedom: 20 comparisons, 1e-3 in all
    assert abs(mean - expected) < 5.0 * error + 1e-12 * abs(expected)


def test_moments_of_a_network_are_within_their_standard_error():
    operator = curvature.hessian_operator(MLP.loss, MLP.params, MLP.batch)
    density = curvature.spectral_density(
        operator, MLP.params, num_probes=16, num_steps=5, key=jax.random.key(1)
    )
    values = np.linalg.eigvalsh(dense_hessian(MLP))
    for order in (1, 2, 3, 4):
        mean, error = density.moment(order)
        # Student's t for 15 degrees of freedom: 4 comparisons, 1e-3 in all
        assert abs(mean - np.mean(values**order)) < 5.3 * error


def test_each_probes_moments_are_exact_up_to_twice_the_steps():
    a = symmetric(SPECTRA["spread"])
    density = curvature.spectral_density(
        times(a), jnp.zeros(40), num_steps=9, key=jax.random.key(5)
    )
    # the same probe, to the full order
    exact = curvature.spectral_density(
        times(a), jnp.zeros(40), num_steps=40, key=jax.random.key(5)
    )
    orders = np.arange(19)[:, None]
    found, expected = (
        np.sum(np.asarray(x.weights) * np.asarray(x.nodes) ** orders, axis=1)
        for x in (density, exact)
    )
    np.testing.assert_allclose(found[:18], expected[:18], rtol=1e-9, atol=1e-9)
    assert abs(found[18] / expected[18] - 1) > 1e-6


def test_the_standard_error_is_that_of_the_probes():
    density = measured("spread")
    each = (density.weights * density.nodes**2).sum(1)
    np.testing.assert_allclose(density.moment(2)[0], each.mean(), rtol=1e-12)
    error = np.std(each, ddof=1) / PROBES**0.5
    np.testing.assert_allclose(density.moment(2)[1], error, rtol=1e-12)


@over_spectra
def test_the_density_integrates_to_one(name):
    density = measured(name)
    np.testing.assert_allclose(density.weights.sum(axis=1), 1, rtol=1e-12)
    assert density.weights.min() >= 0
    assert density.density.min() >= 0
    np.testing.assert_allclose(integral(density), 1, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, -250.0, 1e-12])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_one_eigenvalue_alone_integrates_to_one(value, dtype):
    """The nodes differ by rounding only, which must not become the width."""
    a = symmetric(np.full(40, value)).astype(dtype)
    density = curvature.spectral_density(
        times(a), jnp.zeros(40, dtype), num_steps=9, key=jax.random.key(0)
    )
    np.testing.assert_allclose(integral(density), 1, atol=1e-4)


def test_the_mass_of_a_projector_is_its_rank():
    density = measured("projector")
    upper = np.where(density.grid > 0.5, density.density, 0)
    mass = np.trapezoid(upper, density.grid)
    _, error = density.moment(1)
    np.testing.assert_allclose(mass, 0.25, atol=4 * error)


def test_the_width_is_stated_and_the_grid_reaches_past_it():
    density = measured("spread")
    low, high = density.nodes.min(), density.nodes.max()
    assert 1e-4 * (high - low) <= density.sigma <= 1e-2 * (high - low)
    np.testing.assert_allclose(
        [density.grid[0], density.grid[-1]],
        [low - 5 * density.sigma, high + 5 * density.sigma],
    )
    assert density.grid.shape == density.density.shape == (1024,)
    assert density.nodes.shape == density.weights.shape == (PROBES, 9)


@pytest.mark.parametrize("sigma", [0.05, 2.0])
def test_a_given_width_smooths_the_nodes(sigma):
    stretch = jnp.array([-1.0, 4.0])
    density = curvature.spectral_density(
        lambda v: stretch * v,
        stretch,
        num_steps=9,
        key=jax.random.key(0),
        sigma=sigma,
        num_points=900,
    )
    assert density.nodes.shape == (1, 2)  # cut to the dimension
    grid = np.asarray(density.grid)
    peaks = [np.exp(-(((grid - s) / sigma) ** 2) / 2) for s in (-1, 4)]
    expected = sum(peaks) / (2 * sigma * (2 * np.pi) ** 0.5)
    np.testing.assert_allclose(density.density, expected, atol=1e-9)
    np.testing.assert_allclose(integral(density), 1, atol=1e-5)


def test_one_probe_has_no_standard_error():
    density = curvature.spectral_density(
        lambda v: v, jnp.zeros(2), num_steps=2, key=jax.random.key(0)
    )
    assert np.isnan(density.moment(1)[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_probes": 0}, "num_probes must be >= 1, got 0"),
        ({"num_steps": 0}, "num_steps must be >= 1, got 0"),
        ({"num_points": 1}, "num_points must be >= 2, got 1"),
        ({"sigma": 0.0}, "sigma must be > 0, got 0.0"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        curvature.spectral_density(
            lambda v: v, jnp.zeros(4), key=jax.random.key(0), **options
        )


def test_nan_is_refused():
    with pytest.raises(ValueError, match="got NaN or infinity"):
        curvature.spectral_density(
            lambda v: v * jnp.nan, jnp.zeros(40), num_steps=9, key=jax.random.key(0)
        )


def spectrum(name):
    """Eigenvalues of a diagonal operator."""
    bulk = 0.5 * np.sin(np.linspace(-np.pi / 2, np.pi / 2, 199))
    return jnp.asarray(
        {
            "bulk and outlier": np.append(bulk, 100.0),
            "equal": np.full(50, 3.0),
            "zero": np.zeros(50),
            "two values": np.repeat([0.0, 10.0], [180, 20]),
        }[name]
    )


@pytest.mark.parametrize("num_points", [2, 100, None])
@pytest.mark.parametrize("sigma", [None, 1e-6, 1e-3, 0.1, 10.0])
@pytest.mark.parametrize("name", ["bulk and outlier", "equal", "zero", "two values"])
def test_the_density_conserves_mass(name, sigma, num_points):
    """At any width, also far below the distance of two points."""
    values = spectrum(name)
    found = curvature.spectral_density(
        lambda v: values * v,
        values,
        num_steps=20,
        key=jax.random.key(0),
        sigma=sigma,
        num_points=num_points,
    )
    step = found.grid[1] - found.grid[0]
    np.testing.assert_allclose(jnp.sum(found.density) * step, 1, rtol=1e-5)
    assert (found.density >= 0).all()


def test_an_outlier_does_not_blur_the_bulk():
    """Of half-width 0.5 beside an outlier at 100: the range's hundredth is 1."""
    values = spectrum("bulk and outlier")
    found = curvature.spectral_density(
        lambda v: values * v, values, num_steps=60, num_probes=4, key=jax.random.key(0)
    )
    assert found.sigma < 0.02
    step = found.grid[1] - found.grid[0]
    assert step < found.sigma
    inside = jnp.abs(found.grid) <= 0.55
    np.testing.assert_allclose(jnp.sum(found.density[inside]) * step, 0.995, atol=0.01)
    below = jnp.cumsum(found.density) * step
    for share in (0.25, 0.5, 0.75):
        expected = np.quantile(values, share)
        quantile = found.grid[jnp.searchsorted(below, share)]
        np.testing.assert_allclose(quantile, expected, atol=0.1)
