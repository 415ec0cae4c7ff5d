"""The extreme eigenvalues of an operator, with residuals."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia._src import checks
from optax_ia.curvature._lanczos import combine, lanczos, random_like, vdot
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
    found = lanczos(operator, random_like(key, params), num_steps, key=key)
    values, vectors = found.eigh()
    order = {
        "magnitude": np.argsort(-np.abs(np.asarray(values)), kind="stable"),
        "largest": np.argsort(-np.asarray(values), kind="stable"),
        "smallest": np.argsort(np.asarray(values), kind="stable"),
    }[which][:k]
    pairs = [combine(found.basis, vectors[:, index]) for index in order]
    residuals = []
    for index, vector in zip(order, pairs, strict=True):
        like = jax.tree.map(lambda v, p: v.astype(p.dtype), vector, params)
        error = jax.tree.map(
            lambda value, v, scale=values[index]: value.astype(v.dtype) - scale * v,
            operator(like),
            vector,
        )
        residuals.append(jnp.sqrt(vdot(error, error)))
    residuals = jnp.stack(residuals)
    return Eigenpairs(
        eigenvalues=values[order],
        eigenvectors=jax.tree.map(lambda *rows: jnp.stack(rows), *pairs),
        residuals=residuals,
        converged=residuals <= tol * jnp.abs(values).max(),
    )


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
    start = random_like(key, check_real(params))
    found = lanczos(operator, start, num_steps, key=key)
    return jnp.abs(found.eigh()[0]).max()
