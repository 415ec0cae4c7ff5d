"""The bulk of a spectrum, fitted by a law of random matrices, and its outliers."""

from typing import Any, Literal, NamedTuple

import numpy as np

from optax_ia._src import checks
from optax_ia.curvature._theory import mp_edge, semicircle_edge

# The largest eigenvalue of pure noise lies above the edge by at most this many units
# of its finite-size scale in 999 of 1000 cases (Tracy-Widom, real matrices).
_FINITE_SIZE = 3.27
# Three standard errors of mean + 2 deviations of a semicircle, from random probes, in
# units of deviation / sqrt(P * probes): its moments' variances are 2 and 1.
_SAMPLING = 3 * 6**0.5


class BulkFit(NamedTuple):
    """A spectrum split into a bulk of noise and outliers.

    Attributes:
      kind: the law.
      sigma: the semicircle's standard deviation, or that of an entry of the noise
        behind a Marchenko-Pastur law.
      centre: mean of the bulk.
      ratio: P/B of a Marchenko-Pastur law; NaN for a semicircle.
      lower: lower edge of the law.
      upper: upper edge.
      margin: how far beyond an edge an eigenvalue still belongs to the bulk, which
        at a finite size has no sharp end; with weights, also three standard errors of
        an edge known from as many probes.
      num_outliers: how many eigenvalues are outside; for several probes, the median of
        the numbers of their nodes.
      outlier_weight: their share of the spectrum.
      distance: the largest difference between the distribution functions of the bulk
        and of the law, in [0, 1]: small only where the law describes the bulk.
    """

    kind: str
    sigma: float
    centre: float
    ratio: float
    lower: float
    upper: float
    margin: float
    num_outliers: int
    outlier_weight: float
    distance: float


def _semicircle(mean: float, variance: float, size: int) -> tuple[float, ...]:
    """Sigma, ratio, edges and margin of the semicircle of these moments."""
    sigma = variance**0.5
    lower, upper = semicircle_edge(sigma)
    margin = _FINITE_SIZE * sigma * size ** (-2 / 3)
    return sigma, float("nan"), mean + lower, mean + upper, margin


def _marchenko_pastur(mean: float, variance: float, size: int) -> tuple[float, ...]:
    """The same of the Marchenko-Pastur law: mean s^2, variance P/B s^4."""
    if not (mean > 0 and variance > 0):
        return max(mean, 0.0) ** 0.5, 0.0, mean, mean, 0.0
    ratio = variance / mean**2
    lower, upper = mp_edge(mean**0.5, ratio)
    scale = mean * (1 + ratio**0.5) * (1 + ratio**-0.5) ** (1 / 3)
    margin = _FINITE_SIZE * scale * (ratio / size) ** (2 / 3)
    if ratio >= 1:
        lower = 0.0  # the share at zero belongs to the law
    return mean**0.5, ratio, lower, upper, margin


def _law(kind: str, fit: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The distribution function of a law, as values on a grid of eigenvalues."""
    sigma, ratio, lower, upper, _ = fit
    if kind == "marchenko-pastur" and ratio >= 1:
        lower = mp_edge(sigma, ratio)[0]
    centre, radius = (lower + upper) / 2, (upper - lower) / 2
    angle = (np.arange(4000) + 0.5) * np.pi / 4000  # dense at both edges
    x = centre - radius * np.cos(angle)
    mass = np.sin(angle) ** 2
    if kind == "marchenko-pastur":
        mass = mass / x
    share = 1.0 if kind == "semicircle" else min(1.0, 1 / ratio)
    return x, 1 - share + share * np.cumsum(mass) / mass.sum()


def _distance(kind: str, fit: tuple[float, ...], x: np.ndarray, w: np.ndarray) -> float:
    """The largest difference of distribution functions, halfway between nodes."""
    grid, cumulative = _law(kind, fit)
    order = np.argsort(x, kind="stable")
    x, w = x[order], w[order] / w.sum()
    # within an eigenvalue's multiplicity, split by rounding, there is no between
    apart = np.diff(x) > 1e-6 * (x[-1] - x[0])
    between = (x[1:] + x[:-1])[apart] / 2
    found = np.cumsum(w)[:-1][apart]
    return float(np.abs(found - np.interp(between, grid, cumulative)).max(initial=0))


def fit_bulk(
    eigenvalues: Any,
    weights: Any = None,
    *,
    kind: Literal["semicircle", "marchenko-pastur"] = "semicircle",
    num_params: int | None = None,
) -> BulkFit:
    r"""Fits the bulk of a spectrum and counts the outliers.

    The law takes mean and variance from the eigenvalues within its own edges; those
    outside are put away and the law fitted again, until nothing changes:

    .. math::
      \text{semicircle: } \mu \pm 2 s; \qquad
      \text{Marchenko-Pastur: } \mu (1 \pm \sqrt{r})^2,\quad r = s^2 / \mu^2

    Args:
      eigenvalues: all of them, or nodes of :func:`spectral_density`, of shape (n,) or
        (probes, n).
      weights: of the nodes, the same shape; None weighs all alike.
      kind: "semicircle" for a Hessian (additive noise), "marchenko-pastur" for
        a covariance or Gauss-Newton matrix (no negative eigenvalues).
      num_params: P, which sets the margin beyond the edges; None takes n.

    Returns:
      :class:`BulkFit`. Look at its ``distance``, and at how many count as outliers: the
      bulk of a trained network has a peak at zero and tails that neither law has, and
      the fit may shrink to the peak and call all the rest outliers.

    Raises:
      ValueError: if there are fewer than two eigenvalues, one is not finite, weights
        are negative or of another shape, or ``kind`` is unknown.

    Example:
      >>> import numpy as np
      >>> from optax_ia import curvature
      >>> noise = np.random.default_rng(0).normal(size=(400, 400))
      >>> noise = (noise + noise.T) / 800**0.5
      >>> noise[0, 0] += 4.0
      >>> noise[1, 1] -= 3.0
      >>> bulk = curvature.fit_bulk(np.linalg.eigvalsh(noise))
      >>> print(f"{bulk.sigma:.2f} {bulk.upper:.2f} {bulk.num_outliers}")
      1.00 2.00 2

    References:
      Granziol et al., Explaining the Adaptive Generalisation Gap, 2021, appendix A;
      Johnstone, On the Distribution of the Largest Eigenvalue in Principal Components
      Analysis, 2001.
    """
    checks.check_choice("kind", kind, ("semicircle", "marchenko-pastur"))
    x = np.asarray(eigenvalues, float)
    w = np.ones_like(x) if weights is None else np.asarray(weights, float)
    if w.shape != x.shape:
        raise ValueError(f"weights must have shape {x.shape}, got {w.shape}.")
    if x.ndim not in (1, 2) or x.shape[-1] < 2:
        raise ValueError(
            f"eigenvalues must have shape (n,) or (probes, n), n >= 2, got {x.shape}."
        )
    if not np.isfinite(x).all():
        raise ValueError("eigenvalues must be finite, got NaN or infinity.")
    if not ((w >= 0).all() and w.sum() > 0):
        raise ValueError("weights must be >= 0, and not all 0.")
    if num_params is not None:
        checks.check_integer("num_params", num_params, minimum=2)
    size = x.shape[-1] if num_params is None else int(num_params)
    probes = x.size // x.shape[-1]
    moments = _semicircle if kind == "semicircle" else _marchenko_pastur

    def fitted(inside):
        mean = float(np.average(x[inside], weights=w[inside]))
        variance = float(np.average((x[inside] - mean) ** 2, weights=w[inside]))
        *law, lower, upper, margin = moments(mean, variance, size)
        if weights is not None:
            margin += _SAMPLING * (upper - lower) / 4 / (size * probes) ** 0.5
        return mean, (*law, lower, upper, margin)

    inside = w > 0
    centre, fit = fitted(inside)
    while True:
        _, _, lower, upper, margin = fit
        # what has once been put away stays so: the loop ends
        kept = inside & (x >= lower - margin) & (x <= upper + margin)
        if kept.sum() in (0, inside.sum()):
            break
        inside = kept
        centre, fit = fitted(inside)
    sigma, ratio, lower, upper, margin = fit
    outside = (w > 0) & ~inside
    return BulkFit(
        kind=kind,
        sigma=sigma,
        centre=centre,
        ratio=ratio,
        lower=lower,
        upper=upper,
        margin=margin,
        num_outliers=int(np.median(outside.sum(axis=-1))),
        outlier_weight=float(w[outside].sum() / w.sum()),
        distance=_distance(kind, fit, x[inside], w[inside]) if upper > lower else 1.0,
    )
