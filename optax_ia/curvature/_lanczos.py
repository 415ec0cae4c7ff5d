"""The Lanczos iteration with full reorthogonalisation, on trees of arrays."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia._src import checks
from optax_ia._src.scalars import default_float
from optax_ia.curvature._operator import Operator, check_real


class LanczosResult(NamedTuple):
    r"""A tridiagonal matrix :math:`T = Q^T A Q` and its basis.

    Attributes:
      alpha: diagonal of T, shape (m,).
      beta: off-diagonal of T, shape (m - 1,); a zero where the iteration broke down and
        went on with a new vector.
      basis: Q, a tree like the vectors, each leaf with a leading axis of m.
      residual: the norm that the next off-diagonal would have, shape ().
      num_steps: m, at most the dimension.
      breakdowns: how often the Krylov space was exhausted.
    """

    alpha: jax.Array
    beta: jax.Array
    basis: Any
    residual: jax.Array
    num_steps: int
    breakdowns: int

    def eigh(self) -> tuple[jax.Array, jax.Array]:
        """Eigenvalues of T, ascending, and its eigenvectors as columns."""
        alpha, beta = np.asarray(self.alpha, float), np.asarray(self.beta, float)
        matrix = np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1)
        values, vectors = np.linalg.eigh(matrix)
        dtype = self.alpha.dtype
        # put rather than made an array: there is nothing to compile
        return jax.device_put((values.astype(dtype), vectors.astype(dtype)))


def vdot(a: Any, b: Any) -> jax.Array:
    """The inner product of two trees, in float32 or wider."""
    parts = jax.tree.map(
        lambda x, y: jnp.sum(_wide(x) * _wide(y), dtype=_wide(x).dtype), a, b
    )
    return functools.reduce(jnp.add, jax.tree.leaves(parts))


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def wide(tree: Any) -> Any:
    """A tree in float32 or wider."""
    return jax.tree.map(_wide, tree)


def coefficients(basis: Any, vector: Any) -> jax.Array:
    """Inner products of a vector with every row of a basis, shape (m,)."""
    parts = jax.tree.map(
        lambda q, x: q.reshape(q.shape[0], -1) @ x.astype(q.dtype).ravel(),
        basis,
        vector,
    )
    return functools.reduce(jnp.add, jax.tree.leaves(parts))


def combine(basis: Any, weights: jax.Array) -> Any:
    """The sum of a basis's rows with given weights."""
    return jax.tree.map(
        lambda q: (weights.astype(q.dtype) @ q.reshape(q.shape[0], -1)).reshape(
            q.shape[1:]
        ),
        basis,
    )


def _projected(basis: Any, vector: Any) -> Any:
    """A vector without its part in the span of a basis, up to rounding."""
    along = combine(basis, coefficients(basis, vector))
    return jax.tree.map(jnp.subtract, vector, along)


def orthogonalised(basis: Any, vector: Any) -> Any:
    """A vector without its part in the span of a basis; twice is enough."""
    return _projected(basis, _projected(basis, vector))


def random_like(key: jax.Array, tree: Any) -> Any:
    """A tree of standard normal numbers with the shapes of another."""
    leaves, treedef = jax.tree.flatten(tree)
    # one draw for all: a generator for each leaf takes seconds to compile
    sizes = [math.prod(jnp.shape(leaf)) for leaf in leaves]
    flat = jax.random.normal(key, (sum(sizes),), default_float())
    ends = list(itertools.accumulate(sizes))
    return treedef.unflatten(
        flat[end - size : end].reshape(jnp.shape(leaf)).astype(leaf.dtype)
        for size, end, leaf in zip(sizes, ends, leaves, strict=True)
    )


class Iteration(NamedTuple):
    """The state of the iteration after j of its steps.

    Attributes:
      basis: rows 0 to j are set, the others zero.
      alpha: shape (m,).
      beta: shape (m,); entry j couples rows j and j + 1.
      scale: the largest entry so far, against which a breakdown is judged.
      breakdowns: shape (), int32.
    """

    basis: Any
    alpha: jax.Array
    beta: jax.Array
    scale: jax.Array
    breakdowns: jax.Array


def begin(v0: Any, num_steps: int) -> Iteration:
    """The iteration before its first step; ``v0`` need not be a unit vector."""
    v0 = wide(v0)
    norm = jnp.sqrt(vdot(v0, v0))

    def first_row(x):
        unit = x / jnp.where(norm > 0, norm, 1).astype(x.dtype)
        return jnp.zeros((num_steps, *x.shape), x.dtype).at[0].set(unit)

    return Iteration(
        basis=jax.tree.map(first_row, v0),
        alpha=jnp.zeros(num_steps, norm.dtype),
        beta=jnp.zeros(num_steps, norm.dtype),
        scale=jnp.zeros([], norm.dtype),
        breakdowns=jnp.zeros([], jnp.int32),
    )


def row(basis: Any, j: jax.typing.ArrayLike) -> Any:
    """One vector of a basis."""
    return jax.tree.map(lambda q: jax.lax.dynamic_index_in_dim(q, j, 0, False), basis)


def advance(state: Iteration, product: Any, j: jax.Array, key: jax.Array) -> Iteration:
    """One step: takes the operator's product with row j, sets row j + 1.

    Where nothing is left of the product, the Krylov space is exhausted: the next row is
    a random vector orthogonal to all before, and T falls into blocks.
    """
    product = wide(product)
    alpha = vdot(row(state.basis, j), product)
    largest = jnp.maximum(state.scale, jnp.abs(alpha))
    # a product is known to rounding, relative to the operator's norm
    num_steps = state.alpha.shape[0]
    tiny = 10 * jnp.finfo(alpha.dtype).eps * num_steps**0.5

    def unfinished(carry):
        _, _, _, exhausted, passes = carry
        return (passes < 2) | (exhausted & (passes < 4))

    def once_more(carry):
        vector, norm, beta, exhausted, passes = carry
        vector = jax.lax.cond(
            passes == 2, lambda v: random_like(key, v), lambda v: v, vector
        )
        vector = _projected(state.basis, vector)
        norm = jnp.sqrt(vdot(vector, vector))
        # twice is enough; a random vector that replaces what is left is no product
        judged = passes == 1
        beta = jnp.where(judged, norm, beta)
        exhausted = jnp.where(
            judged, norm <= tiny * jnp.maximum(largest, norm), exhausted
        )
        return vector, norm, beta, exhausted, passes + 1

    # a loop, so that the projection is compiled once and not four times
    zero = jnp.zeros_like(alpha)
    start = (product, zero, zero, jnp.zeros([], bool), jnp.zeros([], jnp.int32))
    fresh, norm, beta, exhausted, _ = jax.lax.while_loop(unfinished, once_more, start)
    scale = jnp.maximum(largest, beta)
    following = jnp.minimum(j + 1, num_steps - 1)
    last = j + 1 >= num_steps

    def set_row(q, x):
        unit = x / jnp.where(norm > 0, norm, 1).astype(x.dtype)
        unit = jnp.where(
            last, jax.lax.dynamic_index_in_dim(q, following, 0, False), unit
        )
        return jax.lax.dynamic_update_index_in_dim(q, unit, following, 0)

    return Iteration(
        basis=jax.tree.map(set_row, state.basis, fresh),
        alpha=state.alpha.at[j].set(alpha),
        beta=state.beta.at[j].set(jnp.where(exhausted, 0, beta)),
        scale=scale,
        breakdowns=state.breakdowns + (exhausted & ~last),
    )


@functools.partial(jax.jit, donate_argnums=0)
def _step(state: Iteration, product: Any, j: jax.Array, key: jax.Array) -> Iteration:
    return advance(state, product, j, jax.random.fold_in(key, j))


@functools.partial(jax.jit, static_argnums=1)
def _begin(v0: Any, num_steps: int) -> tuple[Iteration, jax.Array]:
    return begin(v0, num_steps), jnp.sqrt(vdot(v0, v0))


@functools.partial(jax.jit, static_argnums=2)
def _row_as(basis: Any, j: jax.Array, dtypes: tuple[Any, ...]) -> Any:
    leaves, treedef = jax.tree.flatten(row(basis, j))
    return treedef.unflatten(
        leaf.astype(dtype) for leaf, dtype in zip(leaves, dtypes, strict=True)
    )


def row_as(basis: Any, j: int, like: Any) -> Any:
    """One vector of a basis, in the dtypes of a tree."""
    dtypes = tuple(jnp.result_type(leaf) for leaf in jax.tree.leaves(like))
    return _row_as(basis, jnp.asarray(j), dtypes)


drawn_like = jax.jit(random_like)
"""The same as :func:`random_like`, compiled as one program."""


def lanczos(
    operator: Callable[[Any], Any],
    v0: Any,
    num_steps: int,
    *,
    key: jax.Array | None = None,
) -> LanczosResult:
    r"""Runs the Lanczos iteration on a symmetric operator.

    .. math::
      A q_j = \beta_{j-1} q_{j-1} + \alpha_j q_j + \beta_j q_{j+1},\qquad
      Q^T Q = I,\quad q_1 = v_0 / \|v_0\|

    Each new vector is orthogonalised against all before, twice, so that T has no ghost
    eigenvalues. A loop on the host over one product and one compiled
    reorthogonalisation: compiling does not depend on the number of steps.

    Args:
      operator: a vector to its product, an :class:`Operator` or any function of trees.
      v0: the first vector, a tree of real arrays; not zero.
      num_steps: m >= 1. More steps than there are dimensions are cut to those.
      key: draws the vectors with which the iteration goes on after a breakdown, where
        the Krylov space of ``v0`` is exhausted (as with repeated eigenvalues, of which
        it holds one each); None uses a fixed one.

    Returns:
      A :class:`LanczosResult`, in float32 or wider. Its basis takes m vectors' memory.

    Raises:
      ValueError: if ``num_steps`` is no integer >= 1, ``v0`` is empty or zero, or a
        product is not finite.
      TypeError: if a leaf of ``v0`` is complex or of integers.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import curvature
      >>> stretch = jnp.arange(1.0, 101.0)
      >>> found = curvature.lanczos(lambda v: stretch * v, jnp.ones(100), 40)
      >>> print(f"{found.eigh()[0][-1]:.3f}")
      100.000

    References:
      Meurant, Strakos, The Lanczos and Conjugate Gradient Algorithms in Finite
      Precision Arithmetic, 2006; Granziol et al., Explaining the Adaptive
      Generalisation Gap, 2021, appendix C.1.
    """
    checks.check_integer("num_steps", num_steps, minimum=1)
    dimension = Operator(operator, check_real(v0)).dimension
    num_steps = min(int(num_steps), dimension)
    key = jax.random.key(0) if key is None else key
    state, start = _begin(v0, num_steps)
    norm = float(start)
    if not norm > 0 or not np.isfinite(norm):
        raise ValueError(f"v0 must be finite and not zero, got norm {norm}.")
    for j in range(num_steps):
        product = operator(row_as(state.basis, j, v0))
        state = _step(state, product, jnp.asarray(j), key)
    alpha, beta = np.asarray(state.alpha), np.asarray(state.beta)
    if not (np.isfinite(alpha).all() and np.isfinite(beta).all()):
        raise ValueError(
            "the operator's products must be finite, got NaN or infinity: is the loss?"
        )
    return LanczosResult(
        alpha=state.alpha,
        beta=jax.device_put(beta[:-1]),
        basis=state.basis,
        residual=jax.device_put(beta[-1]),
        num_steps=num_steps,
        breakdowns=int(state.breakdowns),
    )
