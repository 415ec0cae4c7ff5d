"""An identity on a layer's outputs whose gradient is the layer's statistics.

Nothing leaves the layer's own trace but a cotangent: taps may stand inside lifted
transforms (scan, remat, vmap), the uses of a shared layer add up by themselves, and
data sharded over devices are summed by the compiler. Gradients of single examples are
never stored.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_ia.flax._kfac_rules import Rule
from optax_ia.second_order._kfac_layers import KfacFactors


class Sums(NamedTuple):
    """Statistics of one layer, summed over rows.

    Attributes:
      inputs: the inputs' outer products, shape of ``KfacFactors.inputs``.
      count: the number of rows, shape ().
      outputs: the outer products of the outputs' gradients.
    """

    inputs: jax.Array
    count: jax.Array
    outputs: jax.Array


def zero_sums(rule: Rule) -> Sums:
    """What is differentiated with respect to."""
    inputs, outputs = rule.layer.factor_shapes(rule.kernel_shape)
    return Sums(*(jnp.zeros(shape, rule.dtype) for shape in (inputs, (), outputs)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def tap(rule: Rule, outputs: jax.Array, inputs: jax.Array, sums: Sums) -> jax.Array:
    """The outputs; the "gradient" with respect to ``sums`` is the layer's sums."""
    del rule, inputs, sums
    return outputs


def _forward(rule, outputs, inputs, sums):
    del rule, sums
    return outputs, inputs


def _backward(rule, inputs, gradients):
    total, count = rule.inputs_sum(inputs, gradients.dtype)
    return gradients, None, Sums(total, count, rule.outputs_sum(gradients))


tap.defvjp(_forward, _backward)


def factors_of(sums: Sums, scale: jax.Array | float) -> KfacFactors:
    """Factors: the mean over rows of the inputs, the scaled sum of the outputs.

    Args:
      sums: of one layer.
      scale: of the outputs.
    """
    rows = jnp.maximum(sums.count, 1)  # a layer that no output depends on has none
    outputs = sums.outputs * jnp.asarray(scale, sums.outputs.dtype)
    return KfacFactors(inputs=sums.inputs / rows, outputs=outputs)
