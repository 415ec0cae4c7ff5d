"""Sharpness-aware minimisation as a wrapper of any optimiser."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_ia._src import checks
from optax_ia._src.arguments import Number, Optimizer, checked
from optax_ia._src.wrapping import with_extra_args


@checked(inner=Optimizer(instead="sam_sgd"), eps=Number(above=0))
def sam(
    inner: optax.GradientTransformation,
    rho: jax.typing.ArrayLike = 0.05,
    adaptive: bool = False,
    *,
    eps: jax.typing.ArrayLike = 1e-12,
) -> optax.GradientTransformationExtraArgs:
    r"""Wraps an optimiser so that it descends the worst loss in a neighbourhood.

    With the gradient :math:`g` at :math:`w`, one more gradient is taken uphill and
    given to the inner optimiser, which makes its step from :math:`w`:

    .. math::
      e = \rho \frac{g}{\|g\| + \epsilon}, \qquad
      w \leftarrow w + \text{inner}\big(\nabla L(w + e)\big),

    norms over all parameters; ``adaptive`` takes
    :math:`e = \rho\, w^2 g / (\||w| g\| + \epsilon)`, elementwise products.

    Args:
      inner: the optimiser, learning rate and decay included.
      rho: :math:`\rho` >= 0, the size of the neighbourhood; ten to forty times larger
        for ``adaptive``.
      adaptive: a neighbourhood in units of each weight (ASAM). Static.
      eps: added to the norm, so that a zero gradient stays one, > 0.

    Returns:
      The transformation; its state is the inner one. ``update`` needs ``params`` and
      the extra argument ``grad_fn``, with ``grad_fn(params)`` the gradient of the same
      loss on the same batch, with the same random keys, averaged over devices as the
      first one was. All extra arguments go to ``inner``, ``grad_fn`` too.
      ``optax_ia.flax.build_train_step`` makes the call, and keeps the batch statistics
      of the first pass.

    Raises:
      ValueError: if a concrete argument is out of its range, or ``grad_fn`` or
        ``params`` is missing.

    Example:
      Every point of the line y = 0 is a minimum, the sharper the larger x. SGD stops
      where it first meets the line; SAM goes along it to the flattest:

      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> loss = lambda w: (1 + w[0] ** 2) * w[1] ** 2 / 2
      >>> grad_fn = jax.grad(loss)
      >>> def train(tx):
      ...     def step(carry, _):
      ...         w, state = carry
      ...         updates, state = tx.update(grad_fn(w), state, w, grad_fn=grad_fn)
      ...         return (optax.apply_updates(w, updates), state), None
      ...     w = jnp.array([2.0, 0.1])
      ...     return jax.lax.scan(step, (w, tx.init(w)), length=2000)[0][0]
      >>> sgd = optax.sgd(0.1)
      >>> print(f"{train(optax_ia.sam(sgd, rho=0.0))[0]:.1f}")
      2.0
      >>> print(f"{train(optax_ia.sam(sgd, rho=0.2))[0]:.1f}")
      0.0

    .. note::
      ``optax.contrib.sam`` has no epsilon (a zero gradient gives NaN) and refuses the
      extra argument ``value``.

    References:
      Foret, Kleiner, Mobahi, Neyshabur, `Sharpness-Aware Minimization for Efficiently
      Improving Generalization <https://arxiv.org/abs/2010.01412>`_, 2021, Algorithm 1.

      Kwon, Kim, Park, Choi, `ASAM: Adaptive Sharpness-Aware Minimization
      <https://arxiv.org/abs/2102.11600>`_, 2021, eq. 6 with :math:`T_w = |w|`.
    """
    inner = with_extra_args(inner)

    def update_fn(updates, state, params=None, *, grad_fn: Any = None, **extra_args):
        params = checks.check_params("sam", params)
        checks.check_extra_args("sam", grad_fn=grad_fn)
        wide = jax.tree.map(
            lambda g: g.astype(jnp.promote_types(g.dtype, jnp.float32)), updates
        )
        scaled = wide
        if adaptive:
            scaled = jax.tree.map(
                lambda g, w: jnp.abs(w).astype(g.dtype) * g, wide, params
            )
        norm = optax.tree.norm(scaled)

        def climb(w, s):
            step = rho / (norm + eps) * s
            if adaptive:
                step = jnp.abs(w).astype(s.dtype) * step
            return (w.astype(s.dtype) + step).astype(w.dtype)

        grads = grad_fn(jax.tree.map(climb, params, scaled))
        grads = optax.tree.cast_like(grads, updates)
        return inner.update(grads, state, params, grad_fn=grad_fn, **extra_args)

    return optax.GradientTransformationExtraArgs(inner.init, update_fn)
