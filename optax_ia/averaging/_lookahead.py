"""Lookahead on plain parameters, with the slow weights in the state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src import checks
from optax_ia._src.arguments import Optimizer, checked
from optax_ia._src.diagnostics import read_diagnostics
from optax_ia._src.scalars import increment
from optax_ia._src.wrapping import with_extra_args
from optax_ia.averaging._collect import NEVER


class LookaheadState(NamedTuple):
    """State of :func:`lookahead`.

    Attributes:
      inner_state: the state of the inner transformation.
      lookahead_count: number of updates done, shape (), int32.
      sync_count: number of synchronisations done, shape (), int32.
      stop_at: the update from which there are no more, shape (), int32; the largest
        int32 for never.
      slow: the slow weights, the tree and dtypes of the parameters; those of a
        synchronisation enter with the next update.
    """

    inner_state: optax.OptState
    lookahead_count: jax.Array
    sync_count: jax.Array
    stop_at: jax.Array
    slow: optax.Params


@read_diagnostics.register
def _(state: LookaheadState) -> dict[str, jax.Array]:
    return {"sync_count": state.sync_count}


@checked(complex_params=True, inner=Optimizer(instead="lookahead_adamw"))
def lookahead(
    inner: optax.GradientTransformation,
    sync_period: jax.typing.ArrayLike = 5,
    slow_step_size: jax.typing.ArrayLike = 0.5,
    *,
    stop: jax.typing.ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Wraps an optimiser in Lookahead: k steps forward, one step back.

    With fast weights :math:`w_t` (the parameters), slow weights :math:`\phi`,
    :math:`\phi_0 = w_0`, and :math:`\tilde w_t` what the inner optimiser makes of
    :math:`w_{t-1}`,

    .. math::
      t \bmod k = 0:\quad
      \phi \leftarrow \phi + \alpha(\tilde w_t - \phi),\quad w_t = \phi;
      \qquad\text{else}\quad w_t = \tilde w_t .

    The slow weights are the parameters that the update after a synchronisation
    receives, so that they are right whatever changes updates or parameters on the way
    (a frozen leaf, clipped or normalised weights).

    Args:
      inner: the optimiser, its learning rate included. Its state is kept over a
        synchronisation, as in the paper's main experiments.
      sync_period: :math:`k` >= 1, inner steps between synchronisations.
      slow_step_size: :math:`\alpha` in [0, 1]; 1 is the inner optimiser alone.
      stop: the update (1-based) from which there are no more synchronisations, an
        integer >= 0; None for never.

    Returns:
      The transformation, for plain parameters; it chains, and ``update`` needs
      ``params``. One more tree of state. Extra arguments go to ``inner``.

    Raises:
      ValueError: if a concrete argument is out of its range, or ``params`` is missing.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.lookahead(optax.sgd(1.0), sync_period=2)
      >>> w = jnp.array([0.0])
      >>> state = tx.init(w)
      >>> for _ in range(4):
      ...     updates, state = tx.update(jnp.array([-1.0]), state, w)
      ...     w = optax.apply_updates(w, updates)
      ...     print(w)  # 1; halfway from 0 to 2; 2; halfway from 1 to 3
      [1.]
      [1.]
      [2.]
      [2.]

    .. note::
      ``optax.lookahead`` needs its own ``LookaheadParams`` in place of the parameters,
      and with them fails inside ``chain`` and ``MultiSteps``.

    References:
      Zhang, Lucas, Hinton, Ba, `Lookahead Optimizer: k steps forward, 1 step back
      <https://arxiv.org/abs/1907.08610>`_, 2019, Algorithm 1.
    """
    inner = with_extra_args(inner)

    def init_fn(params):
        return LookaheadState(
            inner_state=inner.init(params),
            lookahead_count=jnp.zeros([], jnp.int32),
            sync_count=jnp.zeros([], jnp.int32),
            stop_at=jnp.full([], NEVER, jnp.int32),
            slow=jax.tree.map(lambda p: jnp.array(p, copy=True), params),
        )

    def update_fn(updates, state, params=None, **extra_args: Any):
        params = checks.check_params("lookahead", params)
        updates, inner_state = inner.update(
            updates, state.inner_state, params, **extra_args
        )
        end = state.stop_at
        if stop is not None:
            end = jnp.minimum(end, jnp.asarray(stop, jnp.int32))
        period = jnp.asarray(sync_period, jnp.int32)

        def syncs(count):
            return (count % period == 0) & (count < end)

        count = increment(state.lookahead_count)
        sync, was_sync = syncs(count), syncs(state.lookahead_count)

        # Selections, not conditionals: they stay in one loop with the inner update (a
        # conditional would have the updates written out first, which costs 2-3.5 times
        # the whole step). The slow weights are the parameters that arrive after a
        # synchronisation (and at first), whatever changed them on the way.
        slow = jax.tree.map(
            lambda p, old: jnp.where(was_sync, p, old), params, state.slow
        )

        def step(u, p, fast, slow):
            target = slow + jnp.asarray(slow_step_size, slow.dtype) * (fast - slow)
            return jnp.where(sync, (target - p).astype(u.dtype), u)

        fast = optax.apply_updates(params, updates)
        updates = jax.tree.map(step, updates, params, fast, slow)
        return updates, LookaheadState(
            inner_state, count, state.sync_count + sync, state.stop_at, slow
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
