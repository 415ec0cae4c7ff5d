"""Any optimiser with an average of its iterates."""

from typing import Any, Literal

import jax
import optax

from optax_ia._src.arguments import Flag, Integer, Optimizer, Unchecked, checked
from optax_ia.averaging._auto import auto_average
from optax_ia.averaging._average import ema_average, tail_average
from optax_ia.averaging._iterate import Weights
from optax_ia.averaging._window import window_average


def _followed_by(
    optimizer: optax.GradientTransformation, average: optax.GradientTransformation
) -> Any:
    if isinstance(optimizer, optax.MultiSteps):
        raise TypeError(
            "optimizer must not be an optax.MultiSteps: the average would count "
            "micro-steps. Put MultiSteps outside: "
            "optax.MultiSteps(with_average(optimizer, ...), every_k_schedule)."
        )
    return optax.chain(optimizer, average)


@checked(
    complex_params=True,
    optimizer=Optimizer(instead="swa"),
    weights=Unchecked(),
    skip_nonfinite=Flag(),
)
def with_average(
    optimizer: optax.GradientTransformation,
    start: jax.typing.ArrayLike | None,
    every: jax.typing.ArrayLike = 1,
    *,
    weights: Weights | None = None,
    skip_nonfinite: bool = False,
    accumulator_dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    """Any optimiser, and the mean of its iterates from ``start`` on.

    The steps are those of ``optimizer``; :func:`averaged_params` reads the average.

    Args:
      optimizer: any Optax optimiser, its learning rate included. Extra arguments of
        ``update`` go to it. Accumulation goes outside:
        ``optax.MultiSteps(with_average(...), k)``.
      start: the first update whose iterate is averaged, an integer >= 0; None waits for
        :func:`start_averaging`. A common choice is after half to three quarters of the
        run.
      every: average each ``every``-th iterate, >= 1; once per epoch is usual.
      weights: see :func:`tail_average`.
      skip_nonfinite: see :func:`tail_average`.
      accumulator_dtype: see :func:`tail_average`.

    Returns:
      The optimiser; ``update`` needs ``params``.

    Raises:
      TypeError: if ``optimizer`` is no optimiser, or an ``optax.MultiSteps``.
      ValueError: if a concrete argument is out of its range.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.with_average(optax.sgd(1.0), start=2)
      >>> w = jnp.array([0.0])
      >>> state = tx.init(w)
      >>> for _ in range(4):  # iterates 1, 2, 3, 4
      ...     updates, state = tx.update(jnp.array([-1.0]), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> print(optax_ia.averaged_params(state, w))  # the mean of 2, 3, 4
      [3.]

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, Algorithm 1.
    """
    return _followed_by(
        optimizer,
        tail_average(
            start,
            every,
            weights=weights,
            skip_nonfinite=skip_nonfinite,
            accumulator_dtype=accumulator_dtype,
        ),
    )


@checked(
    complex_params=True,
    optimizer=Optimizer(instead="adamw_ema"),
    skip_nonfinite=Flag(),
)
def with_ema_average(
    optimizer: optax.GradientTransformation,
    decay: jax.typing.ArrayLike,
    *,
    start: jax.typing.ArrayLike | None = 0,
    debias: bool = True,
    every: jax.typing.ArrayLike = 1,
    skip_nonfinite: bool = False,
    accumulator_dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    """Any optimiser, and an exponential moving average of its iterates.

    The steps are those of ``optimizer``; :func:`averaged_params` reads the average.

    Args:
      optimizer: any Optax optimiser, as in :func:`with_average`.
      decay: see :func:`ema_average`, as all arguments that follow.
      start: the first update whose iterate is averaged.
      debias: whether the weights of the iterates sum to 1 without favouring the first.
      every: average each ``every``-th iterate.
      skip_nonfinite: leave out iterates that are not finite.
      accumulator_dtype: the least precise dtype of the accumulator.

    Returns:
      The optimiser; ``update`` needs ``params``.

    Raises:
      TypeError: if ``optimizer`` is no optimiser, or an ``optax.MultiSteps``.
      ValueError: if a concrete argument is out of its range.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.with_ema_average(optax.sgd(1.0), 0.5)
      >>> w = jnp.array([0.0])
      >>> state = tx.init(w)
      >>> for _ in range(2):  # iterates 1, 2
      ...     updates, state = tx.update(jnp.array([-1.0]), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> average = optax_ia.averaged_params(state, w)
      >>> print(f"{average[0]:.4f}")  # (0.25 * 1 + 0.5 * 2) / 0.75
      1.6667

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, section 4.
    """
    return _followed_by(
        optimizer,
        ema_average(
            decay,
            start=start,
            debias=debias,
            every=every,
            skip_nonfinite=skip_nonfinite,
            accumulator_dtype=accumulator_dtype,
        ),
    )


@checked(
    complex_params=True,
    optimizer=Optimizer(instead="sgd"),
    skip_nonfinite=Flag(),
)
def with_window_average(
    optimizer: optax.GradientTransformation,
    window: int,
    every: jax.typing.ArrayLike = 1,
    *,
    start: jax.typing.ArrayLike | None = 0,
    skip_nonfinite: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Any optimiser, and the mean of its last ``window`` collected iterates (LAWA).

    The steps are those of ``optimizer``; :func:`averaged_params` reads the average.

    Args:
      optimizer: any Optax optimiser, as in :func:`with_average`.
      window: the number of iterates; the state holds that many copies of the
        parameters. Static.
      every: collect each ``every``-th iterate; hundreds of updates apart is usual.
      start: the first update collected; None waits for :func:`start_averaging`.
      skip_nonfinite: leave out iterates that are not finite.

    Returns:
      The optimiser; ``update`` needs ``params``.

    Raises:
      TypeError: if ``optimizer`` is no optimiser, or an ``optax.MultiSteps``.
      ValueError: if a concrete argument is out of its range.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.with_window_average(optax.sgd(1.0), window=2)
      >>> w = jnp.array([0.0])
      >>> state = tx.init(w)
      >>> for _ in range(4):  # iterates 1, 2, 3, 4
      ...     updates, state = tx.update(jnp.array([-1.0]), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> print(optax_ia.averaged_params(state, w))  # the mean of 3, 4
      [3.5]

    References:
      Kaddour, `Stop Wasting My Time! Saving Days of ImageNet and BERT Training with
      Latest Weight Averaging <https://arxiv.org/abs/2209.14981>`_, 2022.
    """
    return _followed_by(
        optimizer,
        window_average(window, every, start=start, skip_nonfinite=skip_nonfinite),
    )


@checked(
    complex_params=True,
    optimizer=Optimizer(instead="gadam_auto"),
    window=Integer(minimum=1, static=True, optional=True),
    skip_nonfinite=Flag(),
)
def with_auto_average(
    optimizer: optax.GradientTransformation,
    every: jax.typing.ArrayLike = 1,
    *,
    patience: int = 10,
    mode: Literal["min", "max"] = "min",
    window: int | None = None,
    skip_nonfinite: bool = False,
    accumulator_dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    """Any optimiser, with a tail average that a validation metric starts.

    Report the metric by :func:`record_metric` after each evaluation; end the run when
    :func:`should_stop` says so.

    Args:
      optimizer: any Optax optimiser, as in :func:`with_average`; keep its learning rate
        constant.
      every: average each ``every``-th iterate once averaging has started.
      patience: see :func:`auto_average`, as all arguments that follow.
      mode: ``"min"`` if a smaller metric is better, ``"max"`` if a larger is.
      window: start by the non-monotonic trigger with this window instead. Static.
      skip_nonfinite: leave out iterates that are not finite.
      accumulator_dtype: the least precise dtype of the accumulator.

    Returns:
      The optimiser; ``update`` needs ``params``.

    Raises:
      TypeError: if ``optimizer`` is no optimiser, or an ``optax.MultiSteps``.
      ValueError: if a concrete argument is out of its range.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.with_auto_average(optax.sgd(0.1), patience=1)
      >>> w = jnp.array([1.0])
      >>> state = tx.init(w)
      >>> for loss in [3.0, 3.0, 2.0]:
      ...     _, state = tx.update(w, state, w)
      ...     state = optax_ia.record_metric(state, loss)
      >>> print(optax_ia.num_averaged(state))
      1

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, appendix A.2 and table 8.
    """
    return _followed_by(
        optimizer,
        auto_average(
            every,
            patience=patience,
            mode=mode,
            window=window,
            skip_nonfinite=skip_nonfinite,
            accumulator_dtype=accumulator_dtype,
        ),
    )
