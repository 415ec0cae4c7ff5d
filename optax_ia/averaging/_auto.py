"""Averaging that starts by itself and says when to stop (GadamAuto's controller)."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.arguments import Flag, Integer, checked
from optax_ia._src.diagnostics import read_diagnostics
from optax_ia._src.scalars import bare_scalar, default_float
from optax_ia._src.states import find_states
from optax_ia.averaging._average import tail_average
from optax_ia.averaging._collect import start_next
from optax_ia.averaging._iterate import IterateAverageState
from optax_ia.averaging._triggers import (
    NonMonotonicState,
    PlateauState,
    non_monotonic_init,
    non_monotonic_update,
    plateau_init,
    plateau_update,
    sign_of,
)

_MAKERS = "auto_average, with_auto_average, gadam_auto and nt_asgd"


class AutoAverageState(NamedTuple):
    """State of :func:`auto_average`.

    Attributes:
      averaging_phase: 0 before averaging, 1 while averaging, 2 when it is time to stop,
        shape (), int32.
      patience: values without improvement that end a phase, shape (), int32.
      sign: 1 if smaller metrics are better, -1 if larger are, shape ().
      trigger: the trigger's state in this phase.
      average: the state of the tail average.
    """

    averaging_phase: jax.Array
    patience: jax.Array
    sign: jax.Array
    trigger: PlateauState | NonMonotonicState
    average: IterateAverageState


@read_diagnostics.register
def _(state: AutoAverageState) -> dict[str, jax.Array]:
    trigger, sign = state.trigger, bare_scalar(state.sign)
    read = {"averaging_phase": state.averaging_phase}
    if isinstance(trigger, NonMonotonicState):
        return read | {"trigger_best": sign * bare_scalar(trigger.best_before)}
    return read | {
        "trigger_best": sign * bare_scalar(trigger.best),
        "trigger_num_bad": trigger.num_bad,
    }


@checked(
    complex_params=True,
    window=Integer(minimum=1, static=True, optional=True),
    skip_nonfinite=Flag(),
)
def auto_average(
    every: jax.typing.ArrayLike = 1,
    *,
    patience: int = 10,
    mode: Literal["min", "max"] = "min",
    window: int | None = None,
    skip_nonfinite: bool = False,
    accumulator_dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    """A tail average that a validation metric starts, and that says when to stop.

    Report the validation metric after each evaluation by :func:`record_metric`: that of
    the iterate at first, and once :func:`averaged_params` averages (``averaging_phase``
    1 in :func:`diagnostics`) that of the average. ``patience`` values in a row without
    improvement start the averaging; a further ``patience`` without improvement of the
    average's metric make :func:`should_stop` True. Everything is in the state, so a run
    resumes exactly.

    Args:
      every: collect each ``every``-th update once started, >= 1.
      patience: values without improvement that end a phase, >= 1.
      mode: ``"min"`` if smaller is better, ``"max"`` if larger is.
      window: start by :func:`non_monotonic_trigger` with this window in place of the
        plateau; nothing then says when to stop, and ``patience`` is not used. Static.
      skip_nonfinite: see :func:`tail_average`.
      accumulator_dtype: see :func:`tail_average`.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax.chain(optax.sgd(0.1), optax_ia.auto_average(patience=1))
      >>> w = jnp.array([1.0])
      >>> state = tx.init(w)
      >>> for loss in [3.0, 3.0, 2.0, 2.0]:
      ...     _, state = tx.update(w, state, w)
      ...     state = optax_ia.record_metric(state, loss)
      ...     phase = optax_ia.diagnostics(state)["averaging_phase"]
      ...     print(phase, optax_ia.num_averaged(state), optax_ia.should_stop(state))
      0 0 False
      1 0 False
      1 1 False
      2 2 True

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, appendix A.2 and table 8.
    """
    sign = sign_of(mode)
    inner: Any = tail_average(
        None,
        every,
        skip_nonfinite=skip_nonfinite,
        accumulator_dtype=accumulator_dtype,
    )

    def init_fn(params):
        return AutoAverageState(
            averaging_phase=jnp.zeros([], jnp.int32),
            patience=jnp.asarray(patience, jnp.int32),
            sign=jnp.asarray(sign, default_float()),
            trigger=plateau_init() if window is None else non_monotonic_init(window),
            average=inner.init(params),
        )

    def update_fn(updates, state, params=None, **extra_args):
        updates, average = inner.update(updates, state.average, params, **extra_args)
        return updates, state._replace(average=average)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)  # pyright: ignore[reportArgumentType]


def _advance(state: AutoAverageState, value: jax.typing.ArrayLike) -> AutoAverageState:
    if isinstance(state.trigger, NonMonotonicState):
        trigger = non_monotonic_update(state.trigger, value, state.sign)
        return state._replace(
            averaging_phase=jnp.maximum(state.averaging_phase, trigger.fired),
            trigger=trigger,
            average=start_next(state.average, trigger.fired),
        )
    trigger = plateau_update(state.trigger, value, state.patience, state.sign)
    fired = trigger.fired
    # the next phase judges another model: its trigger starts afresh
    trigger = jax.tree.map(
        lambda fresh, old: jnp.where(fired, fresh, old), plateau_init(), trigger
    )
    phase = state.averaging_phase
    return state._replace(
        averaging_phase=jnp.minimum(phase + fired, 2),
        trigger=trigger,
        average=start_next(state.average, fired & (phase == 0)),
    )


def _controllers(opt_state: optax.OptState) -> list[AutoAverageState]:
    """The states that watch the metric; one for each group of parameters."""
    found = find_states(opt_state, AutoAverageState)
    if not found:
        raise ValueError(
            f"opt_state holds no AutoAverageState; it comes from {_MAKERS}."
        )
    return found


def record_metric(opt_state: optax.OptState, value: jax.typing.ArrayLike) -> Any:
    """Tells every :func:`auto_average` the newest value of the validation metric.

    Args:
      opt_state: the state of an optimiser with :func:`auto_average`, as
        :func:`gadam_auto`, inside any wrapper.
      value: the metric of the iterate in phase 0, of the averaged model from phase 1
        on; a scalar, may be traced. NaN counts as the worst value.

    Returns:
      The new ``opt_state``, of the same structure.

    Raises:
      ValueError: if ``opt_state`` holds no such state.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> state = optax_ia.gadam_auto(patience=1).init(jnp.ones(1))
      >>> for loss in [1.0, 2.0]:
      ...     state = optax_ia.record_metric(state, loss)
      >>> print(optax_ia.diagnostics(state)["averaging_phase"])
      1
    """

    def change(state):
        # bare arrays, also when a framework keeps the scalars in variables
        own = state._replace(average=None)
        (phase, patience, sign, *trigger), treedef = jax.tree.flatten(own)
        changed = _advance(
            AutoAverageState(
                phase, patience, sign, type(state.trigger)(*trigger), state.average
            ),
            value,
        )
        leaves = jax.tree.leaves(changed._replace(average=None))
        return jax.tree.unflatten(treedef, leaves)._replace(average=changed.average)

    _controllers(opt_state)
    return jax.tree.map(
        lambda node: change(node) if isinstance(node, AutoAverageState) else node,
        opt_state,
        is_leaf=lambda node: isinstance(node, AutoAverageState),
    )


def should_stop(opt_state: optax.OptState) -> jax.Array:
    """Whether the average's metric has stopped improving (see :func:`auto_average`).

    Args:
      opt_state: the state of an optimiser with :func:`auto_average`, inside any
        wrapper.

    Returns:
      A bool array of shape (); for several groups whether all have stopped improving.

    Raises:
      ValueError: if ``opt_state`` holds no such state.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> print(optax_ia.should_stop(optax_ia.gadam_auto().init(jnp.ones(1))))
      False
    """
    states = _controllers(opt_state)
    phases = jnp.stack([bare_scalar(state.averaging_phase) for state in states])
    return jnp.all(phases == 2, axis=0)
