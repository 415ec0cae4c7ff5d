"""The projection of AdamP: updates without their part along scale-invariant weights."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src import checks
from optax_ia._src.scalars import increment
from optax_ia._src.types import Mask
from optax_ia._src.wrapping import with_extra_args


class ProjectedState(NamedTuple):
    """State of the projection in :func:`adamp` and :func:`sgdp`.

    Attributes:
      rule_state: the state of the rule whose updates are projected.
      projected_count: number of updates done, shape (), int32.
    """

    rule_state: optax.OptState
    projected_count: jax.Array


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _per_channel(a: jax.Array, b: jax.Array) -> jax.Array:
    """Sums of products over all axes but the last, Flax's axis of output channels."""
    axes = tuple(range(a.ndim - 1))
    sums = jnp.sum(_wide(a) * _wide(b), axis=axes, keepdims=True)
    # The barrier keeps the sum over the channels a sum of these: merged into one over
    # the tensor it would have all the products written to memory for its sake.
    return jax.lax.optimization_barrier(sums)


def _is_projected(w: jax.Array) -> bool:
    return w.ndim > 1 and w.size > 0


class _Weights(NamedTuple):
    """What is found of one tensor: sums by channel, and which view is invariant."""

    squares: jax.Array
    by_channel: jax.Array
    by_layer: jax.Array


def _examine(g, w, delta, eps) -> _Weights:
    """Whether the gradient of a tensor is orthogonal to it, in either view."""
    # behind a barrier g * g is not that of the second moment, which would be written
    # to memory to serve both
    apart = jax.lax.optimization_barrier(g)
    products, gg, ww = (
        _per_channel(g, w),
        _per_channel(apart, apart),
        _per_channel(w, w),
    )

    def cosine(products, gg, ww):
        norms = jnp.maximum(jnp.sqrt(gg), eps) * jnp.maximum(jnp.sqrt(ww), eps)
        return jnp.abs(products) / norms

    row = w.size // ww.size
    by_channel = jnp.max(cosine(products, gg, ww)) < delta / math.sqrt(row)
    over_all = (jnp.sum(x) for x in (products, gg, ww))
    by_layer = cosine(*over_all) < delta / math.sqrt(w.size)
    return _Weights(ww, by_channel, by_layer & ~by_channel)


def _along(found: _Weights, products: jax.Array, eps: Any) -> jax.Array:
    """What to subtract from an update, in units of the weights, for each channel.

    Args:
      found: what :func:`_examine` gives.
      products: sums by channel of the update times the weights.
      eps: added to the norms.

    Returns:
      An array that broadcasts to the weights.
    """

    def coefficient(products, squares):
        return products / (jnp.sqrt(squares) + eps) ** 2

    channels = coefficient(products, found.squares)
    layer = coefficient(jnp.sum(products), jnp.sum(found.squares))
    layer = jnp.where(found.by_layer, layer, 0)
    return jnp.where(
        found.by_channel, channels, jnp.broadcast_to(layer, channels.shape)
    )


def projected(
    rule: optax.GradientTransformation,
    direction: Callable[[optax.Updates, Any], optax.Updates],
    delta: jax.typing.ArrayLike,
    wd_ratio: jax.typing.ArrayLike,
    eps: jax.typing.ArrayLike,
    weight_decay: optax.ScalarOrSchedule,
    decay_factor: jax.typing.ArrayLike,
    mask: Mask,
) -> optax.GradientTransformationExtraArgs:
    """Projects a rule's updates and adds decay, less of it where it projected.

    Args:
      rule: what keeps the moments.
      direction: the rule's updates, from the gradients and its new state: where it is
        needed twice it is computed twice, for less than writing it to memory costs.
      delta: the bound on the cosines.
      wd_ratio: of the decay where the update is projected.
      eps: of the norms.
      weight_decay: a number or a schedule.
      decay_factor: multiplies the decay.
      mask: which parameters decay.

    Returns:
      The transformation, without the learning rate.
    """
    rule = with_extra_args(rule)

    def init_fn(params):
        return ProjectedState(rule.init(params), jnp.zeros([], jnp.int32))

    def update_fn(updates, state, params=None, **extra_args):
        params = checks.check_params("adamp and sgdp", params)
        grads = updates
        _, rule_state = rule.update(grads, state.rule_state, params, **extra_args)
        count = state.projected_count
        decay = weight_decay(count) if callable(weight_decay) else weight_decay
        decay = decay * decay_factor
        decays = [True] * len(jax.tree.leaves(params))
        if mask is not None:
            decays = jax.tree.leaves(mask(params))

        weights, treedef = jax.tree.flatten(params)
        given = treedef.flatten_up_to(grads)
        examined = [
            _examine(g, w, delta, eps) if _is_projected(w) else None
            for g, w in zip(given, weights, strict=True)
        ]
        some = [found for found in examined if found is not None]

        def products(grads, rule_state, weights):
            steps = treedef.flatten_up_to(direction(grads, rule_state))
            pairs = zip(steps, weights, strict=True)
            found = [_per_channel(w, u) for u, w in pairs if _is_projected(w)]
            return [p.astype(f.squares.dtype) for p, f in zip(found, some, strict=True)]

        found_products = []
        if some:
            fires = [found.by_channel | found.by_layer for found in some]
            found_products = jax.lax.cond(
                jnp.any(jnp.stack(fires)),
                products,
                lambda *_: [jnp.zeros_like(found.squares) for found in some],
                grads,
                rule_state,
                weights,
            )
        remaining = iter(found_products)

        def leaf(found, w, u, decayed):
            factor = jnp.asarray(decay, _wide(w).dtype)
            along = jnp.zeros([], factor.dtype)
            if found is not None:
                along = _along(found, next(remaining), eps)
                invariant = found.by_channel | found.by_layer
                factor = jnp.where(invariant, wd_ratio, 1).astype(factor.dtype) * factor
            pulled = factor - along if decayed else -along
            return (_wide(u) + pulled * _wide(w)).astype(u.dtype)

        steps = treedef.flatten_up_to(direction(grads, rule_state))
        updates = treedef.unflatten(map(leaf, examined, weights, steps, decays))
        return updates, ProjectedState(rule_state, increment(count))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
