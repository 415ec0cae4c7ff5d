"""Gadam + Lookahead: Lookahead first, then iterate averaging."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.arguments import checked
from optax_ia._src.required import REQUIRED
from optax_ia._src.types import Mask
from optax_ia.averaging._average import tail_average
from optax_ia.averaging._iterate import IterateAverageState
from optax_ia.averaging._lookahead import LookaheadState, lookahead
from optax_ia.baselines import adamw


class GadamLookaheadState(NamedTuple):
    """State of :func:`gadam_lookahead`.

    Attributes:
      fast: the state of Lookahead around AdamW.
      average: the state of the tail average.
    """

    fast: LookaheadState
    average: IterateAverageState


@checked(complex_params=True)
def gadam_lookahead(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    start: jax.typing.ArrayLike | None = REQUIRED,
    every: jax.typing.ArrayLike = 1,
    *,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Mask = None,
    sync_period: jax.typing.ArrayLike = 5,
    slow_step_size: jax.typing.ArrayLike = 0.5,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    mu_dtype: Any = None,
    accumulator_dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    r"""Gadam + Lookahead: Lookahead around AdamW until averaging starts, then Gadam.

    For updates t < ``start`` the rule is :func:`lookahead` of AdamW; from ``start`` on
    it is AdamW alone, averaged as in :func:`gadam`. A start by :func:`start_averaging`
    ends Lookahead too.

    Args:
      learning_rate: the rate, a number or a schedule.
      start: the first update collected, and the first without Lookahead; None waits for
        :func:`start_averaging`.
      every: collect each ``every``-th update.
      weight_decay: decoupled, multiplied by the learning rate.
      mask: which parameters decay.
      sync_period: Lookahead's k.
      slow_step_size: Lookahead's :math:`\alpha`.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added outside the square root.
      eps_root: added inside the square root.
      mu_dtype: dtype of the first moment; None keeps the parameters'.
      accumulator_dtype: see :func:`tail_average`.

    Returns:
      The transformation; ``update`` needs ``params``; the average is read by
      :func:`averaged_params`. Two more trees of state than AdamW.

    Raises:
      TypeError: if ``start`` is missing.
      ValueError: if a concrete argument is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, optax_ia
      >>> w = jnp.ones(1)
      >>> tx = optax_ia.gadam_lookahead(start=12)
      >>> update = jax.jit(tx.update)
      >>> state = tx.init(w)
      >>> for _ in range(20):
      ...     _, state = update(w, state, w)
      >>> values = optax_ia.diagnostics(state)
      >>> print(values["sync_count"], values["num_averaged"])  # at 5, 10; 12 to 20
      2 9

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, the appendix "Gadam and Lookahead".
    """
    fast: Any = lookahead(
        adamw(
            learning_rate,
            b1,
            b2,
            eps,
            eps_root,
            mu_dtype=mu_dtype,
            weight_decay=weight_decay,
            mask=mask,
        ),
        sync_period,
        slow_step_size,
        stop=start,
    )
    average: Any = tail_average(start, every, accumulator_dtype=accumulator_dtype)

    def init_fn(params):
        return GadamLookaheadState(fast.init(params), average.init(params))

    def update_fn(updates, state, params=None, **extra_args):
        stopping = state.fast._replace(
            stop_at=jnp.minimum(state.fast.stop_at, state.average.next_at)
        )
        updates, fast_state = fast.update(updates, stopping, params, **extra_args)
        updates, average_state = average.update(
            updates, state.average, params, **extra_args
        )
        return updates, GadamLookaheadState(fast_state, average_state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)  # pyright: ignore[reportArgumentType]
