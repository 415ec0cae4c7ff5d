"""Masks of parameters: patterns of paths, and the check of what a user gives."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.core import Tracer

from optax_ia._src.paths import path_string


def listed(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def paths_matching(
    pattern: str | re.Pattern[str], name: str = "pattern"
) -> Callable[[optax.Params], Any]:
    """A function from parameters to the bools that say which paths match.

    Args:
      pattern: a regular expression, searched for in each path.
      name: the argument that it was given for, for messages.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{name} is no regular expression: {error}.") from error

    def mask(params: optax.Params) -> Any:
        leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
        names = [path_string(path) for path, _ in leaves]
        matched = [regex.search(name) is not None for name in names]
        if names and not any(matched):
            raise ValueError(
                f"{name} {regex.pattern!r} matches no parameter; the paths are "
                f"{listed(names)}."
            )
        return jax.tree.unflatten(treedef, matched)

    return mask


def _check_leaves(name: str, mask: Any) -> None:
    """Raises TypeError if a leaf of a mask is no bool."""

    def is_none(x):
        return x is None

    for path, leaf in jax.tree_util.tree_leaves_with_path(mask, is_leaf=is_none):
        concrete = isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer)
        if concrete and leaf.dtype == bool and leaf.ndim == 0:
            continue
        if not isinstance(leaf, (bool, np.bool_)):
            where = f" at {path_string(path)!r}" if path else ""
            raise TypeError(
                f"{name} must hold True and False alone, got {leaf!r}{where}. It is a "
                "tree of bools like the parameters, a function of the parameters that "
                "returns one, or a pattern of paths such as 'kernel$'."
            )


def _paths(tree: Any) -> dict[str, Any]:
    """Leaves by path; a masked subtree is one leaf."""

    def is_masked(x):
        return isinstance(x, optax.MaskedNode)

    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_masked)
    return {path_string(path): leaf for path, leaf in leaves}


def _is_below(path: str, prefix: str) -> bool:
    return not prefix or path == prefix or path.startswith(f"{prefix}/")


@dataclasses.dataclass(frozen=True)
class _CheckedMask:
    """A function from parameters to a tree of bools, checked where it is used."""

    name: str
    given: Any

    def __call__(self, params: optax.Params) -> Any:
        name, mask = self.name, self.given
        if callable(mask):
            mask = mask(params)
            _check_leaves(f"the result of {name}", mask)
        flags, there = _paths(mask), _paths(params)
        extra = [p for p in flags if not any(_related(p, q) for q in there)]
        lacking = [q for q in there if not any(_is_below(q, p) for p in flags)]
        lacking = [q for q in lacking if not isinstance(there[q], optax.MaskedNode)]
        if (extra and there) or lacking:
            parts = [
                f"{what} {listed(paths)}"
                for what, paths in (
                    ("no parameter lies at", extra),
                    ("it leaves out", lacking),
                )
                if paths
            ]
            raise ValueError(
                f"{name} must have the structure of the parameters, or a prefix of "
                f"it: {'; '.join(parts)}."
            )

        def flag(path, leaf):
            del leaf
            where = path_string(path)
            return bool(next(f for p, f in flags.items() if _is_below(where, p)))

        return jax.tree_util.tree_map_with_path(flag, params)


def _related(path: str, other: str) -> bool:
    """Whether one of two paths lies below the other."""
    return _is_below(path, other) or _is_below(other, path)


def checked_mask(name: str, mask: Any) -> Callable[[optax.Params], Any] | None:
    """A mask as a function of the parameters whose result has been checked.

    Args:
      name: the argument's name, for messages.
      mask: None (all parameters), a tree of bools or a prefix of one, a function of the
        parameters that gives one, or a pattern of paths (see :func:`path_mask`).

    Returns:
      None, or a function from the parameters to a tree of bools like them.

    Raises:
      TypeError: if a leaf is no bool.
      ValueError: if a pattern is no regular expression; when the mask is used, if its
        structure is not the parameters'.
    """
    if mask is None or isinstance(mask, _CheckedMask):
        return mask
    if isinstance(mask, (str, re.Pattern)):
        mask = paths_matching(mask, name)
    elif not callable(mask):
        _check_leaves(name, mask)
    return _CheckedMask(name, mask)
