"""Reading and starting the average that an optimiser state holds."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from optax_ia._src.scalars import bare_scalar, increment
from optax_ia._src.states import find_state, replace_state
from optax_ia.averaging._average import IterateAverageState

_MAKERS = (
    "tail_average, ema_average, auto_average and the optimisers built on them "
    "(swa, gadam, gadamx, gadam_lookahead, gadam_auto)"
)


def averaged_params(opt_state: optax.OptState, params: optax.Params) -> optax.Params:
    """The averaged iterate that an optimiser state holds.

    Finds the one averaging state inside ``chain``, ``masked``, ``partition``,
    ``inject_hyperparams``, ``MultiSteps``, ``apply_if_finite`` and the wrappers of this
    package. Works inside ``jit``, on states with leading axes from ``vmap`` or
    ``pmap``, and on the ``opt_state`` of ``nnx.Optimizer``.

    Args:
      opt_state: the state of an optimiser that averages.
      params: the current parameters. They give structure, dtypes and sharding, and the
        values where nothing has been collected, or is masked out.

    Returns:
      The average, a tree like ``params``; ``params``' values while nothing has been
      collected. Batch statistics that belong to it must be re-estimated.

    Raises:
      ValueError: if ``opt_state`` holds no average or several, or one of other
        parameters.

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
    state = find_state(opt_state, IterateAverageState, _MAKERS)
    collected = bare_scalar(state.num_averaged) > 0

    def pick(average, param):
        if isinstance(average, optax.MaskedNode):
            return param
        if jnp.shape(average) != jnp.shape(param):
            raise ValueError(
                f"params do not belong to opt_state: a leaf of shape "
                f"{jnp.shape(param)} has an average of shape {jnp.shape(average)}."
            )
        # under vmap and pmap the count has leading axes
        here = collected.reshape(
            collected.shape + (1,) * (average.ndim - collected.ndim)
        )
        picked = jnp.where(here, average.astype(jnp.asarray(param).dtype), param)
        if isinstance(picked, Tracer) or not isinstance(param, jax.Array):
            return picked
        # only where it differs: an array placed by hand makes jit compile anew
        if picked.sharding.is_equivalent_to(param.sharding, param.ndim):
            return picked
        return jax.device_put(picked, param.sharding)

    def is_masked(node):
        return isinstance(node, optax.MaskedNode)

    averages, treedef = jax.tree.flatten(state.average, is_leaf=is_masked)
    if any(map(is_masked, averages)):  # a masked node may stand for a whole subtree
        return jax.tree.map(
            lambda average, below: jax.tree.map(lambda p: pick(average, p), below),
            state.average,
            params,
            is_leaf=is_masked,
        )
    leaves, treedef = jax.tree.flatten(params)
    if len(leaves) != len(averages):
        raise ValueError(
            f"params do not belong to opt_state: they have {len(leaves)} leaves, the "
            f"average has {len(averages)}."
        )
    return jax.tree.unflatten(treedef, map(pick, averages, leaves))


def num_averaged(opt_state: optax.OptState) -> jax.Array:
    """The number of iterates in the average that an optimiser state holds.

    Args:
      opt_state: the state of an optimiser that averages, inside any wrapper.

    Returns:
      An int32 array of shape ().

    Raises:
      ValueError: if ``opt_state`` holds no average or several.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> w = jnp.ones(2)
      >>> tx = optax_ia.swa(0.1, start=1)
      >>> _, state = tx.update(w, tx.init(w), w)
      >>> print(optax_ia.num_averaged(state))
      1
    """
    return bare_scalar(find_state(opt_state, IterateAverageState, _MAKERS).num_averaged)


def start_averaging(
    opt_state: optax.OptState, *, when: jax.typing.ArrayLike = True
) -> Any:
    """Starts the average that waits in an optimiser state, from the next update on.

    The next iterate is collected, then every ``every``-th. An average that has started
    goes on as it is; one that was to start later starts now.

    Args:
      opt_state: the state of an optimiser that averages, inside any wrapper.
      when: leave the state as it is if False; may be traced, so that a trigger can be
        followed inside ``jit``.

    Returns:
      The new ``opt_state``, of the same structure.

    Raises:
      ValueError: if ``opt_state`` holds no average or several.

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
    return replace_state(
        opt_state,
        IterateAverageState,
        _MAKERS,
        lambda state: start_state(state, when),
    )


def start_state(
    state: IterateAverageState, when: jax.typing.ArrayLike
) -> IterateAverageState:
    """``state`` collecting from its next update on, where ``when`` holds."""
    following = increment(bare_scalar(state.count))
    return state._replace(
        started_at=jax.tree.map(
            lambda at: jnp.where(when, jnp.minimum(at, following), at),
            state.started_at,
        )
    )
