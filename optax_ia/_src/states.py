"""Finding and replacing one transformation's state inside any wrapper."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import optax

State = TypeVar("State")


def find_states(opt_state: optax.OptState, kind: type[State]) -> list[State]:
    """All states of one type in ``opt_state``, in the order of the tree."""
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kind))
    return [leaf for leaf in leaves if isinstance(leaf, kind)]


def find_state(opt_state: optax.OptState, kind: type[State], makers: str) -> State:
    """The one state of a type in ``opt_state``.

    Args:
      opt_state: any tree of states.
      kind: the NamedTuple looked for.
      makers: the transformations that hold such a state, for the message.

    Returns:
      The state.

    Raises:
      ValueError: if there is none, or more than one.
    """
    found = find_states(opt_state, kind)
    if len(found) != 1:
        count = "none" if not found else str(len(found))
        raise ValueError(
            f"opt_state must hold exactly one {kind.__name__}, got {count}. "
            f"It comes from {makers}."
        )
    return found[0]


def replace_state(
    opt_state: optax.OptState,
    kind: type[State],
    makers: str,
    change: Callable[[State], State],
) -> Any:
    """``opt_state`` with its one state of a type changed.

    Args:
      opt_state: any tree of states.
      kind: the NamedTuple looked for.
      makers: the transformations that hold such a state, for the message.
      change: gives the new state from the old.

    Returns:
      The tree with the new state.

    Raises:
      ValueError: if there is no such state, or more than one.
    """
    find_state(opt_state, kind, makers)
    return jax.tree.map(
        lambda node: change(node) if isinstance(node, kind) else node,
        opt_state,
        is_leaf=lambda node: isinstance(node, kind),
    )
