"""Triggers that watch a validation metric: pure functions of a small state."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from optax_ia._src import checks
from optax_ia._src.scalars import default_float


class Trigger(NamedTuple):
    """A pair of pure functions that watch a metric.

    Attributes:
      init: gives the first state.
      update: gives the next state from a state and the metric's newest value. Each
        state has a field ``fired``, a bool of shape () that stays True once it is.
    """

    init: Callable[[], Any]
    update: Callable[[Any, jax.typing.ArrayLike], Any]


def sign_of(mode: str) -> float:
    """1 if smaller values are better, -1 if larger ones are."""
    checks.check_choice("mode", mode, ("min", "max"))
    return 1.0 if mode == "min" else -1.0


def _as_loss(value: jax.typing.ArrayLike, sign: jax.typing.ArrayLike) -> jax.Array:
    """The metric as a number to be minimised; NaN is the worst there is."""
    loss = jnp.asarray(value, default_float()) * sign
    return jnp.where(jnp.isnan(loss), jnp.inf, loss)


def _worst() -> jax.Array:
    return jnp.full([], jnp.inf, default_float())


class NonMonotonicState(NamedTuple):
    """State of :func:`non_monotonic_trigger`.

    Attributes:
      count: number of values seen, shape (), int32.
      recent: the last n values (times -1 for ``mode="max"``), shape (n,), a ring.
      best_before: the least of the values before those, shape ().
      fired: whether the trigger has fired, shape (), bool.
    """

    count: jax.Array
    recent: jax.Array
    best_before: jax.Array
    fired: jax.Array


def non_monotonic_trigger(
    window: int = 5, *, mode: Literal["min", "max"] = "min"
) -> Trigger:
    r"""The non-monotonic trigger of NT-ASGD.

    With the values seen before, :math:`v_1, \dots, v_k`, it fires at :math:`v` when

    .. math::
      k > n \quad\text{and}\quad v > \min(v_1, \dots, v_{k-n}),

    that is, when the metric is worse than the best of all but the last n = ``window``.

    Args:
      window: :math:`n` >= 1; larger windows fire later. Static.
      mode: ``"min"`` if smaller is better (a loss, a perplexity), ``"max"`` if larger
        is (an accuracy). Negative metrics need no care.

    Returns:
      A :class:`Trigger`. NaN counts as the worst value.

    Raises:
      ValueError: if an argument is out of its range.

    Example:
      >>> import optax_ia
      >>> trigger = optax_ia.non_monotonic_trigger(window=2)
      >>> state = trigger.init()
      >>> for loss in [3.0, 2.0, 2.5, 2.5, 2.4]:
      ...     state = trigger.update(state, loss)
      ...     print(loss, state.fired)
      3.0 False
      2.0 False
      2.5 False
      2.5 False
      2.4 True

    References:
      Merity, Keskar, Socher, `Regularizing and Optimizing LSTM Language Models
      <https://arxiv.org/abs/1708.02182>`_, 2017, Algorithm 1.
    """
    checks.check_integer("window", window, minimum=1)
    sign = sign_of(mode)

    return Trigger(
        functools.partial(non_monotonic_init, window),
        lambda state, value: non_monotonic_update(state, value, sign),
    )


def non_monotonic_init(window: int) -> NonMonotonicState:
    """The state before any value, for a window."""
    return NonMonotonicState(
        count=jnp.zeros([], jnp.int32),
        recent=jnp.full([window], jnp.inf, _worst().dtype),
        best_before=_worst(),
        fired=jnp.zeros([], bool),
    )


def non_monotonic_update(
    state: NonMonotonicState,
    value: jax.typing.ArrayLike,
    sign: jax.typing.ArrayLike,
) -> NonMonotonicState:
    """One step of the non-monotonic trigger; the sign may be traced."""
    loss = _as_loss(value, sign)
    recent = jnp.asarray(state.recent)  # NumPy's after some restores
    n = recent.size
    fired = (state.count > n) & (loss > state.best_before)
    slot = state.count % n  # holds the value that now leaves the window
    return NonMonotonicState(
        count=state.count + 1,
        recent=recent.at[slot].set(loss),
        best_before=jnp.minimum(state.best_before, recent[slot]),
        fired=state.fired | fired,
    )


class PlateauState(NamedTuple):
    """State of :func:`plateau_trigger`.

    Attributes:
      best: the best value so far (times -1 for ``mode="max"``), shape ().
      num_bad: values seen since the best one, shape (), int32.
      fired: whether the trigger has fired, shape (), bool.
    """

    best: jax.Array
    num_bad: jax.Array
    fired: jax.Array


def plateau_init() -> PlateauState:
    """The state before any value."""
    return PlateauState(_worst(), jnp.zeros([], jnp.int32), jnp.zeros([], bool))


def plateau_update(
    state: PlateauState,
    value: jax.typing.ArrayLike,
    patience: jax.typing.ArrayLike,
    sign: jax.typing.ArrayLike,
) -> PlateauState:
    """One step of the plateau trigger; patience and sign may be traced."""
    loss = _as_loss(value, sign)
    better = loss < state.best
    num_bad = jnp.where(better, 0, state.num_bad + 1)
    return PlateauState(
        best=jnp.minimum(state.best, loss),
        num_bad=num_bad,
        fired=state.fired | (num_bad >= patience),
    )


def plateau_trigger(
    patience: int = 10, *, mode: Literal["min", "max"] = "min"
) -> Trigger:
    """Fires after ``patience`` values in a row that do not improve on the best one.

    Args:
      patience: number of values >= 1; noisy metrics want more.
      mode: ``"min"`` if smaller is better, ``"max"`` if larger is. Negative metrics
        need no care.

    Returns:
      A :class:`Trigger`. NaN counts as the worst value.

    Raises:
      ValueError: if an argument is out of its range.

    Example:
      >>> import optax_ia
      >>> trigger = optax_ia.plateau_trigger(patience=2, mode="max")
      >>> state = trigger.init()
      >>> for accuracy in [0.5, 0.7, 0.6, 0.7]:
      ...     state = trigger.update(state, accuracy)
      ...     print(accuracy, state.fired)
      0.5 False
      0.7 False
      0.6 False
      0.7 True

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, appendix A.2 (patience 10).
    """
    checks.check_integer("patience", patience, minimum=1)
    sign = sign_of(mode)
    return Trigger(
        plateau_init, lambda state, value: plateau_update(state, value, patience, sign)
    )
