"""Partially adaptive moment estimation: Padam and AdamW's form of it, PadamW."""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.arguments import checked
from optax_ia._src.scalars import increment
from optax_ia._src.types import Mask
from optax_ia.decay import decoupled_decay, l2_decay
from optax_ia.schedules import scale_by_learning_rate


class ScaleByPadamState(NamedTuple):
    """State of :func:`scale_by_padam`.

    Attributes:
      count: number of updates done, shape (), int32.
      mu: first moment, the tree of the parameters, in ``mu_dtype``.
      nu: second moment, the tree and dtypes of the parameters.
      nu_max: running maximum of the second moment (bias-corrected for
        ``correction="power"``, raw for ``"sqrt"``); None without AMSGrad.
    """

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates
    nu_max: Any


def _power(base: jax.Array, exponent: Any) -> jax.Array:
    """``base ** exponent`` for base >= 0, without the slow general power.

    A concrete exponent 2^-k takes k square roots (each costs next to nothing beside
    the memory traffic); any other takes ``exp(exponent * log(base))``.
    """
    base = jnp.maximum(base, jnp.finfo(base.dtype).tiny)
    if isinstance(exponent, int | float):
        if exponent == 0:
            return jnp.ones_like(base)
        halvings = -math.log2(exponent)
        if halvings == int(halvings) and halvings >= 0:
            for _ in range(int(halvings)):
                base = jnp.sqrt(base)
            return base
    return jnp.exp(jnp.asarray(exponent, base.dtype) * jnp.log(base))


@checked(complex_params=True)
def scale_by_padam(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    partial: jax.typing.ArrayLike = 0.125,
    *,
    amsgrad: bool = True,
    correction: Literal["power", "sqrt"] = "power",
    mu_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Rescales updates by a partial power of Adam's second moment.

    With gradient :math:`g_t`, moments :math:`m_t = \beta_1 m_{t-1} + (1-\beta_1)g_t`
    and :math:`v_t = \beta_2 v_{t-1} + (1-\beta_2)g_t^2`, and :math:`p` = ``partial``,
    ``correction="power"`` returns

    .. math::
      \hat m_t = \frac{m_t}{1-\beta_1^t},\quad
      \hat v_t = \max\Big(\hat v_{t-1}, \frac{v_t}{1-\beta_2^t}\Big),\quad
      u_t = \frac{\hat m_t}{(\sqrt{\hat v_t + \epsilon_{root}} + \epsilon)^{2p}}

    and ``correction="sqrt"``, the released code of Padam and Gadam,

    .. math::
      \bar v_t = \max(\bar v_{t-1}, v_t),\quad
      u_t = \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}
            \frac{m_t}{(\sqrt{\bar v_t + \epsilon_{root}} + \epsilon)^{2p}}.

    Without ``amsgrad`` the maxima are left out. :math:`p=1/2` is Adam (AMSGrad),
    :math:`p=0` the bias-corrected moving average of the gradient.

    Args:
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added outside the square root, >= 0. Larger values limit adaptivity too.
      eps_root: added inside the square root, >= 0.
      partial: the power p in [0, 1/2]; smaller is less adaptive, larger tolerates
        worse scaled problems. May be traced; a concrete 2^-k is cheapest.
      amsgrad: keep the maximum of the second moment (one more tree of state). Static.
      correction: where the bias correction of the second moment stands. Static.
      mu_dtype: dtype of the first moment; None keeps the parameters'.

    Returns:
      The transformation. Updates keep the gradient's dtype.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      On two coordinates whose gradients differ a hundredfold, p decides how much of
      the difference is left in the first step:

      >>> import jax.numpy as jnp, optax_ia
      >>> g = jnp.array([100.0, 1.0])
      >>> for p in (0.0, 0.125, 0.5):
      ...     tx = optax_ia.scale_by_padam(partial=p)
      ...     u, _ = tx.update(g, tx.init(g))
      ...     print(p, round(float(u[0] / u[1]), 2))
      0.0 100.0
      0.125 31.62
      0.5 1.0

    .. note::
      Granziol et al.'s Algorithm 1 prints the bias corrections inside the recursions,
      a slip, and :math:`(\hat v+\epsilon)^p`, which is ``eps=0, eps_root=epsilon``.
      At p = 1/8 the first step of "power" is about 13 times that of "sqrt" for a
      gradient of ordinary size: rates do not carry over from one to the other.

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, Algorithm 1.

      Chen, Gu, `Closing the Generalization Gap of Adaptive Gradient Methods in
      Training Deep Neural Networks <https://arxiv.org/abs/1806.06763>`_, 2018,
      Algorithm 1.
    """
    exponent = 2 * partial

    def init_fn(params):
        return ScaleByPadamState(
            count=jnp.zeros([], jnp.int32),
            mu=optax.tree.zeros_like(params, dtype=mu_dtype),
            nu=optax.tree.zeros_like(params),
            nu_max=optax.tree.zeros_like(params) if amsgrad else None,
        )

    def update_fn(updates, state, params=None, **extra_args):
        del params, extra_args
        count = increment(state.count)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)

        if correction == "power":
            first = optax.tree.bias_correction(mu, b1, count)
            second = optax.tree.bias_correction(nu, b2, count)
        else:
            scale = jnp.sqrt(1 - b2**count) / (1 - b1**count)
            first = jax.tree.map(lambda m: scale.astype(m.dtype) * m, mu)
            second = nu
        nu_max = None
        if amsgrad:
            second = nu_max = jax.tree.map(jnp.maximum, state.nu_max, second)

        def direction(g, m, v):
            base = jnp.sqrt(v + jnp.asarray(eps_root, v.dtype))
            base = base + jnp.asarray(eps, v.dtype)
            return (m / _power(base, exponent)).astype(g.dtype)

        new_updates = jax.tree.map(direction, updates, first, second)
        return new_updates, ScaleByPadamState(
            count=count,
            mu=optax.tree.cast_like(mu, state.mu),
            nu=optax.tree.cast_like(nu, state.nu),
            nu_max=optax.tree.cast_like(nu_max, state.nu_max) if amsgrad else None,
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


@checked(complex_params=True)
def padam(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    partial: jax.typing.ArrayLike = 0.125,
    *,
    amsgrad: bool = True,
    correction: Literal["power", "sqrt"] = "power",
    mu_dtype: Any = None,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Padam: partially adaptive momentum estimation with L2 decay.

    .. math::
      w_t = w_{t-1} - \alpha_t\, u_t(g_t + \lambda w_{t-1})

    with :math:`u_t` the rule of :func:`scale_by_padam`: the decay passes through both
    moments. :func:`padamw` decouples it.

    Args:
      learning_rate: the rate, a number or a schedule of the update count. 0.1 suits
        p = 1/8; larger p wants smaller rates, down to 1e-3 at p = 1/2.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added outside the square root, >= 0.
      eps_root: added inside the square root, >= 0.
      partial: the power p in [0, 1/2].
      amsgrad: keep the maximum of the second moment. Static.
      correction: ``"power"`` (the paper) or ``"sqrt"`` (the released code). Static.
      mu_dtype: dtype of the first moment; None keeps the parameters'.
      weight_decay: :math:`\lambda` >= 0, a number or a schedule.
      mask: which parameters decay, a tree of bools or a function of the parameters;
        see :func:`path_mask`. None decays all.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> f = lambda w: jnp.sum(jnp.array([50.0, 1.0]) * w**2)
      >>> w = jnp.array([1.0, 1.0])
      >>> tx = optax_ia.padam(0.05)
      >>> def step(carry, _):
      ...     w, state = carry
      ...     updates, state = tx.update(jax.grad(f)(w), state, w)
      ...     return (optax.apply_updates(w, updates), state), None
      >>> (w, _), _ = jax.lax.scan(step, (w, tx.init(w)), length=200)
      >>> bool(f(w) < 1e-3)
      True

    References:
      Chen, Gu, `Closing the Generalization Gap of Adaptive Gradient Methods in
      Training Deep Neural Networks <https://arxiv.org/abs/1806.06763>`_, 2018.
    """
    return optax.chain(
        l2_decay(weight_decay, mask),
        scale_by_padam(
            b1,
            b2,
            eps,
            eps_root,
            partial,
            amsgrad=amsgrad,
            correction=correction,
            mu_dtype=mu_dtype,
        ),
        scale_by_learning_rate(learning_rate),
    )


@checked(complex_params=True)
def padamw(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    partial: jax.typing.ArrayLike = 0.125,
    *,
    amsgrad: bool = True,
    correction: Literal["power", "sqrt"] = "power",
    mu_dtype: Any = None,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Padam with decoupled weight decay, the base of :func:`gadamx`.

    .. math::
      w_t = (1 - \alpha_t \lambda) w_{t-1} - \alpha_t\, u_t(g_t)

    with :math:`u_t` the rule of :func:`scale_by_padam`. The decay is multiplied by
    the learning rate, as in ``optax.adamw``.

    Args:
      learning_rate: the rate, a number or a schedule of the update count.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added outside the square root, >= 0.
      eps_root: added inside the square root, >= 0.
      partial: the power p in [0, 1/2].
      amsgrad: keep the maximum of the second moment. Static.
      correction: ``"power"`` (the paper) or ``"sqrt"`` (the released code). Static.
      mu_dtype: dtype of the first moment; None keeps the parameters'.
      weight_decay: :math:`\lambda` >= 0, a number or a schedule.
      mask: which parameters decay, a tree of bools or a function of the parameters.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      With a zero gradient only the decay is left, 1 - 0.1 * 0.5 a step:

      >>> import jax.numpy as jnp, optax, optax_ia
      >>> w = jnp.array([1.0])
      >>> tx = optax_ia.padamw(0.1, weight_decay=0.5)
      >>> updates, _ = tx.update(jnp.zeros(1), tx.init(w), w)
      >>> print(optax.apply_updates(w, updates))
      [0.95]

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, Algorithm 1 without the averaging.
    """
    return optax.chain(
        scale_by_padam(
            b1,
            b2,
            eps,
            eps_root,
            partial,
            amsgrad=amsgrad,
            correction=correction,
            mu_dtype=mu_dtype,
        ),
        decoupled_decay(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
