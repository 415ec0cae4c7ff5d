"""The spectral density by stochastic Lanczos quadrature."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia._src import checks
from optax_ia.curvature._lanczos import lanczos
from optax_ia.curvature._operator import Operator, check_real
from optax_ia.curvature._trace import probes


class SpectralDensity(NamedTuple):
    """A spectrum as a weighted set of points, and smoothed on a grid.

    Attributes:
      nodes: eigenvalues of each probe's tridiagonal matrix, shape (probes, steps).
      weights: their weights, shape (probes, steps); each row sums to 1. The mean over
        probes of ``sum(weights * f(nodes))`` estimates ``trace(f(A)) / P``.
      grid: where the density is given, shape (points,).
      density: the density there, shape (points,); it integrates to 1.
      sigma: standard deviation of the Gaussian that each node is smoothed by, shape ().
    """

    nodes: jax.Array
    weights: jax.Array
    grid: jax.Array
    density: jax.Array
    sigma: jax.Array

    def moment(self, order: int) -> tuple[jax.Array, jax.Array]:
        """``trace(A**order) / P`` and its standard error over the probes."""
        each = jnp.sum(self.weights * self.nodes**order, axis=1)
        count = each.shape[0]
        spread = jnp.std(each, ddof=1) if count > 1 else jnp.full([], jnp.nan)
        return each.mean(), spread / count**0.5


MOST_POINTS = 2**15
"""The longest grid that is chosen by itself."""


def _bulk_width(nodes: np.ndarray, mass: np.ndarray, eps: float) -> float:
    """A hundredth of the width of the bulk, the middle nine tenths of the mass.

    It is at least a 10,000th of the whole range, and where the bulk has no width, as
    for a peak at zero, a hundredth of the range.
    """
    order = np.argsort(nodes)
    below = np.cumsum(mass[order])
    low, high = nodes[order[0]], nodes[order[-1]]
    first = nodes[order[np.searchsorted(below, 0.05)]]
    last = nodes[order[min(np.searchsorted(below, 0.95), len(nodes) - 1)]]
    largest = max(abs(low), abs(high))
    if high - low <= 1e3 * eps * largest:
        # one eigenvalue alone has no range but rounding: a width in its own units
        return float(0.01 * largest) or 0.01
    if last - first <= 1e3 * eps * largest:
        return float(high - low) / 100
    return float(np.clip((last - first) / 100, (high - low) / 1e4, (high - low) / 100))


_erf = np.vectorize(math.erf, otypes=[float])


def _smoothed(
    grid: np.ndarray, nodes: np.ndarray, mass: np.ndarray, sigma: float
) -> np.ndarray:
    """The density on the grid, with all the mass at any distance of its points.

    Where the grid resolves the Gaussians their values sum to 1. Where it does not, each
    is integrated over the cells around the points by differences of its distribution
    function. Points further than nine widths away get nothing.
    """
    step = grid[1] - grid[0]
    edges = np.append(grid - step / 2, grid[-1] + step / 2)
    density = np.zeros(len(grid))
    reach = math.ceil(9 * sigma / step) + 1
    for node, weight in zip(nodes, mass, strict=True):
        centre = int(np.clip(round((node - grid[0]) / step), 0, len(grid) - 1))
        first, last = max(centre - reach, 0), min(centre + reach + 1, len(grid))
        if step <= sigma / 2:
            scaled = (grid[first:last] - node) / sigma
            values = np.exp(-(scaled**2) / 2) / (sigma * math.sqrt(2 * math.pi))
        else:
            scaled = (edges[first : last + 1] - node) / (sigma * math.sqrt(2))
            values = np.diff(_erf(scaled)) / (2 * step)
        density[first:last] += weight * values
    return density


def spectral_density(
    operator: Any,
    params: Any,
    *,
    num_probes: int = 1,
    num_steps: int = 100,
    key: jax.Array,
    sigma: float | None = None,
    num_points: int | None = None,
) -> SpectralDensity:
    r"""The density of an operator's eigenvalues, by stochastic Lanczos quadrature.

    For each Rademacher vector :math:`v` Lanczos gives T with eigenvalues
    :math:`\theta_i` and eigenvectors :math:`s_i`; then

    .. math::
      \phi(\lambda) \approx \frac1{n}\sum_{v} \sum_i s_{i1}^2\,
      \mathcal N(\lambda;\, \theta_i, \sigma^2)

    integrates to 1, and the moments of nodes and weights up to 2 m - 1 are those of
    :math:`v^T A^k v / P`.

    Args:
      operator: an :class:`Operator`, or a function of trees.
      params: a tree of the vectors' shapes.
      num_probes: n >= 1 random vectors.
      num_steps: m >= 1 steps each; cut to the dimension.
      key: draws the probes.
      sigma: the smoothing width, a standard deviation, > 0; None takes a hundredth of
        the width of the bulk (the middle nine tenths of the mass), at least a 10,000th
        and at most a hundredth of the whole range, so that outliers do not blur it.
      num_points: of the uniform grid, which reaches five widths beyond the nodes, >= 2;
        None takes two points a width, at least 1024 and at most 32,768. Each node's
        Gaussian is integrated over the points' cells: ``sum(density) * step`` is 1 for
        any width and number of points.

    Returns:
      :class:`SpectralDensity`.

    Raises:
      ValueError: if an argument is out of its range, or a product is not finite.

    Example:
      Nine tenths of this spectrum are zero and one tenth is 10:

      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import curvature
      >>> stretch = jnp.where(jnp.arange(200) < 20, 10.0, 0.0)
      >>> found = curvature.spectral_density(
      ...     lambda v: stretch * v, stretch, num_steps=10, key=jax.random.key(0)
      ... )
      >>> step = found.grid[1] - found.grid[0]
      >>> print(f"{jnp.sum(found.density * step):.3f} {found.moment(1)[0]:.3f}")
      1.000 1.000

    References:
      Ghorbani, Krishnan, Xiao, `An Investigation into Neural Net Optimization via
      Hessian Eigenvalue Density <https://arxiv.org/abs/1901.10159>`_, 2019; Ubaru,
      Chen, Saad, Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature, 2017.
    """
    operator = Operator(operator, check_real(params))
    checks.check_integer("num_probes", num_probes, minimum=1)
    checks.check_integer("num_steps", num_steps, minimum=1)
    if num_points is not None:
        checks.check_integer("num_points", num_points, minimum=2)
    if sigma is not None:
        checks.check_number("sigma", sigma, above=0)
    nodes, weights = [], []
    for probe, probe_key in probes(key, num_probes, params):
        values, vectors = lanczos(operator, probe, num_steps, key=probe_key).eigh()
        nodes.append(np.asarray(values))
        weights.append(np.asarray(vectors)[0] ** 2)
    nodes, weights = np.stack(nodes), np.stack(weights)
    low, high = float(nodes.min()), float(nodes.max())
    mass = weights.astype(float).ravel() / num_probes
    where = nodes.astype(float).ravel()
    if sigma is None:
        sigma = _bulk_width(where, mass, float(jnp.finfo(nodes.dtype).eps))
    if num_points is None:  # at least two points a width
        spacings = 2 * (high - low + 10 * sigma) / sigma
        num_points = min(max(1024, math.ceil(spacings)), MOST_POINTS)
    grid = np.linspace(low - 5 * sigma, high + 5 * sigma, num_points)
    density = _smoothed(grid, where, mass, sigma)
    dtype = nodes.dtype
    return SpectralDensity(
        *jax.device_put(
            (
                nodes,
                weights,
                grid.astype(dtype),
                density.astype(dtype),
                np.asarray(sigma, dtype),
            )
        )
    )
