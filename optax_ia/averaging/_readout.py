"""Reading and starting the averages that an optimiser state holds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from optax_ia._src.paths import path_string
from optax_ia._src.scalars import bare_scalar
from optax_ia.averaging._collect import (
    average_of,
    collect,
    is_pending,
    num_in_average,
    start_next,
)
from optax_ia.averaging._iterate import IterateAverageState
from optax_ia.averaging._window import WindowAverageState

_MAKERS = (
    "tail_average, ema_average, window_average, auto_average, with_average and its "
    "kin, and the optimisers built on them (swa, asgd, nt_asgd, gadam, gadamx, "
    "gadam_lookahead, gadam_auto, adamw_ema)"
)

_TREES = ("base", "offset", "recent")
"""Fields of the states that are trees like the parameters."""


def _is_average(node: Any) -> bool:
    return isinstance(node, (IterateAverageState, WindowAverageState))


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _stored_tree(state: Any) -> Any:
    """A tree like the parameters, without those that the average does not hold."""
    return state.recent if isinstance(state, WindowAverageState) else state.base


def _averages(opt_state: optax.OptState) -> list[Any]:
    """The averaging states, which must be of different parameters."""
    nodes = jax.tree_util.tree_leaves_with_path(opt_state, is_leaf=_is_average)
    found = [(path, node) for path, node in nodes if _is_average(node)]
    if not found:
        raise ValueError(f"opt_state holds no average, got none of {_MAKERS}.")
    holders: dict[str, str] = {}
    for path, state in found:
        here = f"opt_state{jax.tree_util.keystr(path)}"
        for leaf, _ in jax.tree_util.tree_leaves_with_path(_stored_tree(state)):
            name = path_string(leaf)
            if name in holders:
                of = f" of the parameter {name!r}" if name else ""
                raise ValueError(
                    f"opt_state holds two averages{of}, {holders[name]} and {here}. "
                    f"Read one of them: averaged_params({here}, params). Averages of "
                    "different parameters (optax.partition, optax.masked) are merged."
                )
            holders[name] = here
    return [state for _, state in found]


def averaged_params(
    opt_state: optax.OptState, params: optax.Params, *, require: bool = False
) -> optax.Params:
    """The averaged iterate that an optimiser state holds.

    Finds the average inside ``chain``, ``masked``, ``partition``,
    ``inject_hyperparams``, ``MultiSteps``, ``apply_if_finite`` and the wrappers of this
    package, and merges averages of different parameters, whatever their kinds. Works
    inside ``jit``, on states with leading axes from ``vmap`` or ``pmap``, and on the
    ``opt_state`` of ``nnx.Optimizer``.

    Args:
      opt_state: the state of an optimiser that averages.
      params: the current parameters, which the next ``update`` would receive: if the
        last update's iterate belongs to the average, it is taken from here. They also
        give structure, dtypes and sharding, and the values where nothing has been
        collected, or is masked out.
      require: refuse to return ``params`` where an average has collected nothing.

    Returns:
      The average, a tree like ``params``; ``params``' values while nothing has been
      collected. Batch statistics that belong to it must be re-estimated.

    Raises:
      ValueError: if ``opt_state`` holds no average, two of the same parameter, or one
        of other parameters; with ``require``, if an average is known to have collected
        nothing.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> w = {"kernel": jnp.array([0.0])}
      >>> tx = optax_ia.swa(1.0, start=1, momentum=0.0)
      >>> state = tx.init(w)
      >>> for _ in range(3):  # iterates 1, 2, 3
      ...     updates, state = tx.update({"kernel": jnp.array([-1.0])}, state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> print(optax_ia.averaged_params(state, w))
      {'kernel': Array([2.], dtype=float32)}
    """
    states = _averages(opt_state)
    if require:
        _check_collected(states)
    leaves, treedef = jax.tree.flatten(params)
    read = list(leaves)
    for state in states:
        indices = _held(state, params)
        for i, value in zip(
            indices, _read_one(state, [leaves[i] for i in indices]), strict=True
        ):
            read[i] = _placed_like(value, leaves[i])
    # What no average holds is copied, so that params may be donated after the read-out.
    return treedef.unflatten(
        jnp.array(leaf) if leaf is old else leaf
        for leaf, old in zip(read, leaves, strict=True)
    )


def _check_collected(states: list[Any]) -> None:
    for state in states:
        count = num_in_average(state)
        if not isinstance(count, Tracer) and not jnp.all(count > 0):
            updates = bare_scalar(state.count)
            raise ValueError(
                f"the average has collected nothing after {updates} updates. Give a "
                "smaller start, call optax_ia.start_averaging(opt_state) earlier, or "
                "leave out require=True to get params."
            )


def _held(state: Any, params: optax.Params) -> list[int]:
    """The places of the parameters that an average holds, among params' leaves."""
    stored = _stored_tree(state)
    nodes = jax.tree.leaves(stored, is_leaf=_is_masked)
    if any(map(_is_masked, nodes)):  # a masked node may stand for a whole subtree
        below = jax.tree.map(
            lambda node, subtree: (
                [not _is_masked(node)] * len(jax.tree.leaves(subtree))
            ),
            stored,
            params,
            is_leaf=_is_masked,
        )
        return [i for i, held in enumerate(jax.tree.leaves(below)) if held]
    count = len(jax.tree.leaves(params))
    if len(nodes) != count:
        raise ValueError(
            f"params do not belong to opt_state: they have {count} leaves, the "
            f"average has {len(nodes)}."
        )
    return list(range(count))


def _over_leading_axes(function: Callable[..., Any], state: Any) -> Callable[..., Any]:
    """``function``, mapped over the leading axes that ``vmap`` gave a state."""
    for _ in range(bare_scalar(state.count).ndim):
        function = jax.vmap(function)
    return function


def _read_one(state: Any, params: list[Any]) -> list[jax.Array]:
    """The average of one state, in the dtypes of the parameters that it holds."""
    # Bare arrays in lists, also where a framework keeps leaves in variables.
    bare = {
        name: jax.tree.leaves(value) if name in _TREES else bare_scalar(value)
        for name, value in state._asdict().items()
        if value is not None
    }
    state = state._replace(**bare)
    shapes = jax.eval_shape(_over_leading_axes(average_of, state), state)
    for shape, param in zip(shapes, params, strict=True):
        if shape.shape != jnp.shape(param):
            raise ValueError(
                f"params do not belong to opt_state: a leaf of shape "
                f"{jnp.shape(param)} has an average of shape {shape.shape}."
            )
    return _read(state, params)


@jax.jit
def _read(state: Any, params: list[Any]) -> list[jax.Array]:
    def read(state, params):
        params = [*map(jnp.asarray, params)]
        pending = is_pending(state)
        state = jax.tree.map(
            lambda new, old: jnp.where(pending, new, old),
            collect(state, params),
            state,
        )
        return [
            jnp.where(state.num_averaged > 0, average.astype(param.dtype), param)
            for average, param in zip(average_of(state), params, strict=True)
        ]

    return _over_leading_axes(read, state)(state, params)


def _placed_like(value: jax.Array, param: Any) -> jax.Array:
    """``value`` in the sharding of ``param``."""
    if isinstance(value, Tracer) or not isinstance(param, jax.Array):
        return value
    # only where it differs: an array placed by hand makes jit compile anew
    if value.sharding.is_equivalent_to(param.sharding, param.ndim):
        return value
    return jax.device_put(value, param.sharding)


def num_averaged(opt_state: optax.OptState) -> jax.Array:
    """The number of iterates in the average that :func:`averaged_params` returns.

    It counts the iterate of the last update if that is collected, before ``params``
    have been seen; with ``skip_nonfinite`` it may then turn out not to be finite.

    Args:
      opt_state: the state of an optimiser that averages, inside any wrapper.

    Returns:
      An int32 array of shape (). For averages of different parameters their common
      number; inside ``jit`` the least.

    Raises:
      ValueError: if ``opt_state`` holds no average, two of the same parameter, or
        several with different numbers.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> w = jnp.ones(2)
      >>> tx = optax_ia.swa(0.1, start=1)
      >>> _, state = tx.update(w, tx.init(w), w)
      >>> print(optax_ia.num_averaged(state))
      1
    """
    counts = [*map(num_in_average, _averages(opt_state))]
    if len(counts) == 1:
        return counts[0]
    least, most = jnp.stack(counts).min(axis=0), jnp.stack(counts).max(axis=0)
    if not isinstance(most, Tracer) and jnp.any(least != most):
        numbers = ", ".join(str(count) for count in counts)
        raise ValueError(
            "the averages in opt_state hold different numbers of iterates "
            f"({numbers}). Call num_averaged on a part of opt_state, or read all of "
            "them from optax_ia.diagnostics(opt_state)."
        )
    return least


def start_averaging(
    opt_state: optax.OptState, *, when: jax.typing.ArrayLike = True
) -> Any:
    """Starts every average that waits in an optimiser state, from the next update on.

    The next iterate is collected, then every ``every``-th. An average that has started
    goes on as it is; one that was to start later starts now.

    Args:
      opt_state: the state of an optimiser that averages, inside any wrapper.
      when: leave the state as it is if False; may be traced, so that a trigger can be
        followed inside ``jit``.

    Returns:
      The new ``opt_state``, of the same structure.

    Raises:
      ValueError: if ``opt_state`` holds no average, or two of the same parameter.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> w = jnp.ones(2)
      >>> tx = optax_ia.gadam(1e-3, start=None)
      >>> state = tx.init(w)
      >>> _, state = tx.update(w, state, w)
      >>> state = optax_ia.start_averaging(state)
      >>> _, state = tx.update(w, state, w)
      >>> print(optax_ia.num_averaged(state))
      1
    """
    _averages(opt_state)
    return jax.tree.map(
        lambda node: start_next(node, when) if _is_average(node) else node,
        opt_state,
        is_leaf=_is_average,
    )
