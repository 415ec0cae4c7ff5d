"""SWA: stochastic weight averaging."""

from typing import Any

import jax
import optax

from optax_ia._src.arguments import checked
from optax_ia._src.required import REQUIRED
from optax_ia._src.types import Mask
from optax_ia.averaging._average import tail_average
from optax_ia.decay import l2_decay
from optax_ia.schedules import scale_by_learning_rate


@checked(complex_params=True)
def swa(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    start: jax.typing.ArrayLike | None = REQUIRED,
    every: jax.typing.ArrayLike = 1,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
    momentum: jax.typing.ArrayLike = 0.9,
    nesterov: bool = False,
    accumulator_dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    r"""SWA: SGD with momentum and L2 decay, averaged from ``start`` on.

    .. math::
      m_t = \mu m_{t-1} + g_t + \lambda w_{t-1},\quad w_t = w_{t-1} - \alpha_t m_t,
      \quad \bar w = \text{mean}\{w_t : t \ge s, (t-s) \bmod k = 0\}

    Args:
      learning_rate: the rate, a number or a schedule; keep it high while averaging
        (:func:`averaging_schedule`).
      start: :math:`s`, the first update collected, required; None waits for
        :func:`start_averaging`.
      every: :math:`k`, collect each ``every``-th update.
      weight_decay: :math:`\lambda`, L2.
      mask: which parameters decay.
      momentum: :math:`\mu`.
      nesterov: Nesterov's form of the momentum. Static.
      accumulator_dtype: see :func:`tail_average`.

    Returns:
      The transformation; ``update`` needs ``params``; the average is read by
      :func:`averaged_params`.

    Raises:
      TypeError: if ``start`` is missing.
      ValueError: if a concrete argument is out of its range.

    Example:
      SGD hovers around the minimum of a noisy quadratic; the average settles:

      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.swa(0.1, start=50)
      >>> def step(carry, key):
      ...     w, state = carry
      ...     g = w + jax.random.normal(key, w.shape)
      ...     updates, state = tx.update(g, state, w)
      ...     return (optax.apply_updates(w, updates), state), None
      >>> w = jnp.ones(100)
      >>> keys = jax.random.split(jax.random.key(0), 500)
      >>> (w, state), _ = jax.lax.scan(step, (w, tx.init(w)), keys)
      >>> average = optax_ia.averaged_params(state, w)
      >>> print(f"{jnp.linalg.norm(w):.1f} {jnp.linalg.norm(average):.1f}")
      6.6 0.5

    References:
      Izmailov et al., `Averaging Weights Leads to Wider Optima and Better
      Generalization <https://arxiv.org/abs/1803.05407>`_, 2018, Algorithm 1; Granziol,
      Wan, Albanie, Roberts, Beyond SGD, 2021, section 2.
    """
    return optax.chain(
        l2_decay(weight_decay, mask),
        optax.trace(decay=momentum, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
        tail_average(start, every, accumulator_dtype=accumulator_dtype),
    )
