"""AdamP and SGDP: updates without their part along scale-invariant weights."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src import checks
from optax_ia._src.scalars import increment
from optax_ia._src.types import Mask
from optax_ia.schedules import scale_by_learning_rate


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


def _projected(
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
    checks.check_number("delta", delta, minimum=0)
    checks.check_number("wd_ratio", wd_ratio, minimum=0)
    checks.check_number("eps", eps, minimum=0)
    if not callable(weight_decay):
        checks.check_number("weight_decay", weight_decay, minimum=0)
    rule = optax.with_extra_args_support(rule)

    def init_fn(params):
        return ProjectedState(rule.init(params), jnp.zeros([], jnp.int32))

    def update_fn(updates, state, params=None, **extra_args):
        params = checks.check_params("adamp and sgdp", params)
        grads = updates
        _, rule_state = rule.update(grads, state.rule_state, params, **extra_args)
        count = state.projected_count
        decay = weight_decay(count) if callable(weight_decay) else weight_decay
        decay = decay * decay_factor
        decays: Any = mask(params) if callable(mask) else mask
        decays = jax.tree.leaves(
            jax.tree.broadcast(True if decays is None else decays, params)
        )

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
            return [_per_channel(w, u) for u, w in pairs if _is_projected(w)]

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


def adamp(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    delta: jax.typing.ArrayLike = 0.1,
    wd_ratio: jax.typing.ArrayLike = 0.1,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamP: Adam without the growth of weights that a normalisation makes invariant.

    For each tensor of two or more axes, with rows :math:`w_r` (first one row for each
    output channel, the last axis; if those do not pass, the whole tensor as one),
    gradient :math:`g_r` and Adam's direction :math:`u_r`,

    .. math::
      \max_r |\cos(g_r, w_r)| < \frac{\delta}{\sqrt{\dim w_r}}
      \;\Rightarrow\;
      u_r \leftarrow u_r - (\hat w_r \cdot u_r)\,\hat w_r,\quad
      \hat w_r = \frac{w_r}{\|w_r\| + \epsilon},

    and there the decay :math:`w \leftarrow (1-\alpha\lambda)w` is multiplied by
    ``wd_ratio``. One decision for a tensor; the moments are not projected.

    Args:
      learning_rate: the rate, a number or a schedule.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: Adam's epsilon, and that of the norms, >= 0.
      delta: :math:`\delta` >= 0, how orthogonal gradient and weights must be; 0 is
        Adam.
      wd_ratio: what decay is multiplied by where the update is projected, >= 0.
      weight_decay: :math:`\lambda` >= 0, decoupled, multiplied by the learning rate.
      mask: which parameters decay.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      A gradient orthogonal to the weights, as behind a normalisation; Adam's first step
      is the sign of it, which makes the weights longer:

      >>> import jax.numpy as jnp, optax, optax_ia
      >>> w = jnp.array([[3.0], [1.0]])  # (in, out)
      >>> g = jnp.array([[1.0], [-3.0]])
      >>> for delta in (0.0, 0.1):
      ...     tx = optax_ia.adamp(0.1, delta=delta)
      ...     u, _ = tx.update(g, tx.init(w), w)
      ...     print(delta, round(float(jnp.vdot(u, w)), 3))
      0.0 -0.2
      0.1 0.0

    References:
      Heo et al., `AdamP: Slowing Down the Slowdown for Momentum Optimizers on
      Scale-invariant Weights <https://arxiv.org/abs/2006.08217>`_, 2021, Algorithm 2.
    """
    checks.check_number("b1", b1, minimum=0, below=1)
    checks.check_number("b2", b2, minimum=0, below=1)

    def direction(grads, state):
        mu = optax.tree.bias_correction(state.mu, b1, state.count)
        nu = optax.tree.bias_correction(state.nu, b2, state.count)
        return jax.tree.map(
            lambda g, m, v: (m / (jnp.sqrt(v) + eps)).astype(g.dtype), grads, mu, nu
        )

    return optax.chain(
        _projected(
            optax.scale_by_adam(b1, b2, eps),
            direction,
            delta,
            wd_ratio,
            eps,
            weight_decay,
            1,
            mask,
        ),
        scale_by_learning_rate(learning_rate),
    )


def sgdp(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    momentum: jax.typing.ArrayLike = 0.9,
    *,
    nesterov: bool = False,
    delta: jax.typing.ArrayLike = 0.1,
    wd_ratio: jax.typing.ArrayLike = 0.1,
    eps: jax.typing.ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SGDP: SGD with momentum, projected as in :func:`adamp`.

    The direction is :math:`m_t = \mu m_{t-1} + g_t`, and the decay

    .. math::
      w \leftarrow \Big(1 - \frac{\alpha_t\lambda}{1-\mu}\Big) w,

    times ``wd_ratio`` where the update is projected.

    Args:
      learning_rate: the rate, a number or a schedule.
      momentum: :math:`\mu` in [0, 1).
      nesterov: Nesterov's form of the momentum. Static.
      delta: see :func:`adamp`.
      wd_ratio: see :func:`adamp`.
      eps: of the norms, >= 0.
      weight_decay: :math:`\lambda` >= 0, decoupled, multiplied by the learning rate and
        by :math:`1/(1-\mu)`.
      mask: which parameters decay.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      The gradient is orthogonal to the weights at each step, the momentum is not:

      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> def norm_after(delta, w=jnp.array([[3.0], [1.0]])):
      ...     tx = optax_ia.sgdp(0.5, delta=delta)
      ...     state = tx.init(w)
      ...     loss = lambda w: jnp.sum(w[0] / jnp.linalg.norm(w))
      ...     for _ in range(20):
      ...         u, state = tx.update(jax.grad(loss)(w), state, w)
      ...         w = optax.apply_updates(w, u)
      ...     return round(float(jnp.linalg.norm(w)), 2)
      >>> norm_after(delta=0.0) > norm_after(delta=0.1)
      True

    .. note::
      Without Nesterov's form the released code projects its momentum buffer too, by
      writing into it; here, as in the paper and in that code with Nesterov's form, the
      buffer is left alone.

    References:
      Heo et al., `AdamP: Slowing Down the Slowdown for Momentum Optimizers on
      Scale-invariant Weights <https://arxiv.org/abs/2006.08217>`_, 2021, Algorithm 1.
    """
    checks.check_number("momentum", momentum, minimum=0, below=1)

    def direction(grads, state):
        if not nesterov:
            return optax.tree.cast_like(state.trace, grads)
        return jax.tree.map(
            lambda g, m: (g + momentum * m).astype(g.dtype), grads, state.trace
        )

    return optax.chain(
        _projected(
            optax.trace(momentum, nesterov),
            direction,
            delta,
            wd_ratio,
            eps,
            weight_decay,
            1 / (1 - momentum),
            mask,
        ),
        scale_by_learning_rate(learning_rate),
    )
