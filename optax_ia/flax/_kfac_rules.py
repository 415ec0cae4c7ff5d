r"""The sums that make a layer's Kronecker factors, for each kind of layer.

A layer with weights in all its rows :math:`a_r` (examples, positions, uses of a shared
layer) and the gradients :math:`g_r` with respect to the outputs of those rows has

.. math::
  \text{inputs} = \sum_r a_r a_r^T,\qquad \text{outputs} = \sum_r g_r g_r^T,

with a 1 at the end of :math:`a_r` where there is a bias. The rows of a convolution are
the patches its kernel meets, in the order of the kernel's axes, so that
:math:`\sum_r a_r g_r^T` is the gradient of the kernel as a matrix, for every kind.
"""

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optax_ia.second_order._kfac_layers import KfacLayer


def _second_moments(rows: jax.Array, diagonal: bool, dtype: Any) -> jax.Array:
    """Sums of outer products of (rows, groups, width), one for each group."""
    groups, width = rows.shape[1:]
    if diagonal:
        return jnp.sum(jnp.square(rows.astype(dtype)), axis=0)
    if width == 1:
        return jnp.sum(jnp.square(rows.astype(dtype)), axis=0)[:, :, None]
    if groups == 1:
        flat = rows[:, 0]
        over_rows = (((0,), (0,)), ((), ()))
        total = lax.dot_general(flat, flat, over_rows, preferred_element_type=dtype)
        return total[None]
    # groups first: over a middle axis the batched product takes twice as long on CPU
    grouped = jnp.moveaxis(rows, 1, 0)
    return jnp.einsum("gri,grj->gij", grouped, grouped, preferred_element_type=dtype)


def _count(inputs: jax.Array, rows: int, dtype: Any) -> jax.Array:
    """The number of rows, as a number that depends on the inputs.

    Under ``vmap`` a constant would be counted once and not for each use.
    """
    probe = inputs.reshape(-1)[0]
    number = jnp.asarray(rows, dtype)
    return lax.select(probe == probe, number, number)


@dataclasses.dataclass(frozen=True)
class Rule:
    """How one layer's sums are formed.

    Attributes:
      layer: which parameters, and what kind of factors.
      kernel_shape: the shape of the kernel.
      dtype: the name of the dtype of the sums.
    """

    layer: KfacLayer
    kernel_shape: tuple[int, ...]
    dtype: str

    def replaced_diagonals(self, like: KfacLayer) -> "Rule":
        """The rule with the diagonals that another description asks for."""
        layer = dataclasses.replace(
            self.layer,
            diagonal_inputs=like.diagonal_inputs or isinstance(self, EmbedRule),
            diagonal_outputs=like.diagonal_outputs,
        )
        return dataclasses.replace(self, layer=layer)

    def input_rows(self, inputs: jax.Array) -> jax.Array:
        """The rows of the layer's matrix product, (rows, groups, width)."""
        raise NotImplementedError

    def inputs_sum(
        self, inputs: jax.Array, compute_dtype: Any
    ) -> tuple[jax.Array, jax.Array]:
        """The sum of the inputs' outer products, and the number of rows."""
        layer = self.layer
        rows = self.input_rows(inputs.astype(compute_dtype))
        total = _second_moments(rows, layer.diagonal_inputs, self.dtype)
        count = _count(inputs, len(rows), self.dtype)
        if layer.bias is not None:
            total = self._bordered(total, rows, count)
        return (total[0] if layer.groups == 1 else total), count

    def _bordered(self, total, rows, count):
        """With the row and the column of the bias, whose input is 1."""
        corner = jnp.broadcast_to(count.reshape(1, 1), (total.shape[0], 1))
        if self.layer.diagonal_inputs:
            return jnp.concatenate([total, corner], axis=-1)
        sums = jnp.sum(rows, axis=0, dtype=self.dtype)
        upper = jnp.concatenate([total, sums[:, :, None]], axis=-1)
        lower = jnp.concatenate([sums, corner], axis=-1)
        return jnp.concatenate([upper, lower[:, None, :]], axis=-2)

    def outputs_sum(self, gradients: jax.Array) -> jax.Array:
        """The sum of the outer products of the outputs' gradients."""
        layer = self.layer
        columns = layer.sizes(self.kernel_shape)[1]
        rows = gradients.reshape(-1, layer.groups, columns)
        total = _second_moments(rows, layer.diagonal_outputs, self.dtype)
        return total[0] if layer.groups == 1 else total


@dataclasses.dataclass(frozen=True)
class DenseRule(Rule):
    """A product over some axes of the inputs: Dense, DenseGeneral, projections.

    Attributes:
      axes: those axes; Flax takes them in ascending order.
    """

    axes: tuple[int, ...] = (-1,)

    def input_rows(self, inputs):
        axes = sorted(axis % inputs.ndim for axis in self.axes)
        last = range(inputs.ndim - len(axes), inputs.ndim)
        width = math.prod(inputs.shape[axis] for axis in axes)
        return jnp.moveaxis(inputs, axes, tuple(last)).reshape(-1, 1, width)


@dataclasses.dataclass(frozen=True)
class EmbedRule(Rule):
    """Rows of a table by their numbers: the inputs are one-hot, their sum diagonal."""

    def inputs_sum(self, inputs, compute_dtype):
        del compute_dtype
        frequencies = jnp.zeros(self.kernel_shape[0], self.dtype)
        if self.kernel_shape[0] == 1:  # whatever the number, it is the only row
            inputs = jnp.zeros_like(inputs)
        frequencies = frequencies.at[inputs.reshape(-1)].add(1)
        return frequencies, _count(inputs, inputs.size, self.dtype)


@dataclasses.dataclass(frozen=True)
class ConvRule(Rule):
    """A convolution over trailing axes (..., spatial, channels).

    Attributes:
      strides: of the window.
      padding: a name, or (low, high) for each spatial axis.
      input_dilation: of the inputs.
      kernel_dilation: of the kernel.
    """

    strides: tuple[int, ...] = ()
    padding: str | tuple[tuple[int, int], ...] = "SAME"
    input_dilation: tuple[int, ...] = ()
    kernel_dilation: tuple[int, ...] = ()

    def _padded(self, inputs: jax.Array, reach: tuple[int, ...]) -> jax.Array:
        """The inputs with Flax's padding and dilation."""
        padding = self.padding
        if padding in ("CIRCULAR", "REFLECT"):
            mode = "wrap" if padding == "CIRCULAR" else "reflect"
            pads = [((size - 1) // 2, size // 2) for size in reach]
            return jnp.pad(inputs, [(0, 0), *pads, (0, 0)], mode=mode)
        if padding == "CAUSAL":
            pads = [(reach[0] - 1, 0)]
        elif isinstance(padding, str):
            pads = lax.padtype_to_pads(inputs.shape[1:-1], reach, self.strides, padding)
        else:
            pads = padding
        spatial = [
            (low, high, dilation - 1)
            for (low, high), dilation in zip(pads, self.input_dilation, strict=True)
        ]
        zero = jnp.zeros([], inputs.dtype)
        return lax.pad(inputs, zero, [(0, 0, 0), *spatial, (0, 0, 0)])

    def input_rows(self, inputs):
        # Strided slices side by side: patches in the order of the kernel's axes, in up
        # to a fifth of the time of conv_general_dilated_patches on CPU.
        sizes = self.kernel_shape[:-2]
        flat = inputs.reshape(-1, *inputs.shape[-len(sizes) - 1 :])
        reach = tuple(
            (size - 1) * dilation + 1
            for size, dilation in zip(sizes, self.kernel_dilation, strict=True)
        )
        padded = self._padded(flat, reach)
        spans = [
            (whole - size) // stride * stride + 1
            for whole, size, stride in zip(
                padded.shape[1:-1], reach, self.strides, strict=True
            )
        ]
        taken = []
        for place in itertools.product(*(range(size) for size in sizes)):
            start = [i * d for i, d in zip(place, self.kernel_dilation, strict=True)]
            stop = [low + span for low, span in zip(start, spans, strict=True)]
            taken.append(
                lax.slice(
                    padded,
                    (0, *start, 0),
                    (len(padded), *stop, padded.shape[-1]),
                    (1, *self.strides, 1),
                )
            )
        groups, channels = self.layer.groups, self.kernel_shape[-2]
        if groups == 1:
            patches = jnp.concatenate(taken, axis=-1)
            return patches.reshape(-1, 1, len(taken) * channels)
        patches = jnp.stack(taken, axis=-2).reshape(-1, len(taken), groups, channels)
        patches = jnp.moveaxis(patches, 2, 1)
        return patches.reshape(-1, groups, len(taken) * channels)


def _each(value: Any, rank: int) -> tuple[int, ...]:
    """One number for each spatial axis, from one for all, several or None."""
    if value is None:
        return (1,) * rank
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _padding(value: Any, rank: int) -> str | tuple[tuple[int, int], ...]:
    """A convolution's padding as a name or a pair for each spatial axis."""
    if isinstance(value, str):
        return value
    each = (value,) * rank if isinstance(value, int) else value
    return tuple((p, p) if isinstance(p, int) else tuple(p) for p in each)


def rule_for(
    kind: str, module: Any, layer: KfacLayer, kernel: Any, dtype: Any, max_dim: int
) -> Rule | str:
    """The rule of a Flax layer, or why there is none.

    Args:
      kind: "dense", "general", "conv" or "embed".
      module: the Linen or NNX module, which have the same attributes.
      layer: its path and names.
      kernel: its kernel, an array or a shape with a dtype.
      dtype: that of its outputs.
      max_dim: the widest side whose factor is a matrix.

    Returns:
      The rule, or the reason.
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        return f"outputs of dtype {dtype}"
    shape, rank = tuple(kernel.shape), len(kernel.shape) - 2
    kwargs: dict[str, Any] = {}
    make: Any = DenseRule
    if kind == "general":
        if tuple(getattr(module, "batch_dims", getattr(module, "batch_axis", ()))):
            return "a kernel of its own for each row of batch_dims"
        axes = (module.axis,) if isinstance(module.axis, int) else tuple(module.axis)
        layer = dataclasses.replace(layer, num_input_axes=len(axes))
        kwargs["axes"] = axes
    elif kind == "conv":
        if module.mask is not None:
            return "a masked kernel"
        layer = dataclasses.replace(
            layer, num_input_axes=rank + 1, groups=module.feature_group_count
        )
        make = ConvRule
        kwargs["strides"] = _each(module.strides, rank)
        kwargs["padding"] = _padding(module.padding, rank)
        kwargs["input_dilation"] = _each(module.input_dilation, rank)
        kwargs["kernel_dilation"] = _each(module.kernel_dilation, rank)
    elif kind == "embed":
        make = EmbedRule
    rows, columns = layer.sizes(shape)
    layer = dataclasses.replace(
        layer,
        diagonal_inputs=kind == "embed" or rows > max_dim,
        diagonal_outputs=columns > max_dim,
    )
    wide = jnp.promote_types(jnp.promote_types(kernel.dtype, jnp.float32), dtype)
    return make(layer, shape, jnp.dtype(wide).name, **kwargs)
