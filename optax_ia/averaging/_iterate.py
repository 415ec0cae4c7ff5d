"""The state of an iterate average, how it collects, and the transformation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_ia._src import checks
from optax_ia._src.diagnostics import read_diagnostics
from optax_ia._src.scalars import default_float
from optax_ia.averaging._collect import (
    NEVER,
    accumulator_dtype_of,
    advance,
    after,
    average_of,
    collect,
    diagnostics_of,
    is_finite,
    is_pending,
    saturating_add,
    stored_value,
)

Weights = Callable[[jax.Array], jax.typing.ArrayLike]
"""The relative weight of the n-th collected iterate, from n (a float of shape ())."""


class IterateAverageState(NamedTuple):
    """State of :func:`tail_average` and :func:`ema_average`.

    The average is ``base + offset``. The offset takes up the collected iterates and is
    added to the base from time to time: kept apart, small weights move it although they
    would be lost in the rounding of the base.

    Attributes:
      count: number of updates done, shape (), int32.
      num_averaged: number of iterates in the average, shape (), int32; the iterate of a
        collecting update enters with the next update (see ``next_at``).
      next_at: the update whose iterate is collected next, shape (), int32; the largest
        int32 before the average has started. If it equals ``count``, the iterate is the
        next parameters that arrive.
      weight: the weight of the iterate collected next, shape (), a fraction of 1.
      num_in_offset: number of iterates collected since the base has moved, shape (),
        int32; while it is 0, ``offset`` has no meaning and counts as zero.
      base: the tree of the parameters in the accumulator's dtype.
      offset: as ``base``; integer leaves hold the newest iterate.
      weight_sum: the sum of the weights of the collected iterates and the rounding
        error of that sum, shape (2,); None without ``weights``.
      num_skipped: number of iterates left out because they were not finite, shape (),
        int32; None without ``skip_nonfinite``.
    """

    count: jax.Array
    num_averaged: jax.Array
    next_at: jax.Array
    weight: jax.Array
    num_in_offset: jax.Array
    base: optax.Params
    offset: optax.Params
    weight_sum: jax.Array | None = None
    num_skipped: jax.Array | None = None


@read_diagnostics.register
def _(state: IterateAverageState) -> dict[str, jax.Array]:
    return diagnostics_of(state)


def _mean(base: jax.Array, offset: jax.Array, in_use: jax.Array) -> jax.Array:
    if not jnp.issubdtype(base.dtype, jnp.inexact):
        return jnp.where(in_use, offset, base)
    return jnp.where(in_use, base + offset, base)


@average_of.register
def _(state: IterateAverageState) -> Any:
    in_use = state.num_in_offset > 0
    return jax.tree.map(
        lambda base, offset: _mean(base, offset, in_use), state.base, state.offset
    )


def _into_base(state: IterateAverageState, params: Any) -> Any:
    """The base with ``params`` and the offset in it."""
    in_use = state.num_in_offset > 0

    def fold(base, offset, param):
        if not jnp.issubdtype(base.dtype, jnp.inexact):
            return param
        mean = _mean(base, offset, in_use)
        weight = state.weight.astype(base.dtype)
        return mean + weight * (stored_value(param, base.dtype) - mean)

    return jax.tree.map(fold, state.base, state.offset, params)


def _into_offset(state: IterateAverageState, params: Any) -> Any:
    """The offset with ``params`` in it."""
    in_use = state.num_in_offset > 0

    def fold(base, offset, param):
        if not jnp.issubdtype(base.dtype, jnp.inexact):
            return param
        offset = jnp.where(in_use, offset, 0)
        weight = state.weight.astype(base.dtype)
        difference = (stored_value(param, base.dtype) - base) - offset
        return offset + weight * difference

    return jax.tree.map(fold, state.base, state.offset, params)


@collect.register
def _(state: IterateAverageState, params: Any) -> IterateAverageState:
    collected = state._replace(
        num_averaged=saturating_add(state.num_averaged, 1),
        base=_into_base(state, params),
        num_in_offset=jnp.zeros_like(state.num_in_offset),
    )
    if state.num_skipped is None:
        return collected
    finite = is_finite(params)
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), collected, state)


def _collect_if(
    due: jax.Array, state: IterateAverageState, params: Any
) -> IterateAverageState:
    """As :func:`collect` where ``due``, into one of the two trees.

    The base moves once the iterates since it has moved weigh a sixteenth. So the offset
    stays within sixteen weights of zero, or the rounding errors of the base stay few.

    The two conditionals write one tree each, the second after the first: XLA then
    writes in place, and copies a tree in each step if one conditional writes both.
    """
    if state.num_skipped is not None:
        finite = lax.cond(due, is_finite, lambda _: jnp.array(True), params)
        skipped = saturating_add(state.num_skipped, due & ~finite)
        state, due = state._replace(num_skipped=skipped), due & finite
    moves_base = (state.num_in_offset + 1) * state.weight >= 1 / 16
    count = state.num_averaged
    more = saturating_add(count, 1)

    offset, count = lax.cond(
        due & ~moves_base,
        lambda state, params: (_into_offset(state, params), more),
        lambda state, _: (state.offset, count),
        state,
        params,
    )
    state = state._replace(offset=offset)
    base, count = lax.cond(
        due & moves_base & (count >= 0),
        lambda state, params: (_into_base(state, params), more),
        lambda state, _: (state.base, count),
        state,
        params,
    )
    in_offset = jnp.where(moves_base, 0, saturating_add(state.num_in_offset, 1))
    return state._replace(
        num_averaged=count,
        num_in_offset=jnp.where(due, in_offset, state.num_in_offset),
        base=base,
    )


def _two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``a + b`` rounded, and the rounding error (Knuth's TwoSum)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def iterate_average(
    name: str,
    weight: Callable[[jax.Array], Any],
    start: jax.typing.ArrayLike | None,
    every: jax.typing.ArrayLike,
    dtype: Any,
    skip_nonfinite: bool,
    weights: Weights | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The transformation behind both averages.

    Args:
      name: the public name, for messages.
      weight: the weight of the n-th collected iterate, from n (float, shape ()), in
        ``average += weight * (iterate - average)``; must be 1 at n = 1.
      start: first update collected, or None.
      every: distance between collected updates.
      dtype: least precise dtype of the accumulator.
      skip_nonfinite: whether iterates that are not finite are left out.
      weights: relative weights, in place of ``weight``.
    """
    dtype = jnp.dtype(dtype)

    def init_fn(params):
        def zeros(param):
            return jnp.zeros_like(param, dtype=accumulator_dtype_of(param, dtype))

        return IterateAverageState(
            count=jnp.zeros([], jnp.int32),
            num_averaged=jnp.zeros([], jnp.int32),
            next_at=jnp.full([], NEVER, jnp.int32),
            weight=jnp.zeros([], default_float()),
            num_in_offset=jnp.zeros([], jnp.int32),
            base=jax.tree.map(zeros, params),
            offset=jax.tree.map(zeros, params),
            weight_sum=None if weights is None else jnp.zeros([2], default_float()),
            num_skipped=jnp.zeros([], jnp.int32) if skip_nonfinite else None,
        )

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        params = checks.check_params(name, params)
        count, next_at = advance(state, start, every)
        collected = _collect_if(is_pending(state), state, params)
        weight_sum = collected.weight_sum
        n = collected.num_averaged.astype(default_float()) + 1
        if weights is None:
            fraction = weight(n)
        else:
            assert weight_sum is not None  # init made it for these weights
            newest = jnp.asarray(weights(n - 1), weight_sum.dtype)
            entered = collected.num_averaged != state.num_averaged
            total, error = _two_sum(weight_sum[0], weight_sum[1] + newest)
            weight_sum = jnp.where(entered, jnp.stack([total, error]), weight_sum)
            newest = jnp.asarray(weights(n), weight_sum.dtype)
            total = weight_sum[0] + newest
            # Before the first positive weight the average is the newest iterate.
            positive = total > 0
            fraction = jnp.where(positive, newest / jnp.where(positive, total, 1), 1)
        updates = after(collected.num_averaged, updates)
        return updates, collected._replace(
            count=count,
            next_at=next_at,
            weight=jnp.asarray(fraction, state.weight.dtype),
            weight_sum=weight_sum,
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)  # pyright: ignore[reportArgumentType]
