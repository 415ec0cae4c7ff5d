"""The base learning rate, to which bounds on step sizes are relative."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

EVALUATED = 2**20
"""The number of updates over which the maximum of a schedule is taken."""


def schedule_maximum(schedule: optax.Schedule) -> float:
    """The largest value of a schedule, from its first ``EVALUATED`` values.

    Args:
      schedule: a function of the update count.

    Returns:
      The maximum.

    Raises:
      TypeError: if the schedule cannot be evaluated here, is not finite, or still rises
        in the second half of those updates, so that its maximum is unknown.
    """
    unknown = (
        "{} Pass base_learning_rate: the learning rate at which the bounds have the "
        "values given, usually the schedule's maximum."
    )
    try:
        with (
            jax.ensure_compile_time_eval(),
            jax.debug_nans(False),
            jax.debug_infs(False),
        ):
            counts = jnp.arange(EVALUATED, dtype=jnp.int32)
            rates = np.asarray(jax.jit(jax.vmap(schedule))(counts), float)
    except Exception as error:
        raise TypeError(
            unknown.format(
                "learning_rate is a schedule whose maximum is unknown, since it cannot "
                "be evaluated at construction."
            )
        ) from error
    early, late = np.split(np.nan_to_num(rates, nan=-np.inf, posinf=np.inf), 2)
    largest = float(early.max())
    if not 0 <= largest < np.inf or late.max() > largest * (1 + 1e-6):
        raise TypeError(
            unknown.format(
                "learning_rate is a schedule without a known maximum: its largest "
                f"value is {largest:.3g} in the first {EVALUATED // 2} updates and "
                f"{late.max():.3g} in as many after them."
            )
        )
    return largest


def known_base_rate(
    learning_rate: optax.ScalarOrSchedule,
    base_learning_rate: jax.typing.ArrayLike | None,
) -> Any:
    """The base rate, or None if the learning rate is an array.

    ``optax.inject_hyperparams`` passes every value as an array, so the factory cannot
    tell a number from a schedule. The state then keeps the first value as the base
    rate, and :func:`relative_to_first` refuses a larger one.
    """
    if base_learning_rate is not None:
        return base_learning_rate
    if callable(learning_rate):
        return schedule_maximum(learning_rate)
    return None if isinstance(learning_rate, jax.Array) else learning_rate


def relative_rate(rate: jax.Array, base: jax.typing.ArrayLike) -> jax.Array:
    """``rate / base``, and 0 where the base is 0."""
    base = jnp.asarray(base, rate.dtype)
    return jnp.where(base == 0, 0, rate / jnp.where(base == 0, 1, base))


def first_rate(rate: jax.Array) -> jax.Array:
    """A copy of the first rate, for the state; raises if it is known to be 0."""
    if not isinstance(rate, Tracer) and rate == 0:
        raise ValueError(
            "learning_rate is an array that is 0 at init, as optax.inject_hyperparams "
            "makes of a warm-up from 0, so the base of the bounds is unknown. Pass "
            "base_learning_rate=<the largest learning rate>."
        )
    return jnp.array(rate, copy=True)


def relative_to_first(rate: jax.Array, first: jax.Array) -> jax.Array:
    """:func:`relative_rate` to the first rate; NaN if the rate has risen above it.

    A learning rate that rises was injected from a schedule with a warm-up, whose first
    value is no base rate. Where the values are known the error is raised, and under
    ``jit`` the updates become NaN rather than wrong.
    """
    risen = rate > first * 1.001  # more than the rounding of a low-precision dtype
    if not isinstance(risen, Tracer) and risen:
        raise ValueError(
            f"learning_rate has risen from {float(first):.3g} at init to "
            f"{float(rate):.3g}, so its first value is no base for the bounds. Pass "
            "base_learning_rate=<the largest learning rate>."
        )
    return jnp.where(risen, jnp.nan, relative_rate(rate, first))
