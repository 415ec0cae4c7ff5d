"""The path of one method at several learning rates, all of them at once."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_ia
from experiments.configs.p2.trajectories import (
    NOT_APPLICABLE,
    SETTINGS,
    VARIANTS,
    rates_of,
)
from experiments.optimizers import needs_start
from experiments.trajectories._problems import Problem
from optax_ia import registry


class NotApplicable(Exception):
    """A method that cannot run on a function of two parameters, and why."""


@dataclasses.dataclass(frozen=True)
class Paths:
    """What one method did on one function.

    Attributes:
      method: registry name, or a variant's.
      problem: the function.
      rates: the learning rates.
      arguments: the others that the method was made with, as in a call.
      points: shape (rates, 1 + steps, 2), the start first; not finite where a run
        overflowed.
      values: the function there, shape (rates, 1 + steps).
      averages: the average's end points, shape (rates, 2); None without one.
      average_values: the function there, shape (rates,); None without one.
      state: the last state's diagnostics, each of shape (rates,).
    """

    method: str
    problem: Problem
    rates: tuple[float, ...]
    arguments: str
    points: np.ndarray
    values: np.ndarray
    averages: np.ndarray | None
    average_values: np.ndarray | None
    state: dict[str, np.ndarray]


def _extra_arguments(
    function: Callable[..., jax.Array], needs: tuple[str, ...]
) -> Callable[[jax.Array, jax.Array, jax.Array], dict[str, Any]]:
    """What ``update`` is given besides the gradient, by the record's ``needs``.

    The function has no data, so the full gradient is the gradient.
    """
    makers: dict[str, Callable[..., Any]] = {
        "grad_fn": lambda value, grads, params: jax.grad(function),
        "value_fn": lambda value, grads, params: function,
        "value": lambda value, grads, params: value,
        "grad": lambda value, grads, params: grads,
        "full_gradient": lambda value, grads, params: grads,
    }
    missing = [name for name in needs if name not in makers]
    if missing:
        raise NotApplicable(
            f"update needs {', '.join(missing)}, which a plain function does not give"
        )

    def extra(value, grads, params):
        return {name: makers[name](value, grads, params) for name in needs}

    return extra


def _overrides(record: optax_ia.OptimizerRecord, steps: int) -> dict[str, Any]:
    """Arguments of a method: no decay, averages over the second half of the run.

    A decay would add a pull towards the origin to the function that is drawn.
    """
    parameters = inspect.signature(record.factory).parameters
    overrides: dict[str, Any] = {}
    if "weight_decay" in parameters:
        overrides["weight_decay"] = 0.0
    if needs_start(record.name):
        overrides["start"] = steps // 2 + 1
    return overrides | dict(SETTINGS.get(record.name, {}))


def _takes_metric(state: optax.OptState) -> bool:
    """Whether the state is to be told of a validation metric."""
    try:
        jax.eval_shape(optax_ia.record_metric, state, 0.0)
    except ValueError:
        return False
    return True


def run(method: str, problem: Problem, steps: int) -> Paths:
    """Runs a method at all its learning rates.

    Args:
      method: registry name, or a variant's.
      problem: the function and the start.
      steps: updates.

    Returns:
      The paths, in float64.

    Raises:
      NotApplicable: if the method cannot run on two parameters without data.
    """
    name, chosen, _ = VARIANTS.get(method, (method, {}, ""))
    record = registry.get_record(name)
    if name in NOT_APPLICABLE:
        raise NotApplicable(NOT_APPLICABLE[name])
    function = problem.function
    extra = _extra_arguments(function, record.needs)
    overrides = _overrides(record, steps) | chosen

    def from_rate(rate):
        tx = record.make(learning_rate=rate, **overrides)
        start = jnp.asarray(problem.start)
        opt_state = tx.init(start)
        takes_metric = _takes_metric(opt_state)

        def step(carry, _):
            params, opt_state = carry
            value, grads = jax.value_and_grad(function)(params)
            updates, opt_state = tx.update(
                grads, opt_state, params, **extra(value, grads, params)
            )
            params = jnp.asarray(optax.apply_updates(params, updates))
            if takes_metric:  # of the average, once there is one
                judged: Any = optax_ia.averaged_params(opt_state, params)
                opt_state = optax_ia.record_metric(opt_state, function(judged))
            return (params, opt_state), params

        (params, opt_state), path = jax.lax.scan(step, (start, opt_state), length=steps)
        points = jnp.concatenate([start[None], path])
        average = None
        if record.averages:
            average = optax_ia.averaged_params(opt_state, params)
        return points, average, optax_ia.diagnostics(opt_state)

    rates = rates_of(method, problem.name)
    with jax.enable_x64(True):
        traced = jax.jit(jax.vmap(from_rate))
        try:
            lowered = traced.lower(jnp.asarray(rates, jnp.float64))
        except (ValueError, TypeError, NotImplementedError) as error:
            first_line = str(error).partition("\n")[0]
            raise NotApplicable(f"refused: {first_line}") from error
        points, averages, state = lowered.compile()(jnp.asarray(rates, jnp.float64))
        return Paths(
            method=method,
            problem=problem,
            rates=rates,
            arguments=", ".join(f"{name}={v!r}" for name, v in overrides.items()),
            points=np.asarray(points),
            values=np.asarray(function(points)),
            averages=None if averages is None else np.asarray(averages),
            average_values=None if averages is None else np.asarray(function(averages)),
            state={name: np.asarray(value) for name, value in state.items()},
        )
