"""Which parameters form a layer with Kronecker factors, and how they form a matrix."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.paths import path_string

MAX_DIM = 8192
"""The widest side whose factor is a matrix; wider ones keep its diagonal."""

_PROJECTIONS = {"query": 1, "key": 1, "value": 1, "out": -1}
"""Input axes of an attention projection's kernel, from the back if negative."""


class KfacFactors(NamedTuple):
    """The statistics of one layer, of a batch or averaged over batches.

    A factor with one axis is the diagonal of a matrix. With groups both have a leading
    axis of that size.

    Attributes:
      inputs: :math:`A = E[a a^T]`, shape (d_in, d_in), the mean over all rows (examples
        and positions) of the layer's input; with a bias ``a`` ends in a 1.
      outputs: :math:`G = E[g g^T]`, shape (d_out, d_out), with ``g`` the gradient of an
        example's loss with respect to the layer's output: summed over its positions,
        averaged over examples.
    """

    inputs: jax.Array
    outputs: jax.Array


@dataclasses.dataclass(frozen=True)
class KfacLayer:
    """A kernel, perhaps with a bias, that acts as one matrix.

    Attributes:
      path: the path of the module's parameters, as ``"encoder/Dense_0"``.
      num_input_axes: how many leading axes of the kernel are inputs.
      kernel: the name of the kernel.
      bias: the name of the bias, None without one.
      groups: the number of groups of a convolution.
      diagonal_inputs: whether only the diagonal of ``inputs`` is kept.
      diagonal_outputs: whether only that of ``outputs`` is.

    Example:
      A convolution of 4 channels in two groups, each of which is a matrix of its own:

      >>> import optax_ia
      >>> layer = optax_ia.KfacLayer("conv", num_input_axes=3, groups=2)
      >>> layer.factor_shapes((3, 3, 2, 8))
      ((2, 18, 18), (2, 4, 4))
    """

    path: str
    num_input_axes: int
    kernel: str = "kernel"
    bias: str | None = None
    groups: int = 1
    diagonal_inputs: bool = False
    diagonal_outputs: bool = False

    def leaf(self, name: str) -> str:
        """The path of one of the layer's parameters."""
        return f"{self.path}/{name}" if self.path else name

    @property
    def leaves(self) -> tuple[str, ...]:
        """The paths of the kernel and, if there is one, the bias."""
        names = (self.kernel,) if self.bias is None else (self.kernel, self.bias)
        return tuple(self.leaf(name) for name in names)

    def sizes(self, kernel_shape: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns of the matrix, or of one group's."""
        split = self.num_input_axes
        rows = math.prod(kernel_shape[:split]) + (self.bias is not None)
        return rows, math.prod(kernel_shape[split:]) // self.groups

    def factor_shapes(
        self, kernel_shape: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of the two factors."""
        leading = () if self.groups == 1 else (self.groups,)
        rows, columns = self.sizes(kernel_shape)
        inputs = (rows,) if self.diagonal_inputs else (rows, rows)
        outputs = (columns,) if self.diagonal_outputs else (columns, columns)
        return leading + inputs, leading + outputs

    def to_matrix(self, leaves: Mapping[str, jax.Array]) -> jax.Array:
        """The layer's leaves as (groups, rows, columns), the bias as the last row."""
        kernel = leaves[self.leaf(self.kernel)]
        inputs = math.prod(kernel.shape[: self.num_input_axes])
        matrix = kernel.reshape(inputs, self.groups, -1)
        if self.bias is not None:
            bias = leaves[self.leaf(self.bias)].reshape(1, self.groups, -1)
            matrix = jnp.concatenate([matrix, bias.astype(matrix.dtype)])
        return jnp.moveaxis(matrix, 1, 0)

    def from_matrix(
        self, matrix: jax.Array, like: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """The leaves that ``to_matrix`` made a matrix of, in their own dtypes."""
        rows = jnp.moveaxis(matrix, 0, 1)
        parts = {self.leaf(self.kernel): rows}
        if self.bias is not None:
            parts = {
                self.leaf(self.kernel): rows[:-1],
                self.leaf(self.bias): rows[-1],
            }
        return {
            path: part.reshape(like[path].shape).astype(like[path].dtype)
            for path, part in parts.items()
        }


def leaves_by_path(tree: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """The arrays of a tree by path, and the paths that are masked out."""

    def masked(node):
        return isinstance(node, optax.MaskedNode)

    arrays, hidden = {}, set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=masked):
        if masked(leaf):
            hidden.add(path_string(path))
        else:
            arrays[path_string(path)] = leaf
    return arrays, frozenset(hidden)


def _input_axes(path: str, shape: tuple[int, ...], bias: tuple[int, ...] | None) -> int:
    """How many axes of a kernel are inputs, from its bias, its name or its shape."""
    if bias and len(bias) < len(shape) and shape[-len(bias) :] == bias:
        return len(shape) - len(bias)
    split = _PROJECTIONS.get(path.rpartition("/")[2])
    if split is not None and len(shape) == 3:
        return split % len(shape)
    return len(shape) - 1


def infer_kfac_layers(params: Any, *, max_dim: int = MAX_DIM) -> tuple[KfacLayer, ...]:
    """The layers that names and shapes of parameters tell.

    A ``kernel`` with at least two axes is one. Its output axes are those of the
    ``bias`` beside it, where the kernel ends in them; else the first axis of a 3-D
    kernel under ``query``, ``key`` or ``value`` is its input, the last one of one under
    ``out`` its output; else the last axis is the output. An ``embedding`` of two axes
    is one, the diagonal of its inputs the frequencies of its rows. Where this is not
    so (grouped convolutions, ``DenseGeneral`` without bias) take the layers from
    ``optax_ia.flax.kfac_layers``.

    Args:
      params: the tree of the parameters.
      max_dim: the widest side whose factor is a matrix.

    Returns:
      One description for each layer, in the order of the tree.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import infer_kfac_layers
      >>> params = {"dense": {"kernel": jnp.zeros((4, 2)), "bias": jnp.zeros(2)}}
      >>> (layer,) = infer_kfac_layers(params)
      >>> layer.path, layer.bias, layer.factor_shapes((4, 2))
      ('dense', 'bias', ((5, 5), (2, 2)))

    References:
      Martens, Grosse, `Optimizing Neural Networks with Kronecker-factored Approximate
      Curvature <https://arxiv.org/abs/1503.05671>`_, 2015.
    """
    shapes = {path: jnp.shape(leaf) for path, leaf in leaves_by_path(params)[0].items()}
    found = []
    for path, shape in shapes.items():
        parent, _, name = path.rpartition("/")
        if name == "embedding" and len(shape) == 2:
            found.append(
                KfacLayer(
                    parent,
                    num_input_axes=1,
                    kernel=name,
                    diagonal_inputs=True,
                    diagonal_outputs=shape[1] > max_dim,
                )
            )
        if name != "kernel" or len(shape) < 2:
            continue
        bias = shapes.get(f"{parent}/bias" if parent else "bias")
        axes = _input_axes(parent, shape, bias)
        layer = KfacLayer(
            parent,
            num_input_axes=axes,
            bias="bias" if bias and shape[axes:] == bias else None,
        )
        rows, columns = layer.sizes(shape)
        found.append(
            dataclasses.replace(
                layer,
                diagonal_inputs=rows > max_dim,
                diagonal_outputs=columns > max_dim,
            )
        )
    return tuple(found)
