"""A conditional that stays a conditional under ``vmap``.

``vmap`` turns a ``lax.cond`` with a batched predicate into a select, which computes
both branches at every step. An ensemble would pay for Shampoo's roots at each update.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

State = TypeVar("State")


def rarely(
    due: jax.Array, update: Callable[..., State], state: State, *operands: Any
) -> State:
    """``update(state, *operands)`` if ``due``, else ``state``.

    Under ``vmap`` the update runs if any member is due, and a select keeps the state of
    the members that are not. Nested ``vmap`` reduces over all members.

    Args:
      due: whether to update, shape (), bool.
      update: returns the new state, with the structure, shapes and dtypes of ``state``.
        It must not close over traced arrays; pass them as operands.
      state: the state.
      *operands: further arguments of ``update``.

    Returns:
      The new state.
    """

    @jax.custom_batching.custom_vmap
    def conditional(due, state, operands):
        return jax.lax.cond(
            due,
            lambda state, operands: update(state, *operands),
            lambda state, operands: state,
            state,
            operands,
        )

    @conditional.def_vmap
    def batched(axis_size, in_batched, due, state, operands):
        due_batched, state_batched, operands_batched = in_batched

        def stacked(leaf, is_batched):
            if is_batched:
                return leaf
            return jnp.broadcast_to(leaf[None], (axis_size, *leaf.shape))

        def axes(flags):
            return jax.tree.map(lambda flag: 0 if flag else None, flags)

        state = jax.tree.map(stacked, state, state_batched)
        due = stacked(due, due_batched)

        def update_members(state, due, operands):
            new = jax.vmap(
                lambda state, operands: update(state, *operands),
                in_axes=(0, axes(operands_batched)),
                axis_size=axis_size,
            )(state, operands)

            def choose(fresh, old):
                return jnp.where(due.reshape(-1, *(1,) * (old.ndim - 1)), fresh, old)

            return jax.tree.map(choose, new, state)

        state = rarely(jnp.any(due), update_members, state, due, operands)
        return state, jax.tree.map(lambda _: True, state)

    return conditional(due, state, operands)
