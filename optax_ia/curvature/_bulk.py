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
        and of the law: small only where the law describes the bulk. At most 1, or
        with a spike in units of the law's part that is compared.
      spike_weight: share of the spectrum that is neither the law's nor outside, 0
        without a spike.
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
    spike_weight: float = 0.0


def _semicircle(mean: float, variance: float, size: float) -> tuple[float, ...]:
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


def _beside_spike(
    x: np.ndarray, w: np.ndarray, spike: float, size: int, probes: int | None
) -> tuple[tuple[float, ...], float]:
    """The semicircle about a spike, from what is below it, and the law's share."""
    below = np.minimum(x - spike, 0)
    second, fourth = (float(np.sum(w * below**k) / w.sum()) for k in (2, 4))
    if not second > 0:
        return _semicircle(spike, 0.0, size), 0.0
    variance = fourth / (2 * second)  # of a semicircle: s^2 and 2 s^4
    share = min(2 * second / variance, 1.0)  # these are of its lower half alone
    *law, margin = _semicircle(spike, variance, max(share * size, 1))
    if probes is not None:
        margin += 3 * (2 * variance / max(share * size * probes, 1)) ** 0.5
    return (*law, margin), share


def _distance_below(
    fit: tuple[float, ...], share: float, x: np.ndarray, w: np.ndarray
) -> float:
    """As :func:`_distance`, where the spike is not: on the lower quarter's range."""
    sigma, _, lower, upper, _ = fit
    grid, cumulative = _law("semicircle", fit)
    end = (lower + upper) / 2 - sigma  # halfway from the edge to the centre
    order = np.argsort(x, kind="stable")
    x, w = x[order], w[order] / w.sum()
    found = np.concatenate([[0.0], np.cumsum(w)])
    between = np.concatenate([[lower], (x[1:] + x[:-1]) / 2, [x[-1]]])
    known = between <= end
    wanted = share * np.interp(between, grid, cumulative)
    part = share * float(np.interp(end, grid, cumulative)) or 1.0
    return float(np.abs(found - wanted)[known].max(initial=0)) / part


def _fit_beside_spike(
    x: np.ndarray, w: np.ndarray, spike: float, size: int, probes: int | None
) -> BulkFit:
    fit, share = _beside_spike(x, w, spike, size, probes)
    sigma, ratio, lower, upper, margin = fit
    outside = (w > 0) & ((x < lower - margin) | (x > upper + margin))
    outlier_weight = float(w[outside].sum() / w.sum())
    below = _distance_below(fit, share, x.ravel(), w.ravel())
    return BulkFit(
        kind="semicircle",
        sigma=sigma,
        centre=spike,
        ratio=ratio,
        lower=lower,
        upper=upper,
        margin=margin,
        num_outliers=int(np.median(outside.sum(axis=-1))),
        outlier_weight=outlier_weight,
        distance=below if upper > lower else 1.0,
        spike_weight=max(1 - share - outlier_weight, 0.0),
    )


def fit_bulk(
    eigenvalues: Any,
    weights: Any = None,
    *,
    kind: Literal["semicircle", "marchenko-pastur"] = "semicircle",
    num_params: int | None = None,
    spike: float | None = None,
) -> BulkFit:
    r"""Fits the bulk of a spectrum and counts the outliers.

    The law takes mean and variance from the eigenvalues within its own edges; those
    outside are put away and the law fitted again, until nothing changes:

    .. math::
      \text{semicircle: } \mu \pm 2 s; \qquad
      \text{Marchenko-Pastur: } \mu (1 \pm \sqrt{r})^2,\quad r = s^2 / \mu^2

    A trained network's Hessian has most of its eigenvalues at zero (directions that the
    data do not see), and this fit then shrinks into that peak and leaves all else
    outside. With a ``spike`` at c the semicircle is about c and holds a share p of the
    eigenvalues; the spike and the outliers hold the rest. It takes

    .. math::
      s^2 = \frac{m_4}{2 m_2},\quad p = \frac{2 m_2}{s^2},\qquad
      m_k = \overline{(\lambda - c)^k\, [\lambda < c]}

    from the eigenvalues below c. A mass at c adds nothing to these moments, and
    outliers above nothing either. The assumptions are that noise spreads alike to both
    sides of c, and that what stands out stands above: an outlier below c widens the
    law, and is not found.

    Args:
      eigenvalues: all of them, or nodes of :func:`spectral_density`, of shape (n,) or
        (probes, n).
      weights: of the nodes, the same shape; None weighs all alike.
      kind: "semicircle" for a Hessian (additive noise), "marchenko-pastur" for
        a covariance or Gauss-Newton matrix (no negative eigenvalues).
      num_params: P, which sets the margin beyond the edges; None takes n.
      spike: c, where a share of the eigenvalues sits that the law does not describe, 0
        for a Hessian; None for no such place. For the semicircle alone.

    Returns:
      :class:`BulkFit`. Look at its ``distance``, and at how many count as outliers.
      With a spike, small trained perceptrons on digits gave edges within 6 % of their
      smallest eigenvalue's size, distances of 0.1 to 0.3; a convolutional one with
      batch normalisation three quarters of it and 0.5: its tails fall like a power of
      the eigenvalue, so no law with an edge describes them, and the edge is a scale.

    Raises:
      ValueError: if there are fewer than two eigenvalues, one is not finite, weights
        are negative or of another shape, ``kind`` is unknown, or a spike is given with
        a Marchenko-Pastur law or is not finite.

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

      Three quarters of this spectrum are zero:

      >>> values = np.append(np.linalg.eigvalsh(noise)[1:], np.zeros(1200))
      >>> bulk = curvature.fit_bulk(values, spike=0.0)
      >>> print(f"{bulk.sigma:.2f} {bulk.num_outliers} {bulk.spike_weight:.2f}")
      1.00 1 0.75

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
    if spike is not None:
        if kind != "semicircle":
            raise ValueError(f"a spike is for the semicircle, got kind {kind!r}.")
        if not np.isfinite(spike):
            raise ValueError(f"spike must be finite, got {spike}.")
        known = None if weights is None else probes
        return _fit_beside_spike(x, w, float(spike), size, known)
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
