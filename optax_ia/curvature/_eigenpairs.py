"""The extreme eigenvalues of an operator, with residuals."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia._src import checks
from optax_ia.curvature._lanczos import drawn_like, lanczos, row, row_as, vdot
from optax_ia.curvature._operator import Operator, check_real


class Eigenpairs(NamedTuple):
    r"""Eigenpairs of a symmetric operator.

    Attributes:
      eigenvalues: shape (k,), the wanted end first.
      eigenvectors: unit vectors, a tree like the parameters with a leading axis of k.
      residuals: :math:`\|A v - \lambda v\|`, computed anew by k products, shape (k,).
      converged: residuals within ``tol`` of the largest eigenvalue found, shape (k,).
    """

    eigenvalues: jax.Array
    eigenvectors: Any
    residuals: jax.Array
    converged: jax.Array


def top_eigenpairs(
    operator: Any,
    params: Any,
    k: int = 1,
    *,
    key: jax.Array,
    num_steps: int | None = None,
    which: Literal["magnitude", "largest", "smallest"] = "magnitude",
    tol: float = 1e-3,
) -> Eigenpairs:
    r"""The k extreme eigenvalues and their eigenvectors, by Lanczos.

    Args:
      operator: an :class:`Operator`, or a function of trees.
      params: a tree of the vectors' shapes.
      k: how many, 1 <= k <= P.
      key: draws the first vector.
      num_steps: steps of the iteration, and products; None takes 2 k + 40. Eigenvalues
        far from the others come first.
      which: those of largest absolute value, the largest, or the smallest.
      tol: what the residuals are compared with, relative to the largest absolute
        eigenvalue.

    Returns:
      :class:`Eigenpairs`.

    Raises:
      ValueError: if an argument is out of its range, or a product is not finite.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import curvature
      >>> stretch = jnp.array([5.0, -7.0, 1.0, 0.5])
      >>> for which in ("magnitude", "largest"):
      ...     top = curvature.top_eigenpairs(
      ...         lambda v: stretch * v, stretch, 2, key=jax.random.key(0), which=which
      ...     )
      ...     print([f"{value:.2f}" for value in top.eigenvalues], top.converged.all())
      ['-7.00', '5.00'] True
      ['5.00', '1.00'] True

    References:
      Golub, Van Loan, Matrix Computations, section 10.1.
    """
    operator = Operator(operator, check_real(params))
    checks.check_integer("k", k, minimum=1)
    checks.check_number("k", k, maximum=operator.dimension)
    checks.check_choice("which", which, ("magnitude", "largest", "smallest"))
    checks.check_number("tol", tol, above=0)
    if num_steps is None:
        num_steps = 2 * k + 40
    checks.check_integer("num_steps", num_steps, minimum=k)
    found = lanczos(operator, drawn_like(key, params), num_steps, key=key)
    values, weights = (np.asarray(part) for part in found.eigh())
    order = {
        "magnitude": np.argsort(-np.abs(values), kind="stable"),
        "largest": np.argsort(-values, kind="stable"),
        "smallest": np.argsort(values, kind="stable"),
    }[which][:k]
    vectors = _combined(found.basis, weights[:, order])
    residuals = np.stack(
        [
            _residual(
                operator(row_as(vectors, index, params)),
                vectors,
                jnp.asarray(index),
                value,
            )
            for index, value in enumerate(values[order])
        ]
    )
    converged = residuals <= tol * np.abs(values).max()
    found, residuals, converged = jax.device_put((values[order], residuals, converged))
    return Eigenpairs(found, vectors, residuals, converged)


@jax.jit
def _combined(basis: Any, weights: jax.Array) -> Any:
    """The sums of a basis's rows by the columns of weights, shape (m, k)."""

    def combined(q):
        rows = weights.T.astype(q.dtype) @ q.reshape(q.shape[0], -1)
        return rows.reshape(-1, *q.shape[1:])

    return jax.tree.map(combined, basis)


@jax.jit
def _residual(value: Any, vectors: Any, index: jax.Array, scale: Any) -> jax.Array:
    """How far a product is from a multiple of the vector that it is of."""
    error = jax.tree.map(
        lambda x, v: x.astype(v.dtype) - scale * v, value, row(vectors, index)
    )
    return jnp.sqrt(vdot(error, error))


def spectral_norm(
    operator: Any, params: Any, *, key: jax.Array, num_steps: int = 40
) -> jax.Array:
    """The largest absolute eigenvalue.

    Args:
      operator: an :class:`Operator`, or a function of trees.
      params: a tree of the vectors' shapes.
      key: draws the first vector.
      num_steps: steps of the Lanczos iteration.

    Returns:
      A scalar.

    Raises:
      ValueError: if ``num_steps`` is no integer >= 1, or a product is not finite.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import curvature
      >>> flip = lambda v: -3.0 * v
      >>> norm = curvature.spectral_norm(flip, jnp.ones(5), key=jax.random.key(0))
      >>> print(f"{norm:.4f}")
      3.0000
    """
    start = drawn_like(key, check_real(params))
    found = lanczos(operator, start, num_steps, key=key)
    return jax.device_put(np.abs(np.asarray(found.eigh()[0])).max())
