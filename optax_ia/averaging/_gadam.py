"""Gadam and GadamX: adaptive rules with decoupled decay and a tail average."""

from typing import Any, Literal

import jax
import optax

from optax_ia._src.arguments import checked
from optax_ia._src.required import REQUIRED
from optax_ia._src.types import Mask
from optax_ia.adaptive import padamw
from optax_ia.averaging._average import tail_average
from optax_ia.baselines import adamw


@checked(complex_params=True)
def gadam(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    start: jax.typing.ArrayLike | None = REQUIRED,
    every: jax.typing.ArrayLike = 1,
    *,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Mask = None,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    mu_dtype: Any = None,
    accumulator_dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    r"""Gadam: AdamW, averaged from ``start`` on.

    .. math::
      w_t = (1-\alpha_t\lambda) w_{t-1}
            - \alpha_t \frac{\hat m_t}{\sqrt{\hat v_t + \epsilon_{root}} + \epsilon},
      \quad \bar w = \text{mean}\{w_t : t \ge s, (t-s) \bmod k = 0\}

    Decoupled decay strong enough to keep the iterates apart is what makes the average
    worth more than the last iterate: the paper uses 0.25 on CIFAR-100.

    Args:
      learning_rate: the rate, a number or a schedule; keep it high while averaging
        (:func:`averaging_schedule`).
      start: :math:`s`, the first update collected, required; None waits for
        :func:`start_averaging`.
      every: :math:`k`, collect each ``every``-th update.
      weight_decay: :math:`\lambda`, decoupled, multiplied by the learning rate.
      mask: which parameters decay.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added outside the square root.
      eps_root: added inside the square root.
      mu_dtype: dtype of the first moment; None keeps the parameters'.
      accumulator_dtype: see :func:`tail_average`.

    Returns:
      The transformation; ``update`` needs ``params``; the average is read by
      :func:`averaged_params`.

    Raises:
      TypeError: if ``start`` is missing.
      ValueError: if a concrete argument is out of its range.

    Example:
      Five epochs of 390 steps, averaged at the end of the last three:

      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.gadam(1e-3, start=3 * 390, every=390, weight_decay=0.25)
      >>> def step(carry, _):
      ...     w, state = carry
      ...     updates, state = tx.update(w, state, w)
      ...     return (optax.apply_updates(w, updates), state), None
      >>> w = jnp.ones(3)
      >>> (w, state), _ = jax.lax.scan(step, (w, tx.init(w)), length=5 * 390)
      >>> print(optax_ia.num_averaged(state))
      3

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, Algorithm 1 with p = 1/2 and without AMSGrad.
    """
    return optax.chain(
        adamw(
            learning_rate,
            b1,
            b2,
            eps,
            eps_root,
            mu_dtype=mu_dtype,
            weight_decay=weight_decay,
            mask=mask,
        ),
        tail_average(start, every, accumulator_dtype=accumulator_dtype),
    )


@checked(complex_params=True)
def gadamx(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    start: jax.typing.ArrayLike | None = REQUIRED,
    every: jax.typing.ArrayLike = 1,
    *,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Mask = None,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    partial: jax.typing.ArrayLike = 0.125,
    amsgrad: bool = True,
    correction: Literal["power", "sqrt"] = "power",
    mu_dtype: Any = None,
    accumulator_dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    r"""GadamX: :func:`padamw`, averaged from ``start`` on.

    .. math::
      w_t = (1-\alpha_t\lambda) w_{t-1} - \alpha_t u_t,
      \quad \bar w = \text{mean}\{w_t : t \ge s, (t-s) \bmod k = 0\}

    with :math:`u_t` the rule of :func:`scale_by_padam`.

    Args:
      learning_rate: the rate, a number or a schedule; keep it high while averaging
        (:func:`averaging_schedule`).
      start: :math:`s`, the first update collected, required; None waits for
        :func:`start_averaging`.
      every: :math:`k`, collect each ``every``-th update.
      weight_decay: :math:`\lambda`, decoupled, multiplied by the learning rate.
      mask: which parameters decay.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added outside the square root.
      eps_root: added inside the square root.
      partial: the power p in [0, 1/2].
      amsgrad: keep the maximum of the second moment. Static.
      correction: ``"power"`` (Algorithm 1) or ``"sqrt"`` (the released code, which the
        published numbers came from). Static.
      mu_dtype: dtype of the first moment; None keeps the parameters'.
      accumulator_dtype: see :func:`tail_average`.

    Returns:
      The transformation; ``update`` needs ``params``; the average is read by
      :func:`averaged_params`.

    Raises:
      TypeError: if ``start`` is missing.
      ValueError: if a concrete argument is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.gadamx(0.1, start=100)
      >>> def step(carry, key):
      ...     w, state = carry
      ...     g = w + jax.random.normal(key, w.shape)
      ...     updates, state = tx.update(g, state, w)
      ...     return (optax.apply_updates(w, updates), state), None
      >>> w = jnp.ones(100)
      >>> keys = jax.random.split(jax.random.key(0), 500)
      >>> (w, state), _ = jax.lax.scan(step, (w, tx.init(w)), keys)
      >>> average = optax_ia.averaged_params(state, w)
      >>> bool(jnp.linalg.norm(average) < 0.3 * jnp.linalg.norm(w))
      True

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, Algorithm 1 with p = 1/8.
    """
    return optax.chain(
        padamw(
            learning_rate,
            b1,
            b2,
            eps,
            eps_root,
            partial,
            amsgrad=amsgrad,
            correction=correction,
            mu_dtype=mu_dtype,
            weight_decay=weight_decay,
            mask=mask,
        ),
        tail_average(start, every, accumulator_dtype=accumulator_dtype),
    )
