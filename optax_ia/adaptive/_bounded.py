"""Adam with bounded step sizes: the rule of Adam-Clip, AdaBound and AMSBound."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.arguments import Number
from optax_ia._src.scalars import default_float, increment
from optax_ia.adaptive._base_rate import (
    first_rate,
    relative_rate,
    relative_to_first,
)
from optax_ia.schedules import ScaleByLearningRateState

BASE = Number(above=0, optional=True)
"""The kind of the argument ``base_learning_rate``."""


class BoundedAdamState(NamedTuple):
    """State of :func:`adam_clip`, :func:`adabound` and :func:`amsbound`.

    Attributes:
      rate: the update count and the learning rate of the last update.
      base_rate: the first learning rate, shape (), the default float, where it serves
        as the base rate; None if the base rate is known at construction.
      mu: first moment, with the structure and dtypes of the parameters.
      nu: second moment, with the structure and dtypes of the parameters.
      nu_max: running maximum of ``nu``; None except for AMSBound.
    """

    rate: ScaleByLearningRateState
    base_rate: Any
    mu: optax.Updates
    nu: optax.Updates
    nu_max: Any


def bounded_adam(
    learning_rate: optax.ScalarOrSchedule,
    base_rate: Any,
    bounds: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
    b1: jax.typing.ArrayLike,
    b2: jax.typing.ArrayLike,
    eps: jax.typing.ArrayLike,
    amsgrad: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam that clips its step sizes, which include the learning rate.

    Args:
      learning_rate: a number or a schedule.
      base_rate: the learning rate that the bounds are relative to; None for the first
        learning rate.
      bounds: maps the update number, from 1, and the learning rate relative to the base
        rate to the lower and the upper bound.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added outside the square root, before the bias correction.
      amsgrad: divide by the root of the maximum of the uncorrected second moments.

    Returns:
      The transformation, with the learning rate applied.
    """

    def rate_at(count):
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        return jnp.asarray(rate, default_float())

    def init_fn(params):
        count = jnp.zeros([], jnp.int32)
        rate = rate_at(count)
        return BoundedAdamState(
            rate=ScaleByLearningRateState(count, rate),
            base_rate=first_rate(rate) if base_rate is None else None,
            mu=optax.tree.zeros_like(params),
            nu=optax.tree.zeros_like(params),
            nu_max=optax.tree.zeros_like(params) if amsgrad else None,
        )

    def update_fn(updates, state, params=None, **extra_args):
        del params, extra_args
        rate = rate_at(state.rate.count)
        count = increment(state.rate.count)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        mu = optax.tree.cast_like(mu, state.mu)
        nu = optax.tree.cast_like(nu, state.nu)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu) if amsgrad else None

        if base_rate is None:
            relative = relative_to_first(rate, state.base_rate)
        else:
            relative = relative_rate(rate, base_rate)
        lower, upper = bounds(count, relative)
        # A learning rate of 0 is no movement, also if SGD's rate has its own schedule.
        lower = jnp.where(rate == 0, 0, lower)
        scale = rate * jnp.sqrt(1 - b2**count) / (1 - b1**count)

        def step(g, m, v):
            size = scale.astype(v.dtype) / (jnp.sqrt(v) + jnp.asarray(eps, v.dtype))
            size = jnp.clip(size, lower.astype(v.dtype), upper.astype(v.dtype))
            return (-size * m).astype(g.dtype)

        updates = jax.tree.map(step, updates, mu, nu_max if amsgrad else nu)
        return updates, BoundedAdamState(
            ScaleByLearningRateState(count, rate), state.base_rate, mu, nu, nu_max
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
