"""Which matrices a kernel unfolds to, and the low-rank spectra of many of them at once.

An unfolding is told by the axes of its rows. Kernels are Flax's: inputs on the last
axis but one, outputs on the last. Spectra are found group by group of similar sizes,
one matrix after the other inside a group on CPU, so that a network is one program of a
few loops.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia.explain import _spectrum
from optax_ia.explain._noise import Kept, Sides, keep_signal, noise_variance

_PROJECTIONS = {"query": 1, "key": 1, "value": 1, "out": 2}
"""Number of axes of the inputs of an attention projection's 3-D kernel, by its name."""


class Unfolding(NamedTuple):
    """One matrix of one kernel; static.

    Attributes:
      kernel: the kernel's place in the list.
      rows: its axes that are the matrix's rows.
      shape: of the matrix.
    """

    kernel: int
    rows: tuple[int, ...]
    shape: tuple[int, int]

    @property
    def shorter(self) -> int:
        """The length of the shorter side."""
        return min(self.shape)


def is_kernel(path: str, shape: tuple[int, ...]) -> bool:
    """Whether a leaf is a layer's matrix: of two axes or more, no bias and no scale."""
    name = path.rpartition("/")[2]
    return len(shape) >= 2 and 0 not in shape and name not in ("bias", "scale")


def unfoldings(path: str, shape: tuple[int, ...], kernel: int) -> list[Unfolding]:
    """The matrices of a kernel: the one of its inputs and the one of its outputs.

    Args:
      path: of the kernel, which tells attention projections.
      shape: of the kernel, at least two axes.
      kernel: its place in the list.

    Returns:
      Two matrices, or one where they would be each other's transposes.
    """
    axes = tuple(range(len(shape)))

    def matrix(rows: tuple[int, ...]) -> Unfolding:
        height = math.prod(shape[axis] for axis in rows)
        return Unfolding(kernel, rows, (height, math.prod(shape) // max(height, 1)))

    names = path.split("/")
    split = _PROJECTIONS.get(names[-2]) if len(names) > 1 else None
    if len(shape) == 3 and split is not None:
        return [matrix(axes[:split])]
    if math.prod(shape[:-2]) == 1:
        return [matrix(axes[-2:-1])]
    return [matrix(axes[-2:-1]), matrix(axes[-1:])]


def _gram(kernel: jax.Array, unfolding: Unfolding) -> jax.Array:
    """The smaller Gram matrix, without moving the kernel's axes first."""
    rest = tuple(axis for axis in range(kernel.ndim) if axis not in unfolding.rows)
    tall = unfolding.shape[0] > unfolding.shape[1]
    summed = unfolding.rows if tall else rest
    gram = jnp.tensordot(
        kernel, kernel, axes=(summed, summed), precision=jax.lax.Precision.HIGHEST
    )
    return gram.reshape(unfolding.shorter, unfolding.shorter)


def _matrix(kernel: jax.Array, unfolding: Unfolding) -> jax.Array:
    rest = tuple(axis for axis in range(kernel.ndim) if axis not in unfolding.rows)
    matrix = jnp.transpose(kernel, unfolding.rows + rest).reshape(unfolding.shape)
    return matrix.T if unfolding.shape[0] > unfolding.shape[1] else matrix


def _eigen_class(size: int) -> int:
    """The next number of four binary digits: at most an eighth is added."""
    step = 1 << max(size.bit_length() - 4, 0)
    return -(-size // step) * step


def _solve_class(size: int) -> int:
    """256, 1024, 4096...: wide, as each class is a large program."""
    bound = 256
    while bound < size:
        bound *= 4
    return bound


def _grouped(
    places: Iterable[int], chosen: Sequence[Unfolding], classes: Callable[[int], int]
) -> dict[int, list[int]]:
    """The places by class of the shorter side; the largest size of each is its key."""
    groups: dict[int, list[int]] = {}
    for place in places:
        groups.setdefault(classes(chosen[place].shorter), []).append(place)
    return {
        max(chosen[place].shorter for place in group): group
        for _, group in sorted(groups.items())
    }


def low_rank_spectra(
    kernels: Sequence[jax.Array],
    chosen: Sequence[Unfolding],
    *,
    sigma2: Any,
    method: _spectrum.Method,
) -> list[tuple[list[int], Kept]]:
    """What :func:`evbmf` keeps of every unfolding.

    Kernels are not scaled first, which would be a pass over all of them: what is above
    1e18 or below 1e-18 in float32 is lost where ``evbmf`` would still see it.

    Args:
      kernels: the kernels.
      chosen: their unfoldings.
      sigma2: the noise variance of all of them; None estimates each.
      method: where singular values come from.

    Returns:
      Stacks of some unfoldings each: their places in ``chosen``, and rank, values (with
      zeros beyond the shorter side) and variance, the first axis theirs.
    """
    wide = [k.astype(jnp.promote_types(k.dtype, jnp.float32)) for k in kernels]
    found = []
    for dtype in dict.fromkeys(kernel.dtype for kernel in wide):
        own = [i for i, one in enumerate(chosen) if wide[one.kernel].dtype == dtype]
        for size, places in _grouped(own, chosen, _solve_class).items():
            members = [chosen[i] for i in places]
            squares = _stacked_squares(wide, members, size, method)
            found.append((places, _solve(squares, members, sigma2, method)))
    return found


def _pad(x: jax.Array, size: int) -> jax.Array:
    return jnp.pad(x, [(0, size - n) for n in x.shape])


def _squares_or_nan(decompose: Callable[[jax.Array], jax.Array]) -> Any:
    """A decomposition that LAPACK is not asked for where it may not come back."""

    def squares(x: jax.Array) -> jax.Array:
        finite = jnp.isfinite(x).all()
        return jnp.where(finite, decompose(jnp.where(finite, x, 0)), jnp.nan)

    return squares


def _stacked_squares(
    kernels: Sequence[jax.Array],
    members: Sequence[Unfolding],
    size: int,
    method: _spectrum.Method,
) -> jax.Array:
    """Squared singular values, descending, shape (members, size); NaN as the matrix."""
    if method == "svd":
        each = _squares_or_nan(_spectrum.squares_of_matrix)
        matrices = [_matrix(kernels[one.kernel], one) for one in members]
        return jnp.stack([_pad(each(matrix), size) for matrix in matrices])
    stacks, order = [], []
    each = jax.vmap(_squares_or_nan(_spectrum.squares_of_gram))
    every = range(len(members))
    for own, places in _grouped(every, members, _eigen_class).items():
        grams = [_gram(kernels[members[i].kernel], members[i]) for i in places]
        squares = each(jnp.stack([_pad(gram, own) for gram in grams]))
        stacks.append(jnp.pad(squares, [(0, 0), (0, size - own)]))
        order += places
    return jnp.concatenate(stacks)[np.argsort(order)]


def _solve(
    squares: jax.Array,
    members: Sequence[Unfolding],
    sigma2: Any,
    method: _spectrum.Method,
) -> Kept:
    every = [Sides.of(one.shape) for one in members]
    sides = jax.tree.map(lambda *numbers: np.array(numbers), *every)
    rounding = _spectrum.rounding(method, squares.dtype)
    finite = jnp.isfinite(squares[:, 0])
    usable = jnp.where(finite[:, None], squares, 0)
    if sigma2 is None:
        estimate = functools.partial(noise_variance, rounding=rounding)
        noise = jax.vmap(estimate)(usable, sides)
    else:
        noise = jnp.full(len(squares), sigma2, squares.dtype)
    keep = functools.partial(keep_signal, rounding=rounding)
    kept = jax.vmap(keep)(usable, sides, noise)
    return Kept(
        rank=kept.rank,
        values=jnp.where(finite[:, None], kept.values, jnp.nan),
        sigma2=jnp.where(finite, kept.sigma2, jnp.nan),
    )
