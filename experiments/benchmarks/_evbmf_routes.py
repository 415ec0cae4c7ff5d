"""The kernels whose layers are measured, and the timed ways to measure them."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from optax_ia.explain import layer_metrics
from optax_ia.explain._unfoldings import Unfolding, low_rank_spectra, unfoldings

Network = Literal["resnet18", "resnet34", "resnet50", "resnet101", "toy"]
Kernels = dict[str, np.ndarray]

_STAGES = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}


def kernel_shapes(network: Network) -> Iterator[tuple[int, ...]]:
    """The shapes of all kernels of a network for ImageNet, or of a few small ones.

    Args:
      network: its name.

    Yields:
      A shape for each convolution and for the last layer.
    """
    if network == "toy":
        yield from [(3, 3, 4, 8), (1, 1, 8, 6), (8, 10)]
        return
    bottleneck = network in ("resnet50", "resnet101")
    yield 7, 7, 3, 64
    before = 64
    for stage, blocks in enumerate(_STAGES[network]):
        width = 64 * 2**stage
        after = 4 * width if bottleneck else width
        for block in range(blocks):
            if bottleneck:
                yield 1, 1, before, width
                yield 3, 3, width, width
                yield 1, 1, width, after
            else:
                yield 3, 3, before, width
                yield 3, 3, width, width
            if block == 0 and before != after:
                yield 1, 1, before, after
            before = after
    yield before, 1000


def build(network: Network, seed: int) -> Kernels:
    """Kernels of low rank and noise, as trained ones are.

    Args:
      network: whose shapes.
      seed: of the random generator.

    Returns:
      Kernels by path, float32: an eighth of the directions stand out of the noise, by
      factors between 1 and 10 of its largest singular value.
    """
    rng = np.random.default_rng(seed)
    kernels = {}
    for number, shape in enumerate(kernel_shapes(network)):
        rows = math.prod(shape[:-1])
        rank = max(1, min(rows, shape[-1]) // 8)
        noise = rng.normal(size=(rows, shape[-1])) / math.sqrt(rows)
        left = rng.normal(size=(rows, rank)) / math.sqrt(rows)
        right = rng.normal(size=(rank, shape[-1])) / math.sqrt(shape[-1])
        edge = 1 + math.sqrt(shape[-1] / rows)
        signal = edge * left * np.geomspace(10, 1, rank) @ right
        kernel = (signal + noise).reshape(shape)
        kernels[f"{number:03d}/kernel"] = kernel.astype(np.float32)
    return kernels


class Spectrum(NamedTuple):
    """What one way finds in one unfolding.

    Attributes:
      values: the singular values kept, shrunk.
      sigma2: the noise variance.
    """

    values: np.ndarray
    sigma2: float


Way = Callable[[Any], Any]


class Route(NamedTuple):
    """A way to measure all layers.

    Attributes:
      name: its row.
      dtype: of the kernels.
      metrics: from kernels to what is logged.
      spectra: from kernels to a spectrum of each distinct unfolding.
    """

    name: str
    dtype: Any
    metrics: Way
    spectra: Callable[[Kernels], list[Spectrum]]


def distinct_unfoldings(kernels: Kernels) -> list[Unfolding]:
    """The matrices of all kernels; a matrix and its transpose are one."""
    return [
        one
        for place, (path, kernel) in enumerate(kernels.items())
        for one in unfoldings(path, kernel.shape, place)
    ]


def _spectra(kernels: Kernels, *, method: Any) -> list[Spectrum]:
    chosen = distinct_unfoldings(kernels)
    program = jax.jit(
        lambda arrays: [
            kept
            for _, kept in low_rank_spectra(arrays, chosen, sigma2=None, method=method)
        ]
    )
    arrays = [jnp.asarray(kernel) for kernel in kernels.values()]
    # which places each stack holds is known without computing anything
    places: list[list[int]] = []
    jax.eval_shape(
        lambda arrays: places.extend(
            own
            for own, _ in low_rank_spectra(arrays, chosen, sigma2=None, method=method)
        ),
        arrays,
    )
    found: dict[int, Spectrum] = {}
    for own, kept in zip(places, program(arrays), strict=True):
        for row, place in enumerate(own):
            values = np.asarray(kept.values[row], np.float64)[: int(kept.rank[row])]
            found[place] = Spectrum(values, float(kept.sigma2[row]))
    return [found[place] for place in range(len(chosen))]


def _route(name: str, dtype: Any, method: Any) -> Route:
    return Route(
        name,
        dtype,
        functools.partial(layer_metrics, method=method),
        functools.partial(_spectra, method=method),
    )


EXACT = _route("svd, float64", np.float64, "svd")
"""What the others are compared with."""

ROUTES = (
    _route("gram, float32", np.float32, "gram"),
    _route("gram, float64", np.float64, "gram"),
    _route("svd, float32", np.float32, "svd"),
)


def released_spectrum(matrix: np.ndarray) -> Spectrum:
    """A matrix as the released code treats it: a thin SVD, and a bounded search.

    Args:
      matrix: of no more rows than columns.

    Returns:
      What it keeps. SciPy's search finds one of the local minima, to 1e-5 absolutely.
    """
    rows, columns = matrix.shape
    alpha = rows / columns
    tau_bar = 2.5129 * math.sqrt(alpha)
    limit = (1 + tau_bar) * (1 + alpha / tau_bar)
    _, s, _ = np.linalg.svd(matrix, full_matrices=False)

    def energy(sigma2: float) -> float:
        x = s**2 / (columns * sigma2)
        noise, signal = x[x <= limit], x[x > limit]
        centred = signal - (1 + alpha)
        tau = 0.5 * (centred + np.sqrt(centred**2 - 4 * alpha))
        kept = signal - tau + np.log((tau + 1) / signal)
        kept += alpha * np.log(tau / alpha + 1)
        return float(np.sum(noise - np.log(noise)) + np.sum(kept))

    first = min(math.ceil(rows / (1 + alpha)) - 1, rows - 1)
    low = max(s[first] ** 2 / (columns * limit), np.mean(s[first:] ** 2) / columns)
    high = np.sum(s**2) / (rows * columns)
    found: Any = optimize.minimize_scalar(energy, bounds=(low, high), method="bounded")
    sigma2 = float(found.x)
    kept = s[s > math.sqrt(columns * sigma2 * limit)].astype(np.float64)
    middle = 1 - (rows + columns) * sigma2 / kept**2
    root = np.sqrt(np.maximum(middle**2 - 4 * rows * columns * sigma2**2 / kept**4, 0))
    return Spectrum(kept / 2 * (middle + root), sigma2)


def released(kernels: Kernels) -> list[Spectrum]:
    """Both unfoldings of every convolution and each matrix, one after the other.

    Args:
      kernels: the kernels.

    Returns:
      A spectrum for each distinct unfolding, though both of a convolution of one pixel
      are computed, as the released code does.
    """
    found = []
    for path, kernel in kernels.items():
        matrices = [np.moveaxis(kernel, -2, 0).reshape(kernel.shape[-2], -1)]
        if kernel.ndim > 2:
            matrices += [np.moveaxis(kernel, -1, 0).reshape(kernel.shape[-1], -1)]
        own = [
            released_spectrum(m if m.shape[0] <= m.shape[1] else m.T) for m in matrices
        ]
        found += own[: len(unfoldings(path, kernel.shape, 0))]
    return found
