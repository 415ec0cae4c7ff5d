"""P1's formulas and the laws of random matrices, against random matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.linalg import eigsh

from optax_ia import curvature


def symmetric_noise(rng, size, sigma=1.0):
    """Standard deviation sigma off the diagonal, independent up to the symmetry."""
    noise = rng.normal(size=(size, size)) * sigma
    return (noise + noise.T) / 2**0.5


def test_curvature_ratio_is_that_of_the_two_rates():
    lambda_1, lambda_p, damping = 50.0, 1e-6, 0.1
    rates = [1 / (value + damping) for value in (lambda_p, lambda_1)]
    ratio = curvature.curvature_ratio(lambda_1, lambda_p, damping)
    assert ratio == pytest.approx(1 + (lambda_1 - lambda_p) / damping, rel=1e-14)
    assert ratio == pytest.approx(rates[0] / rates[1], rel=1e-4)


def test_curvature_ratio_of_arrays_and_traced_values():
    top, low = jnp.array([1.0, 4.0]), jnp.array([0.0, 2.0])
    ratio = jax.jit(curvature.curvature_ratio)(top, low, 0.5)
    np.testing.assert_allclose(ratio, [3.0, 5.0], rtol=1e-14)


@pytest.mark.parametrize("damping", [0.0, 1e-8, 0.3, 1.0, 100.0])
def test_shrinkage_solves_equation_8(damping):
    kappa, beta = curvature.shrinkage(damping)
    values = jnp.array([0.0, 0.1, 7.0, 1e4])
    # without damping, a zero eigenvalue has no inverse on either side
    values = values[1:] if damping == 0 else values
    expected = 1 / (values + damping)
    # 1 - beta knows the damping to rounding relative to 1
    rtol = 1e-15 * (4 + 1 / (damping or 1))
    np.testing.assert_allclose(
        1 / (kappa * (beta * values + (1 - beta))), expected, rtol=rtol
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curvature.curvature_ratio(1.0, 0.0, 0.0), "damping must be > 0"),
        (lambda: curvature.shrinkage(-1.0), "damping must be >= 0"),
        (lambda: curvature.mp_edge(-1.0, 0.5), "sigma must be >= 0"),
        (lambda: curvature.mp_edge(1.0, 0.0), "ratio must be > 0"),
        (lambda: curvature.semicircle_edge(1.0, 0), "num_params must be >= 1"),
        (lambda: curvature.eigenvector_overlap(1.0, 9, 0, 1.0), "batch_size must be"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("size", "samples"), [(300, 1200), (400, 400), (600, 200)])
def test_marchenko_pastur_edges(size, samples):
    x = 0.7 * np.random.default_rng(1).normal(size=(size, samples))
    values = np.linalg.eigvalsh(x @ x.T / samples)
    lower, upper = curvature.mp_edge(0.7, size / samples)
    nonzero = values[max(size - samples, 0) :]
    # three units of the finite-size scale, of order size**(-2/3)
    assert abs(values[-1] - upper) < 3 * 2 * size ** (-2 / 3) * upper / 2
    assert abs(nonzero[0] - lower) < 3 * size ** (-2 / 3)
    assert np.sum(np.abs(values) < 1e-10) == max(size - samples, 0) or size == samples


@pytest.mark.parametrize("batch_size", [1, 4])
def test_semicircle_edges_of_a_mean_of_samples(batch_size):
    size, sigma, rng = 500, 0.3, np.random.default_rng(2)
    samples = [symmetric_noise(rng, size, sigma) for _ in range(batch_size)]
    values = np.linalg.eigvalsh(np.mean(samples, axis=0))
    lower, upper = curvature.semicircle_edge(sigma, size, batch_size)
    assert lower == -upper
    # Tracy-Widom: mean -1.2 and deviation 1.3 in units of the scale
    scale = upper / 2 * size ** (-2 / 3)
    assert abs(values[-1] - upper) < 5 * scale
    assert abs(values[0] - lower) < 5 * scale


@pytest.mark.parametrize("factor", [0.5, 1.5, 1.9, 3.0, -3.0, 10.0])
def test_overlap_of_theorem_1_in_a_simulation(factor):
    """The mean over 8 batches, each the mean of 4 samples; 1.5 and 1.9 lie between
    the threshold and the 2 sigma that P1's Lemma 6 prints."""
    size, batch_size, sigma, rng = 500, 4, 0.2, np.random.default_rng(3)
    true_value = factor * sigma * (size / batch_size) ** 0.5
    overlaps, observed = [], []
    for _ in range(8):
        direction = rng.normal(size=size)
        direction /= np.linalg.norm(direction)
        samples = [symmetric_noise(rng, size, sigma) for _ in range(batch_size)]
        batch = np.mean(samples, axis=0) + true_value * np.outer(direction, direction)
        end = "LA" if factor > 0 else "SA"
        values, vectors = eigsh(batch, k=1, which=end, v0=direction)
        overlaps.append((vectors[:, 0] @ direction) ** 2)
        observed.append(values[0])
    predicted = curvature.eigenvector_overlap(true_value, size, batch_size, sigma)
    spread = np.std(overlaps, ddof=1) / 8**0.5
    # beside the spread, corrections of order 1/size and, near the threshold, slower
    assert abs(np.mean(overlaps) - predicted) < 4 * spread + 0.01
    if abs(factor) > 1:
        from_batch = curvature.eigenvector_overlap(
            np.array(observed), size, batch_size, sigma, observed=True
        )
        assert abs(np.mean(from_batch) - predicted) < 0.05
    else:
        assert predicted == 0


def test_observed_eigenvalues_invert_the_shift():
    noise, true_values = 2.0, np.array([1.5, -3.0, 40.0])
    shifted = true_values + noise / true_values
    found = curvature.eigenvector_overlap(shifted, 2, 1, 1.0, observed=True)
    np.testing.assert_allclose(found, 1 - noise / true_values**2, rtol=1e-12)
    inside = curvature.eigenvector_overlap(
        np.array([0.0, 2.8, -2.8]), 2, 1, 1.0, observed=True
    )
    np.testing.assert_array_equal(inside, 0)


def test_a_covariance_has_another_overlap():
    """As the note says: multiplicative noise, spike l on unit noise."""
    size, samples, spike = 400, 800, 4.0
    rng, overlaps = np.random.default_rng(4), []
    for _ in range(8):
        x = rng.normal(size=(size, samples))
        x[0] *= spike**0.5
        vectors = eigsh(x @ x.T / samples, k=1, v0=np.ones(size))[1]
        overlaps.append(vectors[0, 0] ** 2)
    q, gap = size / samples, spike - 1
    noted = (1 - q / gap**2) / (1 + q / gap)
    spread = np.std(overlaps, ddof=1) / 8**0.5
    assert abs(np.mean(overlaps) - noted) < 4 * spread + 0.005
    printed = curvature.eigenvector_overlap(gap, size, samples, 1.0)
    assert abs(np.mean(overlaps) - printed) > 0.05


def test_fit_of_a_semicircle_with_outliers_and_an_offset():
    size, rng = 500, np.random.default_rng(5)
    matrix = symmetric_noise(rng, size, 0.4 / size**0.5)
    matrix += 0.25 * np.eye(size)
    for place, spike in enumerate((100.0, 5.0, 1.5, -1.2)):
        matrix[place, place] += spike
    bulk = curvature.fit_bulk(np.linalg.eigvalsh(matrix))
    assert bulk.kind == "semicircle"
    assert bulk.num_outliers == 4
    assert bulk.outlier_weight == pytest.approx(4 / size)
    assert bulk.sigma == pytest.approx(0.4, rel=0.02)
    assert bulk.centre == pytest.approx(0.25, abs=0.01)
    assert bulk.upper == pytest.approx(0.25 + 0.8, rel=0.02)
    assert bulk.distance < 0.03


@pytest.mark.parametrize("samples", [1600, 400, 200])
def test_fit_of_a_marchenko_pastur_law(samples):
    size, sigma, rng = 400, 1.5, np.random.default_rng(6)
    x = sigma * rng.normal(size=(size, samples))
    x[0] *= 6
    x[1] *= 20
    bulk = curvature.fit_bulk(
        np.linalg.eigvalsh(x @ x.T / samples), kind="marchenko-pastur"
    )
    lower, upper = curvature.mp_edge(sigma, size / samples)
    assert bulk.num_outliers == 2
    assert bulk.sigma == pytest.approx(sigma, rel=0.02)
    assert bulk.ratio == pytest.approx(size / samples, rel=0.05)
    assert bulk.upper == pytest.approx(upper, rel=0.02)
    # with more parameters than samples, the eigenvalues at zero are of the law
    assert bulk.lower == pytest.approx(lower if samples > size else 0, abs=0.05)
    assert bulk.distance < 0.03


def test_fit_of_quadrature_nodes_is_that_of_the_eigenvalues():
    size, rng = 400, np.random.default_rng(7)
    matrix = symmetric_noise(rng, size, 1 / size**0.5)
    matrix[0, 0] += 6
    product = jax.jit(lambda v: jnp.asarray(matrix) @ v)
    density = curvature.spectral_density(
        product, jnp.zeros(size), num_probes=4, num_steps=60, key=jax.random.key(0)
    )
    bulk = curvature.fit_bulk(density.nodes, density.weights, num_params=size)
    assert bulk.num_outliers == 1
    assert bulk.outlier_weight == pytest.approx(1 / size, rel=1.0)
    assert bulk.sigma == pytest.approx(1.0, rel=0.1)


def test_the_distance_tells_a_bulk_that_is_no_semicircle():
    values = np.concatenate([np.zeros(300), np.random.default_rng(8).normal(size=100)])
    assert curvature.fit_bulk(values).distance > 0.2


def test_equal_eigenvalues_have_a_bulk_of_no_width():
    bulk = curvature.fit_bulk(np.ones(5))
    assert (bulk.sigma, bulk.lower, bulk.upper, bulk.num_outliers) == (0, 1, 1, 0)
    zero = curvature.fit_bulk(np.zeros(5), kind="marchenko-pastur")
    assert (zero.sigma, zero.num_outliers) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0],), "shape"),
        (([1.0, np.nan],), "finite"),
        (([1.0, 2.0], [1.0]), "weights must have shape"),
        (([1.0, 2.0], [0.0, 0.0]), "weights must be >= 0"),
    ],
)
def test_bad_spectra(arguments, message):
    with pytest.raises(ValueError, match=message):
        curvature.fit_bulk(*arguments)


def test_an_unknown_law():
    with pytest.raises(ValueError, match="kind must be one of"):
        curvature.fit_bulk([1.0, 2.0], kind="gaussian")
