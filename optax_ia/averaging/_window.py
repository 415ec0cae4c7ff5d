"""The window average: the mean of the last few collected iterates (LAWA)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_ia._src import checks
from optax_ia._src.arguments import Flag, checked
from optax_ia._src.diagnostics import read_diagnostics
from optax_ia._src.scalars import bare_scalar
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
    num_in_average,
    saturating_add,
    stored_value,
)


class WindowAverageState(NamedTuple):
    """State of :func:`window_average`.

    Attributes:
      count: number of updates done, shape (), int32.
      num_averaged: number of iterates in ``recent``, shape (), int32; the iterate of a
        collecting update enters with the next update (see ``next_at``).
      next_at: the update whose iterate is collected next, shape (), int32, as in
        :class:`IterateAverageState`.
      slot: True at the entry of ``recent`` that the next iterate replaces, shape
        (window,), bool.
      recent: the last collected iterates, the tree of the parameters in their dtypes,
        each leaf with an axis of length ``window`` in front.
      num_skipped: number of iterates left out because they were not finite, shape (),
        int32; None without ``skip_nonfinite``.
    """

    count: jax.Array
    num_averaged: jax.Array
    next_at: jax.Array
    slot: jax.Array
    recent: optax.Params
    num_skipped: jax.Array | None = None


@read_diagnostics.register
def _(state: WindowAverageState) -> dict[str, jax.Array]:
    return diagnostics_of(state)


@num_in_average.register
def _(state: WindowAverageState) -> jax.Array:
    window = bare_scalar(state.slot).shape[-1]
    return jnp.minimum(bare_scalar(state.num_averaged) + is_pending(state), window)


def _along_leaf(per_entry: jax.Array, leaf: jax.Array) -> jax.Array:
    """Values of shape (window,), ready to be broadcast over a leaf of ``recent``."""
    return per_entry.reshape(per_entry.shape + (1,) * (leaf.ndim - 1))


@collect.register
def _(state: WindowAverageState, params: Any) -> WindowAverageState:
    stored, treedef = jax.tree.flatten(state.recent)
    iterates = treedef.flatten_up_to(params)
    written = [
        jnp.where(_along_leaf(state.slot, recent), param[None], recent)
        for recent, param in zip(stored, iterates, strict=True)
    ]
    collected = state._replace(
        num_averaged=jnp.minimum(state.num_averaged + 1, state.slot.size),
        slot=jnp.roll(state.slot, 1),
        recent=treedef.unflatten(written),
    )
    if state.num_skipped is None:
        return collected
    finite = is_finite(iterates)
    collected = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old), collected, state
    )
    return collected._replace(num_skipped=saturating_add(state.num_skipped, ~finite))


@average_of.register
def _(state: WindowAverageState) -> Any:
    # The entries fill up in order, and all are in use from then on.
    in_use = jnp.arange(state.slot.size) < state.num_averaged
    newest = jnp.roll(state.slot, -1)

    def mean(recent):
        if not jnp.issubdtype(recent.dtype, jnp.inexact):
            chosen = jnp.where(_along_leaf(newest, recent), recent, 0)
            return jnp.sum(chosen, axis=0, dtype=recent.dtype)
        dtype = accumulator_dtype_of(recent, jnp.float32)
        chosen = jnp.where(_along_leaf(in_use, recent), stored_value(recent, dtype), 0)
        return jnp.sum(chosen, axis=0) / jnp.maximum(state.num_averaged, 1)

    return jax.tree.map(mean, state.recent)


@checked(complex_params=True, skip_nonfinite=Flag())
def window_average(
    window: int,
    every: jax.typing.ArrayLike = 1,
    *,
    start: jax.typing.ArrayLike | None = 0,
    skip_nonfinite: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Keeps the last iterates, whose mean is the average (LAWA); changes no update.

    .. math::
      \bar w = \frac{1}{\min(n, k)} \sum_{i=\max(1, n-k+1)}^{n} w_i

    over the collected iterates :math:`w_1, \dots, w_n` (chosen by ``start`` and
    ``every`` as in :func:`tail_average`, and as exact), with :math:`k` = ``window``.
    The average forgets old iterates entirely, so it may run from the first update on.

    Args:
      window: :math:`k` >= 1, the number of iterates averaged; the state holds that many
        copies of the parameters. Static. Sanyal et al. take 5 to 20.
      every: collect each ``every``-th update, >= 1. A collecting update rewrites all
        ``window`` copies, the others cost nothing; iterates far apart (hundreds of
        updates) are what makes a short window useful.
      start: the first update collected, an integer >= 0; None waits for
        :func:`start_averaging`.
      skip_nonfinite: leave out an iterate if any entry of it is not finite, as in
        :func:`tail_average`.

    Returns:
      The transformation; ``update`` needs ``params``. ``window`` more trees of state.
      The average is read by :func:`averaged_params`.

    Raises:
      ValueError: if a concrete argument is out of its range, or ``params`` is missing.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax.chain(optax.sgd(1.0), optax_ia.window_average(2))
      >>> w = jnp.array([0.0])
      >>> state = tx.init(w)
      >>> for _ in range(4):  # iterates 1, 2, 3, 4
      ...     updates, state = tx.update(jnp.array([-1.0]), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> print(optax_ia.averaged_params(state, w))  # the mean of 3, 4
      [3.5]

    References:
      Kaddour, `Stop Wasting My Time! Saving Days of ImageNet and BERT Training with
      Latest Weight Averaging <https://arxiv.org/abs/2209.14981>`_, 2022; Sanyal et al.,
      `Early Weight Averaging Meets High Learning Rates for LLM Pre-training
      <https://arxiv.org/abs/2306.03241>`_, 2023.
    """

    def init_fn(params):
        return WindowAverageState(
            count=jnp.zeros([], jnp.int32),
            num_averaged=jnp.zeros([], jnp.int32),
            next_at=jnp.full([], NEVER, jnp.int32),
            slot=jnp.arange(window) == 0,
            recent=jax.tree.map(
                lambda p: jnp.stack([jnp.zeros_like(p)] * window), params
            ),
            num_skipped=jnp.zeros([], jnp.int32) if skip_nonfinite else None,
        )

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        params = checks.check_params("window_average", params)
        count, next_at = advance(state, start, every)
        collected = lax.cond(
            is_pending(state), collect, lambda state, _: state, state, params
        )
        updates = after(collected.num_averaged, updates)
        return updates, collected._replace(count=count, next_at=next_at)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)  # pyright: ignore[reportArgumentType]
