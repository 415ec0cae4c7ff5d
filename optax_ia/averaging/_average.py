"""Averages of the iterates: the plain tail mean and the exponential moving average."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_ia._src import checks
from optax_ia._src.arguments import Flag, Unchecked, checked
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


def _iterate_average(
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

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _check_weights(weights: Any) -> None:
    if weights is None:
        return
    if not callable(weights):
        raise TypeError(
            "weights must be a function of n, the number of the collected iterate, got "
            f"{weights!r}. Under optax.inject_hyperparams name it in static_args."
        )
    first = jnp.asarray(weights(jnp.ones([], default_float())))
    if first.shape or not jnp.issubdtype(first.dtype, jnp.floating):
        raise ValueError(
            "weights must return one real number, got shape "
            f"{first.shape} and dtype {first.dtype} from weights(1.0)."
        )


@checked(complex_params=True, weights=Unchecked(), skip_nonfinite=Flag())
def tail_average(
    start: jax.typing.ArrayLike | None,
    every: jax.typing.ArrayLike = 1,
    *,
    weights: Weights | None = None,
    skip_nonfinite: bool = False,
    accumulator_dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    r"""Keeps the mean of the iterates from ``start`` on; changes no update.

    With :math:`w_t` the parameters after update t (1-based), the iterates
    :math:`C = \{t : t \ge s,\ (t-s) \bmod k = 0\}` are collected, and the average is

    .. math::
      \bar w = \frac{1}{|C|} \sum_{t \in C} w_t,

    kept in two parts (see :class:`IterateAverageState`), so that it is exact to a few
    roundings however many iterates it has. Read it with
    :func:`averaged_params`. :func:`with_average` puts it around any optimiser.

    The iterate is the ``params`` that the next ``update`` (or the read-out) receives.
    So its place in a chain does not matter, and the average is exact whatever changes
    updates or parameters after it: a frozen leaf, a clipped or normalised weight.

    Args:
      start: :math:`s`, the first update collected, an integer >= 0; None waits for
        :func:`start_averaging`. Start when the validation error levels out; a common
        choice is after half to three quarters of the run.
      every: :math:`k` >= 1. Once per epoch is the usual choice: iterates further apart
        are less correlated, and the steps between cost nothing.
      weights: the relative weight of the n-th collected iterate, a function of n (1, 2,
        ..., as a float scalar) with values >= 0, which need not sum to 1; None weighs
        all alike. ``lambda n: n`` favours late iterates.
      skip_nonfinite: leave out an iterate if any entry of it is not finite, so that one
        NaN does not end the average; the number left out is in :func:`diagnostics`.
      accumulator_dtype: the accumulator has this or the parameter's dtype, whichever is
        wider.

    Returns:
      The transformation; ``update`` needs ``params``. Two more trees of state.

    Raises:
      TypeError: if ``weights`` is no function.
      ValueError: if a concrete argument is out of its range, or ``params`` is missing.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax.chain(optax.sgd(1.0), optax_ia.tail_average(start=2))
      >>> w = jnp.array([0.0])
      >>> state = tx.init(w)
      >>> for _ in range(4):  # iterates 1, 2, 3, 4
      ...     updates, state = tx.update(jnp.array([-1.0]), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> print(w, optax_ia.averaged_params(state, w))  # the mean of 2, 3, 4
      [4.] [3.]

    .. note::
      Algorithm 1 read literally also weighs in the iterate before T_avg; it does not
      here. Batch statistics are never averaged: re-estimate them for the average
      (``optax_ia.flax.recalibrate_batch_stats``).

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, section 2, Algorithm 1, appendix A.1; Izmailov et al., `Averaging
      Weights Leads to Wider Optima and Better Generalization
      <https://arxiv.org/abs/1803.05407>`_, 2018.
    """
    _check_weights(weights)
    return _iterate_average(
        "tail_average",
        lambda n: 1 / n,
        start,
        every,
        accumulator_dtype,
        skip_nonfinite,
        weights,
    )


@checked(complex_params=True, skip_nonfinite=Flag())
def ema_average(
    decay: jax.typing.ArrayLike,
    *,
    start: jax.typing.ArrayLike | None = 0,
    debias: bool = True,
    every: jax.typing.ArrayLike = 1,
    skip_nonfinite: bool = False,
    accumulator_dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    r"""Keeps an exponential moving average of the iterates; changes no update.

    Over the collected iterates :math:`w_1, w_2, \dots` (chosen by ``start`` and
    ``every`` as in :func:`tail_average`, and as exact), with :math:`\rho` = ``decay``,

    .. math::
      \bar w_n = \frac{(1-\rho) \sum_{i=1}^n \rho^{n-i} w_i}{1-\rho^n}
      \quad\text{(debias)},\qquad
      \bar w_n = \rho\,\bar w_{n-1} + (1-\rho)\,w_n,\ \bar w_1 = w_1
      \quad\text{(otherwise).}

    Averaging divides the iterates' noise by :math:`(1+\rho)/(1-\rho)` if they are
    independent; unlike the tail mean's, the noise does not vanish with time.

    Args:
      decay: :math:`\rho` in [0, 1). Larger is smoother and slower; may be traced.
      start: the first update collected, an integer >= 0; None waits for
        :func:`start_averaging`.
      debias: weigh as if the average had started at zero and been corrected; False
        gives the first iterate the weight of all that came before it, as
        ``torch.optim.swa_utils.get_ema_multi_avg_fn`` does. Static.
      every: collect each ``every``-th update from ``start``, >= 1.
      skip_nonfinite: leave out an iterate if any entry of it is not finite, as in
        :func:`tail_average`.
      accumulator_dtype: the accumulator has this or the parameter's dtype, whichever is
        wider; also a decay of 1 - 1e-5 moves a float32 one.

    Returns:
      The transformation; ``update`` needs ``params``. Two more trees of state.

    Raises:
      ValueError: if a concrete argument is out of its range, or ``params`` is missing.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax.chain(optax.sgd(1.0), optax_ia.ema_average(0.5))
      >>> w = jnp.array([0.0])
      >>> state = tx.init(w)
      >>> for _ in range(2):  # iterates 1, 2
      ...     updates, state = tx.update(jnp.array([-1.0]), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> average = optax_ia.averaged_params(state, w)
      >>> print(f"{average[0]:.4f}")  # (0.25 * 1 + 0.5 * 2) / 0.75
      1.6667

    .. note::
      ``optax.ema`` averages updates, not parameters.

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, section 4 and appendix A.
    """
    # 1 - decay and 1 - decay**n = -expm1(n log(decay)) from the same logarithm: near
    # decay 1 a float32 would lose the digits that tell them apart
    least = float(jnp.finfo(jnp.float32).tiny)  # in place of 0, whose logarithm is -inf
    if isinstance(decay, int | float):
        log_decay = math.log(max(decay, least))
    else:
        log_decay = jnp.log(jnp.maximum(decay, least))

    def weight(n):
        newest = -jnp.expm1(jnp.asarray(log_decay, n.dtype))
        if debias:
            newest = newest / -jnp.expm1(n * jnp.asarray(log_decay, n.dtype))
        return jnp.where(n == 1, 1, newest)

    return _iterate_average(
        "ema_average", weight, start, every, accumulator_dtype, skip_nonfinite
    )
