"""Averages of the iterates: the plain tail mean and the exponential moving average."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_ia._src import checks
from optax_ia._src.arguments import checked
from optax_ia._src.diagnostics import read_diagnostics
from optax_ia._src.scalars import default_float, increment

NEVER = jnp.iinfo(jnp.int32).max
"""The start of an average that waits for ``start_averaging``."""


class IterateAverageState(NamedTuple):
    """State of :func:`tail_average` and :func:`ema_average`.

    Attributes:
      count: number of updates done, shape (), int32.
      num_averaged: number of iterates collected, shape (), int32.
      started_at: the update from which ``start_averaging`` collects, shape (), int32;
        the largest int32 until it is called.
      average: the average of the collected iterates, the tree of the parameters in the
        accumulator's dtype; zeros until one is collected.
    """

    count: jax.Array
    num_averaged: jax.Array
    started_at: jax.Array
    average: optax.Params


@read_diagnostics.register
def _(state: IterateAverageState) -> dict[str, jax.Array]:
    return {"num_averaged": state.num_averaged}


def _accumulator_dtype(param: jax.typing.ArrayLike, dtype: Any) -> Any:
    """The wider of ``dtype`` and the parameter's own; integers are not averaged."""
    own = jnp.asarray(param).dtype
    return jnp.promote_types(own, dtype) if jnp.issubdtype(own, jnp.inexact) else own


def _stored_value(iterate: jax.Array, dtype: Any) -> jax.Array:
    """Widens an iterate, keeping the rounding of its own dtype.

    XLA may carry a bfloat16 result on in float32 when it fuses, and would average
    values that the user never sees.
    """
    if jnp.finfo(iterate.dtype).bits < jnp.finfo(dtype).bits:
        info = jnp.finfo(iterate.dtype)
        rounded = lax.reduce_precision(iterate.astype(dtype), info.nexp, info.nmant)
        return rounded
    return iterate.astype(dtype)


def _iterate_average(
    name: str,
    weight: Callable[[jax.Array], Any],
    start: jax.typing.ArrayLike | None,
    every: jax.typing.ArrayLike,
    dtype: Any,
) -> optax.GradientTransformationExtraArgs:
    """The transformation behind both averages.

    Args:
      name: the public name, for messages.
      weight: the weight of the n-th collected iterate, from n (float, shape ()), in
        ``average += weight * (iterate - average)``; must be 1 at n = 1.
      start: first update collected, or None.
      every: distance between collected updates.
      dtype: least precise dtype of the accumulator.
    """
    dtype = jnp.dtype(dtype)

    def init_fn(params):
        return IterateAverageState(
            count=jnp.zeros([], jnp.int32),
            num_averaged=jnp.zeros([], jnp.int32),
            started_at=jnp.full([], NEVER, jnp.int32),
            average=jax.tree.map(
                lambda p: jnp.zeros_like(p, dtype=_accumulator_dtype(p, dtype)), params
            ),
        )

    def fold(average, iterate, num_averaged):
        w = jnp.asarray(weight(num_averaged.astype(default_float())))

        def fold_leaf(a, p):
            if not jnp.issubdtype(a.dtype, jnp.inexact):
                return p
            return a + w.astype(a.dtype) * (_stored_value(p, a.dtype) - a)

        return jax.tree.map(fold_leaf, average, iterate)

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        params = checks.check_params(name, params)
        count = increment(state.count)
        first = state.started_at
        if start is not None:
            first = jnp.minimum(first, jnp.asarray(start, jnp.int32))
        collect = (count >= first) & (
            (count - first) % jnp.asarray(every, jnp.int32) == 0
        )
        num_averaged = state.num_averaged + collect
        # The same expression as the caller's apply_updates, outside the conditional:
        # XLA computes it once, and a step that does not collect pays nothing.
        iterate = optax.apply_updates(params, updates)
        average = lax.cond(
            collect,
            fold,
            lambda average, *_: average,
            state.average,
            iterate,
            num_averaged,
        )
        return updates, IterateAverageState(
            count, num_averaged, state.started_at, average
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


@checked(complex_params=True)
def tail_average(
    start: jax.typing.ArrayLike | None,
    every: jax.typing.ArrayLike = 1,
    *,
    dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    r"""Keeps the plain mean of the iterates from ``start`` on; changes no update.

    With :math:`w_t` the parameters after update t (1-based), the iterates
    :math:`C = \{t : t \ge s,\ (t-s) \bmod k = 0\}` are collected, and the average is

    .. math::
      \bar w = \frac{1}{|C|} \sum_{t \in C} w_t,

    kept as a running mean. It must stand last in a chain, where the updates are what is
    added to the parameters. Read it with :func:`averaged_params`.

    Args:
      start: :math:`s`, the first update collected, an integer >= 0; None waits for
        :func:`start_averaging`. Start when the validation error levels out; a common
        choice is after half to three quarters of the run.
      every: :math:`k` >= 1. Once per epoch is the usual choice: iterates further apart
        are less correlated, and the steps between cost nothing.
      dtype: the accumulator is this or the parameter's dtype, whichever is wider.

    Returns:
      The transformation; ``update`` needs ``params``. One more tree of state.

    Raises:
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
    return _iterate_average("tail_average", lambda n: 1 / n, start, every, dtype)


@checked(complex_params=True)
def ema_average(
    decay: jax.typing.ArrayLike,
    *,
    start: jax.typing.ArrayLike | None = 0,
    debias: bool = True,
    every: jax.typing.ArrayLike = 1,
    dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    r"""Keeps an exponential moving average of the iterates; changes no update.

    Over the collected iterates :math:`w_1, w_2, \dots` (chosen by ``start`` and
    ``every`` as in :func:`tail_average`), with :math:`\rho` = ``decay``,

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
      dtype: the accumulator is this or the parameter's dtype, whichever is wider: in
        bfloat16 a decay of 0.9999 would not move.

    Returns:
      The transformation; ``update`` needs ``params``. One more tree of state.

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
    if isinstance(decay, int | float):
        log_decay = math.log(decay) if decay > 0 else -math.inf
    else:
        log_decay = jnp.log(decay)

    def weight(n):
        newest = -jnp.expm1(jnp.asarray(log_decay, n.dtype))
        if debias:
            newest = newest / -jnp.expm1(n * jnp.asarray(log_decay, n.dtype))
        return jnp.where(n == 1, 1, newest)

    return _iterate_average("ema_average", weight, start, every, dtype)
