r"""The Kronecker-factored Fisher: averaged factors, their roots, and its inverse.

One layer with the matrix W, rows its inputs, has the gradient V and the factors A and G
of :class:`KfacFactors`; the Fisher of vec(W) is taken for :math:`A \otimes G`. With
the eigendecompositions :math:`A = Q_A D_A Q_A^T` and :math:`G = Q_G D_G Q_G^T`,

.. math::
  (A \otimes G + \delta I)^{-1} V
    = Q_A \big[(Q_A^T V Q_G) / (d_A d_G^T + \delta)\big] Q_G^T
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optax_ia._src.scalars import default_float, increment
from optax_ia.second_order._kfac_layers import KfacFactors, KfacLayer


class KfacBasis(NamedTuple):
    """What one factor gives to the inverse, by damping mode.

    Attributes:
      matrix: the eigenvectors ("product") or the damped inverse ("factored"), the
        shape of the factor; an empty tuple where the factor is diagonal.
      values: the eigenvalues ("product") or the damped inverse's diagonal ("factored",
        of a diagonal factor); an empty tuple where there is nothing to keep.
    """

    matrix: Any
    values: Any


# Under vmap a batched LAPACK call would stand beside others, which can hang on CPU.
_eigh = jax.custom_batching.sequential_vmap(
    lambda matrix: tuple(jax.lax.linalg.eigh(matrix, symmetrize_input=False)[::-1])
)


@jax.custom_batching.sequential_vmap
def _inverse(matrix: jax.Array) -> jax.Array:
    """The inverse of a positive definite matrix by its Cholesky factor."""
    lower = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
    root = jax.scipy.linalg.solve_triangular(
        lower, jnp.eye(matrix.shape[-1], dtype=matrix.dtype), lower=True
    )
    return root.T @ root


def _over_groups(function, *arrays):
    """Applies a function of one group's arrays to all groups in turn."""
    return jax.lax.map(lambda parts: function(*parts), arrays)


def wide(dtype: Any) -> Any:
    """The dtype of a layer's factors: at least float32."""
    return jnp.promote_types(dtype, jnp.float32)


def initial(
    layers: Mapping[str, KfacLayer],
    kernels: Mapping[str, jax.Array],
    mode: str,
    damping: jax.typing.ArrayLike,
) -> tuple[dict[str, KfacFactors], dict[str, tuple[KfacBasis, KfacBasis]]]:
    """Factors of zeros, and bases in which nothing but the damping acts.

    Args:
      layers: by path.
      kernels: the kernel of each.
      mode: ``"product"`` or ``"factored"``.
      damping: of the whole.

    Returns:
      Factors and bases by path.
    """
    dtypes = {path: wide(jnp.result_type(kernels[path])) for path in layers}
    shapes = {
        path: layer.factor_shapes(jnp.shape(kernels[path]))
        for path, layer in layers.items()
    }

    def basis(shape, dtype, diagonal, share):
        if diagonal:
            zeros = jnp.zeros(shape, dtype)
            return KfacBasis((), zeros if mode == "product" else zeros + 1 / share)
        eye = jnp.broadcast_to(jnp.eye(shape[-1], dtype=dtype), shape)
        if mode == "product":
            return KfacBasis(eye, jnp.zeros(shape[:-1], dtype))
        return KfacBasis(eye / share, ())

    # one program: operation by operation each shape would be compiled on its own
    @jax.jit
    def make(damping):
        factors, bases = {}, {}
        for path, layer in layers.items():
            inputs, outputs = shapes[path]
            dtype, share = dtypes[path], jnp.sqrt(damping).astype(dtypes[path])
            factors[path] = KfacFactors(
                jnp.zeros(inputs, dtype), jnp.zeros(outputs, dtype)
            )
            bases[path] = (
                basis(inputs, dtype, layer.diagonal_inputs, share),
                basis(outputs, dtype, layer.diagonal_outputs, share),
            )
        return factors, bases

    return make(jnp.asarray(damping, default_float()))


def averaged(
    old: dict[str, KfacFactors],
    count: jax.Array,
    batch: dict[str, KfacFactors],
    decay: jax.typing.ArrayLike,
) -> tuple[dict[str, KfacFactors], jax.Array]:
    """The factors with a batch taken in, unless one of its numbers is not finite.

    Args:
      old: the averages.
      count: how many batches were taken in.
      batch: the statistics of the batch, for some of the layers.
      decay: of the averages.

    Returns:
      The new averages and count.
    """
    if not batch:
        return old, count
    finite = jnp.all(
        jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(batch)])
    )
    plain = 1 - 1 / (count + 1).astype(default_float())
    rho = jnp.minimum(jnp.asarray(decay, plain.dtype), plain)

    def blend(mean, new):
        weight = rho.astype(mean.dtype)
        mixed = weight * mean + (1 - weight) * new.astype(mean.dtype)
        return jnp.where(finite, mixed, mean)

    taken = {path: jax.tree.map(blend, old[path], batch[path]) for path in batch}
    return {**old, **taken}, jnp.where(finite, increment(count), count)


def _product_basis(factor: jax.Array, diagonal: bool, grouped: bool) -> KfacBasis:
    if diagonal:
        return KfacBasis((), jnp.maximum(factor, 0))
    values, vectors = _over_groups(_eigh, factor) if grouped else _eigh(factor)
    return KfacBasis(vectors, jnp.maximum(values, 0))


def _factored_basis(
    factor: jax.Array, scale: jax.Array, diagonal: bool, grouped: bool
) -> KfacBasis:
    scale = scale.astype(factor.dtype)
    if diagonal:
        return KfacBasis((), 1 / (jnp.maximum(factor, 0) + scale))
    eye = jnp.eye(factor.shape[-1], dtype=factor.dtype)
    damped = factor + scale * jnp.broadcast_to(eye, factor.shape)
    return KfacBasis(
        _over_groups(_inverse, damped) if grouped else _inverse(damped), ()
    )


def _dampings(
    layer: KfacLayer, factors: KfacFactors, damping: jax.Array
) -> tuple[jax.Array, jax.Array]:
    r"""The shares of the damping that the two factors take.

    :math:`\pi\sqrt\delta` and :math:`\sqrt\delta/\pi` with :math:`\pi^2` the ratio of
    the mean eigenvalues of A and G; 1 where one of them is zero.
    """

    def mean(factor, diagonal):
        if diagonal:
            return jnp.mean(factor)
        return jnp.mean(jnp.diagonal(factor, axis1=-2, axis2=-1))

    mean_in = mean(factors.inputs, layer.diagonal_inputs)
    mean_out = mean(factors.outputs, layer.diagonal_outputs)
    usable = (mean_in > 0) & (mean_out > 0)
    one = jnp.ones_like(mean_in)
    pi = jnp.sqrt(jnp.where(usable, mean_in / jnp.where(usable, mean_out, one), one))
    root = jnp.sqrt(damping.astype(pi.dtype))
    return root * pi, root / pi


def refreshed(
    layer: KfacLayer,
    factors: KfacFactors,
    old: tuple[KfacBasis, KfacBasis],
    mode: str,
    damping: jax.Array,
) -> tuple[KfacBasis, KfacBasis]:
    """The bases of both factors, each the old one where the new is not finite."""
    diagonal = layer.diagonal_inputs, layer.diagonal_outputs
    grouped = layer.groups > 1
    if mode == "product":
        new = [
            _product_basis(factor, is_diagonal, grouped)
            for factor, is_diagonal in zip(factors, diagonal, strict=True)
        ]
    else:
        shares = _dampings(layer, factors, damping)
        new = [
            _factored_basis(*parts, grouped)
            for parts in zip(factors, shares, diagonal, strict=True)
        ]

    def kept(fresh, previous):
        # Eigenvalues tell of eigenvectors, and the diagonal of an inverse, the squares
        # of its root's columns, of the whole: a matrix is not read through once more.
        telling = fresh.values
        if isinstance(telling, tuple):
            telling = jnp.diagonal(fresh.matrix, axis1=-2, axis2=-1)
        finite = jnp.all(jnp.isfinite(telling))
        return jax.tree.map(lambda f, p: jnp.where(finite, f, p), fresh, previous)

    return kept(new[0], old[0]), kept(new[1], old[1])


def _rotated(matrix: jax.Array, basis: KfacBasis, side: str) -> jax.Array:
    """A matrix, shape (groups, rows, columns), in a factor's basis on one side."""
    if isinstance(basis.matrix, tuple):
        return matrix
    vectors = basis.matrix.reshape(-1, *basis.matrix.shape[-2:])
    equation = {
        "to rows": "gij,gik->gjk",
        "from rows": "gij,gjk->gik",
        "to columns": "gij,gjk->gik",
        "from columns": "gij,gkj->gik",
    }[side]
    if side.endswith("rows"):
        return jnp.einsum(equation, vectors, matrix)
    return jnp.einsum(equation, matrix, vectors)


def preconditioned(
    gradient: jax.Array,
    bases: tuple[KfacBasis, KfacBasis],
    mode: str,
    damping: jax.Array,
) -> jax.Array:
    """The damped inverse of a layer's Fisher times its gradient.

    Args:
      gradient: shape (groups, rows, columns), in the dtype of the bases.
      bases: those of the inputs and of the outputs.
      mode: ``"product"`` or ``"factored"``.
      damping: for ``"product"``.

    Returns:
      An array like ``gradient``.
    """
    inputs, outputs = bases
    if mode == "factored":

        def apply(matrix, basis, side, axis):
            if isinstance(basis.matrix, tuple):
                values = basis.values.reshape(-1, basis.values.shape[-1])
                return matrix * jnp.expand_dims(values, axis)
            return _rotated(matrix, basis, side)

        return apply(apply(gradient, inputs, "from rows", 2), outputs, "to columns", 1)
    inside = _rotated(_rotated(gradient, inputs, "to rows"), outputs, "to columns")
    rows = inputs.values.reshape(-1, inputs.values.shape[-1], 1)
    columns = outputs.values.reshape(-1, 1, outputs.values.shape[-1])
    inside = inside / (rows * columns + damping.astype(inside.dtype))
    return _rotated(_rotated(inside, inputs, "from rows"), outputs, "from columns")
