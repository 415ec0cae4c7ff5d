"""Averaged SGD, started at a fixed update or by the non-monotonic trigger."""

from typing import Any, Literal

import jax
import optax

from optax_ia._src.arguments import checked
from optax_ia._src.required import REQUIRED
from optax_ia._src.types import Mask
from optax_ia.averaging._auto import auto_average
from optax_ia.averaging._average import tail_average
from optax_ia.decay import l2_decay
from optax_ia.schedules import scale_by_learning_rate


@checked(complex_params=True)
def asgd(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    start: jax.typing.ArrayLike | None = REQUIRED,
    every: jax.typing.ArrayLike = 1,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
    accumulator_dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    r"""ASGD: plain SGD with L2 decay, averaged from ``start`` on.

    .. math::
      w_t = w_{t-1} - \alpha_t (g_t + \lambda w_{t-1}),
      \quad \bar w = \text{mean}\{w_t : t \ge s, (t-s) \bmod k = 0\}

    :func:`swa` is the same with momentum.

    Args:
      learning_rate: the rate, a number or a schedule; P0 keeps 30 for language models.
      start: :math:`s`, the first update collected, required; None waits for
        :func:`start_averaging`.
      every: :math:`k`, collect each ``every``-th update.
      weight_decay: :math:`\lambda`, L2.
      mask: which parameters decay.
      accumulator_dtype: see :func:`tail_average`.

    Returns:
      The transformation; ``update`` needs ``params``; the average is read by
      :func:`averaged_params`.

    Raises:
      TypeError: if ``start`` is missing.
      ValueError: if a concrete argument is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.asgd(0.5, start=50)
      >>> def step(carry, key):
      ...     w, state = carry
      ...     g = w + jax.random.normal(key, w.shape)
      ...     updates, state = tx.update(g, state, w)
      ...     return (optax.apply_updates(w, updates), state), None
      >>> w = jnp.ones(100)
      >>> keys = jax.random.split(jax.random.key(0), 500)
      >>> (w, state), _ = jax.lax.scan(step, (w, tx.init(w)), keys)
      >>> average = optax_ia.averaged_params(state, w)
      >>> bool(jnp.linalg.norm(average) < 0.2 * jnp.linalg.norm(w))
      True

    References:
      Polyak, Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992;
      Granziol, Wan, Albanie, Roberts, Beyond SGD, 2021, table 12.
    """
    return optax.chain(
        l2_decay(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
        tail_average(start, every, accumulator_dtype=accumulator_dtype),
    )


@checked(complex_params=True)
def nt_asgd(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    every: jax.typing.ArrayLike = 1,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
    window: int = 5,
    mode: Literal["min", "max"] = "min",
    accumulator_dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    r"""NT-ASGD: plain SGD, averaged once a validation metric stops improving.

    :func:`asgd` that is started by :func:`non_monotonic_trigger`: report the validation
    metric by :func:`record_metric` after each evaluation.

    Args:
      learning_rate: the rate, a number or a schedule; the paper keeps it constant.
      every: collect each ``every``-th update once averaging has started.
      weight_decay: :math:`\lambda`, L2.
      mask: which parameters decay.
      window: n >= 1; averaging starts when the metric is worse than the best of all
        but its last n values. Static.
      mode: ``"min"`` if a smaller metric is better, ``"max"`` if a larger is.
      accumulator_dtype: see :func:`tail_average`.

    Returns:
      The transformation; ``update`` needs ``params``; the average is read by
      :func:`averaged_params`. :func:`should_stop` is never True.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> tx = optax_ia.nt_asgd(window=1)
      >>> w = jnp.ones(1)
      >>> state = tx.init(w)
      >>> for loss in [3.0, 2.0, 2.5, 2.5]:
      ...     _, state = tx.update(w, state, w)
      ...     state = optax_ia.record_metric(state, loss)
      ...     print(loss, optax_ia.diagnostics(state)["averaging_phase"])
      3.0 0
      2.0 0
      2.5 0
      2.5 1

    References:
      Merity, Keskar, Socher, `Regularizing and Optimizing LSTM Language Models
      <https://arxiv.org/abs/1708.02182>`_, 2017, Algorithm 1.
    """
    return optax.chain(
        l2_decay(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
        auto_average(
            every, mode=mode, window=window, accumulator_dtype=accumulator_dtype
        ),
    )
