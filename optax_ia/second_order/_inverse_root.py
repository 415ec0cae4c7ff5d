"""Inverse roots of positive semi-definite matrices, by eigendecomposition.

On CPU two *batched* LAPACK calls of one program can wait for each other for ever. There
a matrix is decomposed alone, inside a loop: whatever else the program holds, and
whatever ``vmap`` it stands under, it makes no batched call.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optax_ia._src.rare import rarely


def _eigh_batched(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues and eigenvectors of one matrix; under ``vmap`` one batched call."""
    vectors, values = jax.lax.linalg.eigh(matrix, symmetrize_input=False)
    return values, vectors


_eigh_alone = jax.custom_batching.sequential_vmap(_eigh_batched)
"""The same, but under ``vmap`` a loop."""


def _powers(
    values: jax.Array, power: float, ridge: jax.Array, relative: bool
) -> jax.Array:
    """``(values + ridge) ** -power`` for eigenvalues that rounding made inexact.

    An eigenvalue is known no better than to the rounding of the largest: what is below
    that counts as that. All zero without a ridge counts as all one.
    """
    values = jnp.maximum(values, 0)
    largest = values.max()
    values = values + (ridge * largest if relative else ridge)
    values = jnp.maximum(values, jnp.finfo(values.dtype).eps * largest)
    return jnp.where(values > 0, values, 1) ** -power


def _inverse_root(
    matrix: jax.Array,
    previous: jax.Array,
    scale: jax.Array,
    ridge: jax.Array,
    *,
    power: float,
    relative: bool,
    eigh: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
) -> jax.Array:
    """The root of one matrix, or of a diagonal; see :func:`inverse_roots`."""
    # LAPACK need not come back from what is not finite
    usable = jnp.isfinite(matrix).all() & jnp.isfinite(scale)
    scale = scale.astype(matrix.dtype)
    ridge = ridge.astype(matrix.dtype)
    if matrix.ndim == 1:
        root = _powers(scale * matrix, power, ridge, relative)
    else:
        identity = jnp.eye(*matrix.shape, dtype=matrix.dtype)
        values, vectors = eigh(jnp.where(usable, matrix, identity))
        powers = _powers(scale * values, power, ridge, relative)
        root = jnp.matmul(
            vectors * powers[None, :], vectors.T, precision=jax.lax.Precision.HIGHEST
        )
    return jnp.where(usable & jnp.isfinite(root).all(), root, previous)


def inverse_roots(
    statistics: tuple[jax.Array, ...],
    previous: tuple[jax.Array, ...],
    due: jax.Array,
    scale: jax.Array,
    ridge: jax.Array,
    *,
    power: float,
    relative: bool,
    alone: bool,
) -> tuple[jax.Array, ...]:
    """``(scale * matrix + ridge) ** -power`` of every matrix, if it is due.

    Args:
      statistics: stacks of one length, of matrices positive semi-definite up to
        rounding, shape (N, n, n), whose lower triangles are read, or of diagonals of
        such matrices, shape (N, n).
      previous: stacks like them: what is returned if nothing is due, or, matrix by
        matrix, if the root is not finite.
      due: whether to compute anything, shape ().
      scale: multiplies the matrices, shape ().
      ridge: added to the eigenvalues, shape ().
      power: the power, positive.
      relative: whether the ridge is in units of each matrix's largest eigenvalue.
      alone: whether each matrix is decomposed by a call of its own.

    Returns:
      The roots, like ``statistics``.
    """
    root = functools.partial(
        _inverse_root,
        power=power,
        relative=relative,
        eigh=_eigh_alone if alone else _eigh_batched,
    )

    def batched(last: Any, stacks: Any, scale: jax.Array, ridge: jax.Array) -> Any:
        each = jax.vmap(root, in_axes=(0, 0, None, None))
        return tuple(
            each(*rows, scale, ridge) for rows in zip(stacks, last, strict=True)
        )

    def in_turn(last: Any, stacks: Any, scale: jax.Array, ridge: jax.Array) -> Any:
        def one(rows: Any) -> Any:
            return tuple(root(matrix, old, scale, ridge) for matrix, old in rows)

        return jax.lax.map(one, tuple(zip(stacks, last, strict=True)))

    every = in_turn if alone else batched
    return rarely(due, every, previous, statistics, scale, ridge)
