"""Stochastic variance-reduced gradients as a wrapper of any optimiser."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src import checks
from optax_ia._src.arguments import Optimizer, checked
from optax_ia._src.diagnostics import read_diagnostics
from optax_ia._src.scalars import bare_scalar, increment
from optax_ia._src.states import find_state
from optax_ia._src.wrapping import with_extra_args


class SvrgState(NamedTuple):
    """State of :func:`svrg`.

    Attributes:
      inner_state: the state of the inner optimiser.
      svrg_count: number of updates done, shape (), int32.
      snapshot_every: updates between snapshots, shape (), int32.
      snapshot: the parameters at the last snapshot, their tree and dtypes.
      snapshot_gradient: the full gradient there, likewise.
    """

    inner_state: optax.OptState
    svrg_count: jax.Array
    snapshot_every: jax.Array
    snapshot: optax.Params
    snapshot_gradient: optax.Updates


@read_diagnostics.register
def _(state: SvrgState) -> dict[str, jax.Array]:
    every = bare_scalar(state.snapshot_every)
    return {"num_snapshots": (bare_scalar(state.svrg_count) + every - 1) // every}


def svrg_snapshot_due(opt_state: optax.OptState) -> jax.Array:
    """Whether the next update of :func:`svrg` takes a snapshot.

    If so, ``full_gradient`` must be the gradient over all the data (or a large batch)
    at the current parameters.

    Args:
      opt_state: the state of an optimiser with :func:`svrg`, inside any wrapper.

    Returns:
      A bool array of shape ().

    Raises:
      ValueError: if ``opt_state`` holds no such state or several.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> w = jnp.ones(1)
      >>> tx = optax_ia.svrg(optax.sgd(0.1), snapshot_every=2)
      >>> state = tx.init(w)
      >>> for _ in range(3):
      ...     print(optax_ia.svrg_snapshot_due(state))
      ...     _, state = tx.update(w, state, w, grad_fn=lambda w: w, full_gradient=w)
      True
      False
      True
    """
    state = find_state(opt_state, SvrgState, "svrg")
    return bare_scalar(state.svrg_count) % bare_scalar(state.snapshot_every) == 0


def _like(tree: Any, full: Any) -> Any:
    """``full`` with the places masked out that are masked out of ``tree``."""

    def masked(node):
        return isinstance(node, optax.MaskedNode)

    return jax.tree.map(
        lambda node, other: node if masked(node) else other, tree, full, is_leaf=masked
    )


@checked(complex_params=True, inner=Optimizer(instead="svrg_sgd"))
def svrg(
    inner: optax.GradientTransformation, snapshot_every: jax.typing.ArrayLike
) -> optax.GradientTransformationExtraArgs:
    r"""Wraps an optimiser so that it sees gradients of vanishing variance.

    Every ``snapshot_every`` updates, before the first one, the parameters are kept as
    :math:`\tilde w` with their full gradient :math:`\mu`, and the inner optimiser gets

    .. math::
      \tilde g = \nabla f_i(w) - \nabla f_i(\tilde w) + \mu .

    Near the optimum the first two cancel and the third vanishes, so that a constant
    rate converges linearly on a strongly convex finite sum, where SGD stalls at a
    distance that its rate decides.

    Args:
      inner: the optimiser, its learning rate included; SGD in the paper.
      snapshot_every: updates between snapshots, an integer >= 1; once or twice the
        number of batches an epoch has.

    Returns:
      The transformation. Its state holds two trees more than ``inner``: with the
      parameters three copies, and each update needs two gradients. ``update`` needs
      ``params`` and the extra arguments ``grad_fn``, with ``grad_fn(params)`` the
      gradient on the same batch with the same random keys, and ``full_gradient``, a
      tree like the gradient: that over all the data, or over a large batch, at the
      current parameters. It is used when :func:`svrg_snapshot_due` says so; other
      updates ignore its values. All extra arguments go to ``inner``.

    Raises:
      ValueError: if ``snapshot_every`` is concrete and no integer >= 1, or ``grad_fn``,
        ``full_gradient`` or ``params`` is missing.

    Example:
      The mean of squares to two points; SGD with the same rate goes on bouncing:

      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> data = jnp.array([-1.0, 3.0])
      >>> gradient = lambda w, batch: w - jnp.mean(batch)
      >>> tx = optax_ia.svrg(optax.sgd(0.5), snapshot_every=4)
      >>> def step(carry, i):
      ...     w, state = carry
      ...     updates, state = tx.update(
      ...         gradient(w, data[i]), state, w,
      ...         grad_fn=lambda w: gradient(w, data[i]),
      ...         full_gradient=gradient(w, data),
      ...     )
      ...     return (optax.apply_updates(w, updates), state), None
      >>> w = jnp.array(5.0)
      >>> (w, _), _ = jax.lax.scan(step, (w, tx.init(w)), jnp.arange(40) % 2)
      >>> print(f"{w:.4f}")
      1.0000

    .. note::
      Dropout, augmentation and batch normalisation break the cancellation unless the
      two gradients of a step see the same keys and statistics, and even then the loss
      is another one at each snapshot (Defazio, Bottou 2019).

    References:
      Johnson, Zhang, `Accelerating Stochastic Gradient Descent using Predictive
      Variance Reduction <https://papers.nips.cc/paper/4937>`_, 2013, with option I; the
      large batch as in the survey P2, eq. 27.
    """
    inner = with_extra_args(inner)

    def init_fn(params):
        return SvrgState(
            inner_state=inner.init(params),
            svrg_count=jnp.zeros([], jnp.int32),
            snapshot_every=jnp.asarray(snapshot_every, jnp.int32),
            snapshot=jax.tree.map(lambda p: jnp.array(p, copy=True), params),
            snapshot_gradient=optax.tree.zeros_like(params),
        )

    def update_fn(
        updates,
        state,
        params=None,
        *,
        grad_fn: Any = None,
        full_gradient: Any = None,
        **extra_args,
    ):
        params = checks.check_params("svrg", params)
        checks.check_extra_args("svrg", grad_fn=grad_fn, full_gradient=full_gradient)
        due = state.svrg_count % jnp.asarray(snapshot_every, jnp.int32) == 0
        full = optax.tree.cast_like(
            _like(updates, full_gradient), state.snapshot_gradient
        )
        snapshot, mean = jax.lax.cond(
            due,
            lambda new, old: new,
            lambda new, old: old,
            (params, full),
            (state.snapshot, state.snapshot_gradient),
        )
        anchor = grad_fn(snapshot)
        reduced = jax.tree.map(
            lambda g, a, m: g - a.astype(g.dtype) + m.astype(g.dtype),
            updates,
            anchor,
            mean,
        )
        reduced, inner_state = inner.update(
            reduced,
            state.inner_state,
            params,
            grad_fn=grad_fn,
            full_gradient=full_gradient,
            **extra_args,
        )
        return reduced, SvrgState(
            inner_state,
            increment(state.svrg_count),
            jnp.asarray(snapshot_every, jnp.int32),
            snapshot,
            mean,
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
