"""AdamP and SGDP: Adam and SGD with projected updates."""

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.arguments import checked
from optax_ia._src.types import Mask
from optax_ia.adaptive._projection import projected
from optax_ia.schedules import scale_by_learning_rate


@checked()
def adamp(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    delta: jax.typing.ArrayLike = 0.1,
    wd_ratio: jax.typing.ArrayLike = 0.1,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamP: Adam without the growth of weights that a normalisation makes invariant.

    For each tensor of two or more axes, with rows :math:`w_r` (first one row for each
    output channel, the last axis; if those do not pass, the whole tensor as one),
    gradient :math:`g_r` and Adam's direction :math:`u_r`,

    .. math::
      \max_r |\cos(g_r, w_r)| < \frac{\delta}{\sqrt{\dim w_r}}
      \;\Rightarrow\;
      u_r \leftarrow u_r - (\hat w_r \cdot u_r)\,\hat w_r,\quad
      \hat w_r = \frac{w_r}{\|w_r\| + \epsilon},

    and there the decay :math:`w \leftarrow (1-\alpha\lambda)w` is multiplied by
    ``wd_ratio``. One decision for a tensor; the moments are not projected.

    Args:
      learning_rate: the rate, a number or a schedule.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: Adam's epsilon, and that of the norms, >= 0.
      delta: :math:`\delta` >= 0, how orthogonal gradient and weights must be; 0 is
        Adam.
      wd_ratio: what decay is multiplied by where the update is projected, >= 0.
      weight_decay: :math:`\lambda` >= 0, decoupled, multiplied by the learning rate.
      mask: which parameters decay.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      A gradient orthogonal to the weights, as behind a normalisation; Adam's first step
      is the sign of it, which makes the weights longer:

      >>> import jax.numpy as jnp, optax, optax_ia
      >>> w = jnp.array([[3.0], [1.0]])  # (in, out)
      >>> g = jnp.array([[1.0], [-3.0]])
      >>> for delta in (0.0, 0.1):
      ...     tx = optax_ia.adamp(0.1, delta=delta)
      ...     u, _ = tx.update(g, tx.init(w), w)
      ...     print(delta, round(float(jnp.vdot(u, w)), 3))
      0.0 -0.2
      0.1 0.0

    References:
      Heo et al., `AdamP: Slowing Down the Slowdown for Momentum Optimizers on
      Scale-invariant Weights <https://arxiv.org/abs/2006.08217>`_, 2021, Algorithm 2.
    """

    def direction(grads, state):
        mu = optax.tree.bias_correction(state.mu, b1, state.count)
        nu = optax.tree.bias_correction(state.nu, b2, state.count)
        return jax.tree.map(
            lambda g, m, v: (m / (jnp.sqrt(v) + eps)).astype(g.dtype), grads, mu, nu
        )

    return optax.chain(
        projected(
            optax.scale_by_adam(b1, b2, eps),
            direction,
            delta,
            wd_ratio,
            eps,
            weight_decay,
            1,
            mask,
        ),
        scale_by_learning_rate(learning_rate),
    )


@checked()
def sgdp(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    momentum: jax.typing.ArrayLike = 0.9,
    *,
    nesterov: bool = False,
    delta: jax.typing.ArrayLike = 0.1,
    wd_ratio: jax.typing.ArrayLike = 0.1,
    eps: jax.typing.ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SGDP: SGD with momentum, projected as in :func:`adamp`.

    The direction is :math:`m_t = \mu m_{t-1} + g_t`, and the decay

    .. math::
      w \leftarrow \Big(1 - \frac{\alpha_t\lambda}{1-\mu}\Big) w,

    times ``wd_ratio`` where the update is projected.

    Args:
      learning_rate: the rate, a number or a schedule.
      momentum: :math:`\mu` in [0, 1).
      nesterov: Nesterov's form of the momentum. Static.
      delta: see :func:`adamp`.
      wd_ratio: see :func:`adamp`.
      eps: of the norms, >= 0.
      weight_decay: :math:`\lambda` >= 0, decoupled, multiplied by the learning rate and
        by :math:`1/(1-\mu)`.
      mask: which parameters decay.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      The gradient is orthogonal to the weights at each step, the momentum is not:

      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> def norm_after(delta, w=jnp.array([[3.0], [1.0]])):
      ...     tx = optax_ia.sgdp(0.5, delta=delta)
      ...     state = tx.init(w)
      ...     loss = lambda w: jnp.sum(w[0] / jnp.linalg.norm(w))
      ...     for _ in range(20):
      ...         u, state = tx.update(jax.grad(loss)(w), state, w)
      ...         w = optax.apply_updates(w, u)
      ...     return round(float(jnp.linalg.norm(w)), 2)
      >>> norm_after(delta=0.0) > norm_after(delta=0.1)
      True

    .. note::
      Without Nesterov's form the released code projects its momentum buffer too, by
      writing into it; here, as in the paper and in that code with Nesterov's form, the
      buffer is left alone.

    References:
      Heo et al., `AdamP: Slowing Down the Slowdown for Momentum Optimizers on
      Scale-invariant Weights <https://arxiv.org/abs/2006.08217>`_, 2021, Algorithm 1.
    """

    def direction(grads, state):
        if not nesterov:
            return optax.tree.cast_like(state.trace, grads)
        return jax.tree.map(
            lambda g, m: (g + momentum * m).astype(g.dtype), grads, state.trace
        )

    return optax.chain(
        projected(
            optax.trace(momentum, nesterov),
            direction,
            delta,
            wd_ratio,
            eps,
            weight_decay,
            1 / (1 - momentum),
            mask,
        ),
        scale_by_learning_rate(learning_rate),
    )
