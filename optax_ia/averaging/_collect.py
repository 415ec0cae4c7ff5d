"""When an average collects an iterate: the counters that all averages share.

The iterate after update t is the ``params`` that update t + 1 receives, or that a
read-out receives before it. Only then is the iterate known: transformations later in
the chain, and the training loop after ``apply_updates``, may still change it. So an
average remembers ``next_at``, the update whose iterate it collects next. While
``next_at`` equals ``count``, the number of updates done, that iterate is *pending*.

The state of an average is a NamedTuple with ``count``, ``num_averaged`` and
``next_at``; its module registers how it collects and what its average is.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optax_ia._src.scalars import bare_scalar

NEVER = int(jnp.iinfo(jnp.int32).max)
"""``next_at`` of an average that has not started."""

_LAST = NEVER - 1
"""``count`` and ``next_at`` saturate here, so that they never equal ``NEVER``."""


@functools.singledispatch
def collect(state: Any, params: Any) -> Any:
    """``state`` with ``params`` in its average; ``count`` and ``next_at`` are kept."""
    raise NotImplementedError


@functools.singledispatch
def average_of(state: Any) -> Any:
    """The average in ``state``, the tree of the parameters in an accumulator's dtype.

    Its values have no meaning before the first iterate is collected.
    """
    raise NotImplementedError


@functools.singledispatch
def num_in_average(state: Any) -> jax.Array:
    """The number of iterates in the average, with a pending one."""
    return saturating_add(bare_scalar(state.num_averaged), is_pending(state))


def is_pending(state: Any) -> jax.Array:
    """Whether the next parameters that arrive are collected, shape (), bool."""
    return bare_scalar(state.next_at) == bare_scalar(state.count)


def saturating_add(
    a: jax.Array, b: jax.typing.ArrayLike, limit: int = NEVER
) -> jax.Array:
    """``min(a + b, limit)`` in int32 without overflow, for 0 <= a, b <= limit."""
    b = jnp.asarray(b, jnp.int32)
    return jnp.minimum(a, limit - b) + b


def advance(
    state: Any,
    start: jax.typing.ArrayLike | None,
    every: jax.typing.ArrayLike,
) -> tuple[jax.Array, jax.Array]:
    """``count`` and ``next_at`` after one more update.

    ``start`` is compared at each update rather than stored by ``init``, so that a value
    injected by ``optax.inject_hyperparams`` may be changed until the average starts.
    """
    every = jnp.asarray(every, jnp.int32)
    next_at = jnp.where(
        is_pending(state), saturating_add(state.next_at, every, _LAST), state.next_at
    )
    count = saturating_add(state.count, 1, _LAST)
    if start is not None:
        first = jnp.asarray(start, jnp.int32)
        starts = (next_at == NEVER) & (count >= first) & ((count - first) % every == 0)
        next_at = jnp.where(starts, count, next_at)
    return count, next_at


def is_finite(tree: Any) -> jax.Array:
    """Whether all entries of a tree are finite, shape (), bool."""
    leaves = jax.tree.leaves(tree)
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in leaves], bool))


def after(num_averaged: jax.Array, updates: Any) -> Any:
    """``updates``, in a computation that waits for ``num_averaged``.

    It makes the new parameters depend on the conditional that reads the old ones. XLA
    otherwise copies the old ones first, in each step, since both might run in any order
    and the new parameters overwrite the old. The selection costs nothing.
    """
    always = num_averaged >= 0
    return jax.tree.map(lambda u: jnp.where(always, u, jnp.zeros_like(u)), updates)


def diagnostics_of(state: Any) -> dict[str, jax.Array]:
    """What an average reports."""
    read = {"num_averaged": num_in_average(state)}
    if state.num_skipped is not None:
        read["num_skipped"] = state.num_skipped
    return read


def accumulator_dtype_of(param: jax.typing.ArrayLike, dtype: Any) -> Any:
    """The wider of ``dtype`` and the parameter's own; integers are not averaged."""
    own = jnp.asarray(param).dtype
    return jnp.promote_types(own, dtype) if jnp.issubdtype(own, jnp.inexact) else own


def stored_value(iterate: jax.Array, dtype: Any) -> jax.Array:
    """Widens an iterate, keeping the rounding of its own dtype.

    XLA may carry a bfloat16 result on in float32 when it fuses, and would average
    values that the user never sees.
    """
    if jnp.finfo(iterate.dtype).bits < jnp.finfo(dtype).bits:
        info = jnp.finfo(iterate.dtype)
        rounded = lax.reduce_precision(iterate.astype(dtype), info.nexp, info.nmant)
        return rounded
    return iterate.astype(dtype)


def start_next(state: Any, when: jax.typing.ArrayLike) -> Any:
    """``state`` collecting from its next update on, if it waits and ``when`` holds."""
    following = saturating_add(bare_scalar(state.count), 1, _LAST)
    return state._replace(
        next_at=jax.tree.map(
            lambda at: jnp.where(jnp.asarray(when) & (at == NEVER), following, at),
            state.next_at,
        )
    )
