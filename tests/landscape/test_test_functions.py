"""The functions of P2 eq. 20 and 21: as printed, and their minima as documented."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia import landscape

HIGHEST, LOWEST = -0.7782119590110459, -1.471368938279414
FUNCTIONS = (landscape.beale, landscape.schubert)


def printed_beale(x, y):
    return (
        (1.5 - x + x * y) ** 2
        + (2.25 - x + x * y**2) ** 2
        + (2.625 - x + x * y**3) ** 2
    )


def printed_schubert(x, y):
    sums = [sum(math.cos((j + 1) * z + j) for j in (1, 2, 3, 4, 5)) for z in (x, y)]
    return sums[0] * sums[1]


@pytest.mark.parametrize(
    ("function", "printed"),
    [(landscape.beale, printed_beale), (landscape.schubert, printed_schubert)],
)
def test_values_as_printed(function, printed):
    points = np.random.default_rng(0).uniform(-4, 4, size=(50, 2))
    expected = [printed(x, y) for x, y in points.tolist()]
    np.testing.assert_allclose(function(points), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("function", "point", "value"),
    [
        (landscape.beale, (3.0, 0.5), 0.0),
        (landscape.schubert, (HIGHEST, LOWEST), -18.095565070008413),
        (landscape.schubert, (LOWEST, HIGHEST), -18.095565070008413),
    ],
)
def test_minima(function, point, value):
    point = jnp.array(point)
    assert function(point) == pytest.approx(value, rel=1e-14, abs=1e-30)
    # to the last digits of the point: the largest curvature is below 1000
    np.testing.assert_allclose(jax.grad(function)(point), 0, atol=1e-12)
    assert np.linalg.eigvalsh(jax.hessian(function)(point)).min() > 0


@pytest.mark.parametrize(
    ("point", "value"),
    [((0.0, 1.0), 14.203125), ((0.10053794, -2.64451359), 9.864512285)],
)
def test_saddles_of_beale(point, value):
    point = jnp.array(point)
    assert landscape.beale(point) == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(jax.grad(landscape.beale)(point), 0, atol=1e-4)
    low, high = np.linalg.eigvalsh(jax.hessian(landscape.beale)(point))
    assert low < 0 < high


def test_second_valley_of_beale_falls_to_its_limit():
    infimum = 1.5**2 + 2.25**2 + 2.625**2 - (1.5 + 2 * 2.25 + 3 * 2.625) ** 2 / 14
    x = -np.geomspace(10, 1e6, 6)
    values = landscape.beale(np.stack([x, 1 - 111 / 112 / x], axis=-1))
    assert (np.diff(values) < 0).all()
    assert values[-1] == pytest.approx(infimum, rel=1e-4)
    assert infimum == pytest.approx(0.4520, abs=1e-4)


def test_no_point_of_a_fine_grid_is_lower():
    line = np.linspace(-math.pi, math.pi, 1001)
    grid = np.stack(np.meshgrid(line, line), axis=-1)
    assert landscape.beale(grid).min() > 0
    assert -18.095565070008413 < landscape.schubert(grid).min() < -18.09


def test_schubert_repeats():
    points = np.random.default_rng(1).uniform(-3, 3, size=(20, 2))
    shifted = points + 2 * math.pi * np.array([1, -2])
    np.testing.assert_allclose(
        landscape.schubert(shifted), landscape.schubert(points), atol=1e-12
    )


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 5)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
def test_shapes_and_dtypes(function, shape, dtype):
    value = jax.jit(function)(jnp.ones((*shape, 2), dtype))
    assert value.shape == shape
    assert value.dtype == dtype


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 1)])
def test_other_shapes_are_refused(function, shape):
    with pytest.raises(ValueError, match=r"x of shape \(\.\.\., 2\), got"):
        function(jnp.ones(shape))
