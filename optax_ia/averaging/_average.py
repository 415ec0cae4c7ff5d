"""Averages of the iterates: the plain tail mean and the exponential moving average."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.arguments import Flag, Unchecked, checked
from optax_ia._src.scalars import default_float
from optax_ia.averaging._iterate import Weights, iterate_average


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
    return iterate_average(
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

    return iterate_average(
        "ema_average", weight, start, every, accumulator_dtype, skip_nonfinite
    )
