"""Empirical variational Bayes matrix factorisation, by its global analytic solution."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from optax_ia._src import checks
from optax_ia.explain import _spectrum
from optax_ia.explain._noise import Sides, keep_signal, noise_variance


class LowRank(NamedTuple):
    """What :func:`evbmf` finds in a matrix; leading axes are those of the batch.

    Attributes:
      rank: number of singular values kept, shape (...), int32.
      singular_values: the shrunk ones, descending, zero beyond the rank, shape (..., k)
        with k the shorter side.
      sigma2: the noise variance, shape (...).
      u: left singular vectors, shape (..., rows, k), zero beyond the rank; None unless
        asked for.
      v: right singular vectors, shape (..., columns, k), likewise.
    """

    rank: jax.Array
    singular_values: jax.Array
    sigma2: jax.Array
    u: jax.Array | None = None
    v: jax.Array | None = None


def _factorize(matrix, sigma2, *, method: _spectrum.Method, compute_uv: bool):
    """One matrix of no more rows than columns, float32 or wider."""
    largest = jnp.max(jnp.abs(matrix))
    finite, unit = jnp.isfinite(largest), _spectrum.power_of_two(largest)
    usable = jnp.where(finite, matrix, 0) / unit  # LAPACK may not come back from NaN
    u = v = None
    if compute_uv:
        u, squares, v = _spectrum.factors(usable, method)
    elif method == "gram":
        squares = _spectrum.squares_of_gram(_spectrum.gram_of_rows(usable))
    else:
        squares = _spectrum.squares_of_matrix(usable)
    sides = Sides.of(matrix.shape)
    rounding = _spectrum.rounding(method, matrix.dtype)
    if sigma2 is None:
        noise = noise_variance(squares, sides, rounding)
    else:
        noise = sigma2 / unit / unit
    kept = keep_signal(squares, sides, noise, rounding)
    if u is not None and v is not None:
        there = (kept.values > 0)[None]
        u, v = jnp.where(there, u, 0), jnp.where(there, v, 0)
    return LowRank(
        rank=jnp.where(finite, kept.rank, 0),
        singular_values=jnp.where(finite, kept.values * unit, jnp.nan),
        sigma2=jnp.where(finite, kept.sigma2 * unit * unit, jnp.nan),
        u=u,
        v=v,
    )


def _empty(batch: tuple[int, ...], sides: tuple[int, int], dtype, compute_uv: bool):
    return LowRank(
        rank=jnp.zeros(batch, jnp.int32),
        singular_values=jnp.zeros((*batch, 0), dtype),
        sigma2=jnp.zeros(batch, dtype),
        u=jnp.zeros((*batch, sides[0], 0), dtype) if compute_uv else None,
        v=jnp.zeros((*batch, sides[1], 0), dtype) if compute_uv else None,
    )


@functools.partial(jax.jit, static_argnames=("compute_uv", "method"))
def _evbmf(matrix, sigma2, *, compute_uv: bool, method: _spectrum.Method) -> LowRank:
    *batch, rows, columns = matrix.shape
    flat = matrix.reshape(math.prod(batch), rows, columns)
    if rows > columns:
        flat = jnp.swapaxes(flat, 1, 2)
    if sigma2 is not None:
        sigma2 = jnp.broadcast_to(sigma2.astype(flat.dtype), tuple(batch)).ravel()
    one = functools.partial(_factorize, method=method, compute_uv=compute_uv)
    found = jax.vmap(one, in_axes=(0, None if sigma2 is None else 0))(flat, sigma2)
    if rows > columns:
        found = found._replace(u=found.v, v=found.u)
    return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), found)


def evbmf(
    matrix: jax.typing.ArrayLike,
    sigma2: jax.typing.ArrayLike | None = None,
    *,
    compute_uv: bool = False,
    method: _spectrum.Method = "gram",
) -> LowRank:
    r"""Splits a matrix into one of low rank and noise, by empirical variational Bayes.

    With L <= M the sides, :math:`\alpha=L/M` and singular values :math:`s_h`, the
    global solution keeps the values above :math:`\sqrt{M\sigma^2\bar x}`,
    :math:`\bar x=(1+\bar\tau)(1+\alpha/\bar\tau)`, :math:`\bar\tau=2.5129\sqrt\alpha`,
    and shrinks them to

    .. math::
      d_h = \frac{s_h}{2}\left(1-\frac{(L+M)\sigma^2}{s_h^2}
        + \sqrt{\Bigl(1-\frac{(L+M)\sigma^2}{s_h^2}\Bigr)^2
        - \frac{4LM\sigma^4}{s_h^4}}\right).

    The noise variance :math:`\sigma^2` is the one of least free energy between
    :math:`\max(s_e^2/(M\bar x),\ \mathrm{mean}(s_{\ge e}^2)/M)`,
    :math:`e=\lceil L/(1+\alpha)\rceil-1` counted from 0, and
    :math:`\sum_h s_h^2/(LM)`. It has several local minima: a grid finds the best ones,
    and the zero of the derivative refines them.

    Args:
      matrix: shape (..., rows, columns), of any sides: it is transposed if it is tall.
        float32 or float64; narrower types are computed in float32. All of a batch are
        decomposed one by one on CPU.
      sigma2: the noise variance if it is known, >= 0, a number or one for each matrix.
        None estimates it.
      compute_uv: whether to compute singular vectors. Static.
      method: where singular values come from. ``"gram"``: the eigenvalues of the
        smaller Gram matrix, 3 to 10 times faster. Values below 1e-3 of the largest in
        float32, 4e-8 in float64, are then lost in rounding and count as noise, and the
        others have a relative error of about epsilon times the square of largest over
        value. ``"svd"``: of the matrix, to 2e-6 and 4e-15. Static.

    Returns:
      Rank, singular values and noise variance. ``u * d @ v.T`` is the matrix of low
      rank. Zeros, noise alone, and a single row or column have rank 0; a matrix that is
      not finite has rank 0 and NaN for the rest. Where there is no noise,
      :math:`\sigma^2` is the rounding.

    Raises:
      ValueError: if the matrix has less than two axes, is complex, or an argument is
        out of its range.

    Example:
      Rank two in noise of deviation 0.1:

      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import explain
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> left = jax.random.normal(keys[0], (40, 2))
      >>> right = jax.random.normal(keys[1], (2, 60))
      >>> noise = 0.1 * jax.random.normal(keys[2], (40, 60))
      >>> found = explain.evbmf(left @ right + noise)
      >>> print(found.rank, f"{found.sigma2:.3f}")
      2 0.010

    .. note::
      Rank is not below what rounding explains: a value that is rounding beside the
      largest is never kept, whatever ``sigma2``.

    References:
      Nakajima, Sugiyama, Babacan, Tomioka, `Global Analytic Solution of Fully-observed
      Variational Bayesian Matrix Factorization
      <https://jmlr.org/papers/v14/nakajima13a.html>`_, 2013, theorem 2 and corollary 2;
      Hosseini, Tuli, Plataniotis, `Exploiting Explainable Metrics for Augmented SGD
      <https://arxiv.org/abs/2203.16723>`_, 2022, eq. 1.
    """
    checks.check_choice("method", method, _spectrum.METHODS)
    if sigma2 is not None:
        if not isinstance(sigma2, Tracer) and np.size(sigma2):
            checks.check_number("sigma2", np.min(sigma2).item(), minimum=0)
        sigma2 = jnp.asarray(sigma2)
    matrix = jnp.asarray(matrix)
    if matrix.ndim < 2:
        raise ValueError(f"matrix must have two axes or more, got {matrix.shape}.")
    if jnp.iscomplexobj(matrix):
        raise ValueError(f"matrix must be real, got {matrix.dtype}.")
    matrix = matrix.astype(jnp.promote_types(matrix.dtype, jnp.float32))
    if not all(matrix.shape[-2:]):
        *batch, rows, columns = matrix.shape
        return _empty(tuple(batch), (rows, columns), matrix.dtype, compute_uv)
    return _evbmf(matrix, sigma2, compute_uv=compute_uv, method=method)
