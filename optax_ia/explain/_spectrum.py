"""Singular values of one matrix, and what rounding leaves of the smallest.

On CPU two *batched* LAPACK calls of one program can wait for each other for ever. There
every matrix is decomposed alone, inside a loop if it stands under ``vmap``.
"""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

Method = Literal["gram", "svd"]
METHODS = get_args(Method)


def _values_of_gram(gram: jax.Array) -> jax.Array:
    # the eigenvalues alone, in ascending order; the symmetric half is not averaged
    _, values = jax.lax.linalg.eigh(gram, symmetrize_input=False)
    return values


def _eigh(gram: jax.Array) -> tuple[jax.Array, jax.Array]:
    vectors, values = jax.lax.linalg.eigh(gram, symmetrize_input=False)
    return vectors, values


def _values_of_matrix(matrix: jax.Array) -> jax.Array:
    return jnp.asarray(jax.lax.linalg.svd(matrix, compute_uv=False))


def _svd(matrix: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    u, values, vt = jax.lax.linalg.svd(matrix, full_matrices=False)
    return u, values, vt


def _one_by_one_on_cpu(decompose: Any) -> Any:
    alone = jax.custom_batching.sequential_vmap(decompose)
    return lambda x: jax.lax.platform_dependent(x, cpu=alone, default=decompose)


_values_of_gram_placed = _one_by_one_on_cpu(_values_of_gram)
_values_of_matrix_placed = _one_by_one_on_cpu(_values_of_matrix)
_eigh_placed = _one_by_one_on_cpu(_eigh)
_svd_placed = _one_by_one_on_cpu(_svd)


def rounding(method: Method, dtype: Any) -> float:
    """Squared singular values up to this part of the largest may be rounding alone.

    Of matrices of low rank without noise, up to 512 x 4608, the Gram matrix's
    eigenvalues came out up to 4 epsilon of the largest instead of zero, an SVD's
    singular values up to 8.
    """
    eps = float(jnp.finfo(dtype).eps)
    return 8 * eps if method == "gram" else (16 * eps) ** 2


def squares_of_gram(gram: jax.Array) -> jax.Array:
    """The squared singular values, descending, from a Gram matrix, shape (n, n)."""
    return jnp.maximum(_values_of_gram_placed(gram)[::-1], 0)


def squares_of_matrix(matrix: jax.Array) -> jax.Array:
    """The squared singular values of a matrix, descending, by an SVD."""
    return jnp.square(_values_of_matrix_placed(matrix))


def gram_of_rows(matrix: jax.Array) -> jax.Array:
    """``matrix @ matrix.T`` in the full precision of its dtype."""
    return jnp.matmul(matrix, matrix.T, precision=jax.lax.Precision.HIGHEST)


def factors(
    matrix: jax.Array, method: Method
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Singular vectors and squared values of a matrix of no more rows than columns.

    Args:
      matrix: shape (n, m), n <= m.
      method: where they come from.

    Returns:
      Left vectors (n, n), squared values (n,) descending, right vectors (m, n). From
      the Gram matrix a right vector is as exact as its value is large.
    """
    if method == "svd":
        u, values, vt = _svd_placed(matrix)
        return u, jnp.square(values), vt.T
    vectors, values = _eigh_placed(gram_of_rows(matrix))
    u, squares = vectors[:, ::-1], jnp.maximum(values[::-1], 0)
    v = jnp.matmul(matrix.T, u, precision=jax.lax.Precision.HIGHEST)
    lengths = jnp.sqrt(squares)
    return u, squares, v / jnp.where(lengths > 0, lengths, 1)[None]


def power_of_two(largest: jax.Array) -> jax.Array:
    """Powers of two within a factor of two of numbers >= 0; 1 for 0 and NaN.

    Dividing a matrix by that of its largest entry is exact, and squares of the rest
    neither overflow nor vanish.
    """
    usable = jnp.isfinite(largest) & (largest > 0)
    _, exponent = jnp.frexp(jnp.where(usable, largest, 1))
    # the power itself must be a normal number, and so must its inverse
    limits = jnp.finfo(largest.dtype)
    exponent = jnp.clip(exponent, int(limits.minexp) + 1, int(limits.maxexp) - 2)
    return jnp.ldexp(jnp.ones_like(largest), exponent)
