"""Gradient centralisation for Flax kernels."""

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.arguments import checked


@checked()
def centralize() -> optax.GradientTransformationExtraArgs:
    r"""Subtracts from each kernel's gradient its mean over all axes but the last.

    For a kernel of shape (..., in, out), Flax's layout,

    .. math::
      g_{\dots i o} \leftarrow g_{\dots i o} - \frac{1}{N} \sum_{\dots, i} g_{\dots i o}

    with N the product of all axes but the last. Vectors and scalars pass unchanged.

    Returns:
      The transformation, first in a chain; it has no state. Updates keep their dtype;
      means are taken in float32 or wider.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> tx = optax_ia.centralize()
      >>> kernel = jnp.array([[1.0, 0.0], [3.0, 8.0]])  # (in, out)
      >>> print(tx.update(kernel, tx.init(kernel))[0])
      [[-1. -4.]
       [ 1.  4.]]

    .. note::
      ``optax.centralize`` averages over all axes but the first, which is right for
      PyTorch's (out, in, ...) kernels and wrong for Flax's.

    References:
      Yong, Huang, Hua, Zhang, `Gradient Centralization: A New Optimization Technique
      for Deep Neural Networks <https://arxiv.org/abs/2004.01461>`_, 2020, eq. 1.
    """

    def centralize_leaf(g):
        if g.ndim < 2:
            return g
        wide = g.astype(jnp.promote_types(g.dtype, jnp.float32))
        mean = jnp.mean(wide, axis=tuple(range(g.ndim - 1)), keepdims=True)
        return (wide - mean).astype(g.dtype)

    def update_fn(updates, state, params=None, **extra_args):
        del params, extra_args
        return jax.tree.map(centralize_leaf, updates), state

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update_fn
    )
