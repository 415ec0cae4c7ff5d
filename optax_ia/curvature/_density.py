"""The spectral density by stochastic Lanczos quadrature."""

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


def spectral_density(
    operator: Any,
    params: Any,
    *,
    num_probes: int = 1,
    num_steps: int = 100,
    key: jax.Array,
    sigma: float | None = None,
    num_points: int = 1024,
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
        the nodes' range.
      num_points: of the grid, which reaches five widths beyond the nodes.

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
    if sigma is None:
        # one eigenvalue alone has no range but rounding: a width in its own units
        largest = max(abs(low), abs(high))
        resolved = high - low > 1e3 * float(jnp.finfo(nodes.dtype).eps) * largest
        sigma = (high - low) / 100 if resolved else 0.01 * largest or 0.01
    grid = np.linspace(low - 5 * sigma, high + 5 * sigma, num_points)
    scaled = (grid[:, None] - nodes.astype(float).ravel()) / sigma
    kernel = np.exp(-(scaled**2) / 2) / (sigma * np.sqrt(2 * np.pi))
    density = kernel @ weights.astype(float).ravel() / num_probes
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
