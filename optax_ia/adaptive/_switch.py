"""Switching from an adaptive optimiser to SGD, at a step and a rate found online."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.arguments import Number, checked
from optax_ia._src.diagnostics import read_diagnostics
from optax_ia._src.paths import path_string
from optax_ia._src.scalars import bare_scalar, default_float, increment
from optax_ia._src.wrapping import with_extra_args
from optax_ia.adaptive._switch_inner import (
    recorded_rates,
    refuse_schedule,
    refuse_wrappers,
)
from optax_ia.adaptive._switch_monitor import (
    SwitchCriterion,
    SwitchMonitor,
    new_monitor,
)


class SwitchToSgdState(NamedTuple):
    """State of :func:`switch_to_sgd`.

    Attributes:
      inner_state: the state of the adaptive optimiser.
      switch_count: number of updates done, shape (), int32.
      monitor: one :class:`SwitchMonitor`, or a tree of them, one for each parameter.
      velocity: SGD's momentum buffer, before the switch the last step: the structure
        of the parameters, in float32 or wider.
    """

    inner_state: optax.OptState
    switch_count: jax.Array
    monitor: Any
    velocity: optax.Updates


def _is_monitor(node: Any) -> bool:
    return isinstance(node, SwitchMonitor)


@read_diagnostics.register
def _(state: SwitchToSgdState) -> dict[str, jax.Array]:
    read = {}
    for path, monitor in jax.tree_util.tree_leaves_with_path(
        state.monitor, is_leaf=_is_monitor
    ):
        suffix = f"/{path_string(path)}" if path else ""
        switch_step = bare_scalar(monitor.switch_step)
        read |= {
            f"gamma{suffix}": monitor.gamma,
            f"lambda_hat{suffix}": monitor.lambda_hat,
            f"sgd_learning_rate{suffix}": monitor.sgd_rate,
            f"phase{suffix}": (switch_step > 0).astype(jnp.int32),
            f"switch_step{suffix}": switch_step,
        }
    return read


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """The real dot product, of complex numbers as of pairs of real ones."""
    wide = jnp.promote_types(a.dtype, jnp.float32)
    product = jnp.conj(a.astype(wide)) * b.astype(wide)
    return jnp.sum(product.real).astype(default_float())


@checked(
    complex_params=True,
    learning_rate=Number(minimum=0, schedule=True, optional=True),
)
def switch_to_sgd(
    inner: optax.GradientTransformation,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    *,
    tol: jax.typing.ArrayLike = 1e-9,
    rtol: jax.typing.ArrayLike = 0.0,
    monitor: Literal["gamma", "relative"] | None = None,
    scope: Literal["global", "leaf"] = "global",
    learning_rate: optax.ScalarOrSchedule | None = None,
    switch_at: jax.typing.ArrayLike | None = None,
    sgd_learning_rate: jax.typing.ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Starts with an adaptive optimiser and ends with SGD: SWATS for any optimiser.

    Until the switch, update k is the inner update :math:`p_k`. Each update with
    :math:`p_k^T g_k \ne 0` estimates the learning rate that SGD would need,

    .. math::
      \gamma_k = \frac{p_k^T p_k}{-p_k^T g_k},\quad
      \lambda_k = \beta_2\lambda_{k-1} + (1-\beta_2)\gamma_k,\quad
      \hat\lambda_k = \lambda_k / (1 - \beta_2^k).

    The switch comes after the first update with :math:`k > 1`,
    :math:`\hat\lambda_k > 0` and

    .. math::
      |\hat\lambda_k - \gamma_k| < \mathrm{tol} + \mathrm{rtol}\,\hat\lambda_k .

    The following updates are SGD with momentum at the rate
    :math:`\Lambda = \hat\lambda_k`, with :math:`\alpha` the inner learning rate:

    .. math::
      v_j = \beta_1 v_{j-1} + g_j,\quad
      u_j = -(1-\beta_1)\,\Lambda\,\frac{\alpha_j}{\alpha_k}\,v_j,\quad v_k = 0.

    :math:`\gamma_k` is proportional to :math:`\alpha_k`, so under a schedule it changes
    with the schedule, and an absolute tolerance holds wherever the schedule is low.
    ``monitor="relative"`` averages :math:`\gamma_k/\alpha_k` instead and compares in
    its unit. The n-th estimate is the n-th update with :math:`\alpha_k > 0` and
    :math:`p_k^T g_k \ne 0`, and

    .. math::
      \lambda_k = \beta_2\lambda_{k-1} + (1-\beta_2)\frac{\gamma_k}{\alpha_k},\quad
      \hat\lambda_k = \frac{\lambda_k}{1 - \beta_2^n},\quad
      \Big|\hat\lambda_k - \frac{\gamma_k}{\alpha_k}\Big|
        < \mathrm{tol} + \mathrm{rtol}\,\hat\lambda_k,\quad n > 1,\quad
      \Lambda = \hat\lambda_k\,\alpha_k .

    The state holds everything as arrays, so the switch needs no decision on the host
    and no recompilation.

    Args:
      inner: the adaptive optimiser, with its learning rate. Averages of the iterates
        and :func:`lookahead` go around this wrapper, not inside it.
      b1: momentum of SGD, in [0, 1).
      b2: decay of the average of :math:`\gamma`, in [0, 1).
      tol: the absolute tolerance, > 0. Differences below about 1e-8 are rounding in
        float32: if the printed 1e-9 never fires, try a hundredth of the learning rate
        that you expect, or ``rtol=0.01``.
      rtol: the tolerance relative to the average, >= 0. It has no unit, so it means the
        same with both monitors.
      monitor: ``"gamma"`` monitors :math:`\gamma_k` as printed, ``"relative"``
        :math:`\gamma_k/\alpha_k`. None is ``"relative"`` if ``learning_rate`` is a
        schedule; otherwise it is ``"gamma"`` until the inner learning rate first
        changes and ``"relative"`` from there on. Static.
      scope: ``"global"``, one switch from one dot product over all parameters, or
        ``"leaf"``, one for each parameter (seven scalars of state each). Static.
      learning_rate: the schedule that ``inner`` follows. None reads the learning rate
        from the inner state, where the optimisers of this package and
        ``optax.inject_hyperparams`` keep it. Other optimisers with a schedule are
        refused without it.
      switch_at: switch after this update, or the first one after it with
        :math:`\hat\lambda > 0`, whatever the criterion says; an integer >= 1.
      sgd_learning_rate: SGD's learning rate at the switch, in place of
        :math:`(1-\beta_1)\Lambda`, > 0. It then follows the schedule.

    Returns:
      The transformation. Its state has one copy of the parameters more than that of
      ``inner``. Extra arguments go to ``inner``. :func:`diagnostics` reports ``gamma``,
      ``lambda_hat``, ``sgd_learning_rate`` (:math:`\Lambda`; 0 before the switch),
      ``phase`` (0, then 1) and ``switch_step`` (0 before), with the parameter's path
      for ``scope="leaf"``. Both monitors report ``gamma`` and ``lambda_hat`` as
      learning rates: the relative average is multiplied by :math:`\alpha_k`.

    Raises:
      ValueError: if a concrete argument is out of its range, or ``init`` finds in
        ``inner`` a schedule that it cannot read, an average or Lookahead.

    Example:
      RMSprop with an estimate that settles on a quadratic; SGD then finishes the run:

      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.switch_to_sgd(optax.rmsprop(0.01), b2=0.9, tol=1e-2)
      >>> def step(carry, _):
      ...     w, state = carry
      ...     updates, state = tx.update(2 * w, state, w)
      ...     return (optax.apply_updates(w, updates), state), None
      >>> w = jnp.array([1.0, -1.0])
      >>> (w, state), _ = jax.lax.scan(step, (w, tx.init(w)), length=300)
      >>> values = optax_ia.diagnostics(state)
      >>> print(values["phase"], bool(values["switch_step"] > 1))
      1 True
      >>> bool(abs(w).max() < 1e-3)
      True

    .. note::
      Algorithm 1 has no condition on the sign of :math:`\hat\lambda`; a negative
      learning rate would ascend. It has no schedule either. A non-finite estimate
      leaves the average unchanged. Weight decay inside ``inner`` ends with it: put
      :func:`l2_decay` before this wrapper, as :func:`swats` does, and both phases
      decay.

    References:
      Keskar, Socher, `Improving Generalization Performance by Switching from Adam to
      SGD <https://arxiv.org/abs/1712.07628>`_, 2017, Algorithm 1 and section 4.
    """
    inner = with_extra_args(inner)
    if monitor is None and callable(learning_rate):
        monitor = "relative"
    criterion = SwitchCriterion(b2, tol, rtol, monitor, switch_at, sgd_learning_rate)

    def init_fn(params):
        inner_state = inner.init(params)
        refuse_wrappers(inner_state)
        if learning_rate is None:
            refuse_schedule(inner_state)

        return SwitchToSgdState(
            inner_state=inner_state,
            switch_count=jnp.zeros([], jnp.int32),
            monitor=(
                new_monitor()
                if scope == "global"
                else jax.tree.map(lambda _: new_monitor(), params)
            ),
            velocity=jax.tree.map(
                lambda w: jnp.zeros_like(w, jnp.promote_types(w.dtype, jnp.float32)),
                params,
            ),
        )

    def update_fn(updates, state, params=None, **extra_args):
        grads = updates
        steps, inner_state = inner.update(
            grads, state.inner_state, params, **extra_args
        )
        count = increment(state.switch_count)
        momentum_factor = 1 if sgd_learning_rate is not None else 1 - b1
        if callable(learning_rate):
            rate = learning_rate(count - 1)
        elif learning_rate is not None:
            rate = learning_rate
        else:  # an optimiser that records no learning rate has a constant one
            (rate,) = recorded_rates(inner_state) or [1.0]
        rate = jnp.asarray(rate, default_float())

        before = state.monitor
        if scope == "global":
            before = jax.tree.map(lambda _: state.monitor, grads)

        # Until the switch the momentum buffer holds the adaptive step, where the dot
        # products and the update read it. A fresh buffer for the step would cost more
        # memory traffic than the rest of this function.
        def push(m, p, g, v):
            v = jnp.where(m.switch_step == count - 1, 0, v)  # the first step of SGD
            moved = jnp.asarray(b1, v.dtype) * v + g.astype(v.dtype)
            return jnp.where(m.switch_step > 0, moved, p.astype(v.dtype))

        velocity = jax.tree.map(
            push, before, steps, grads, state.velocity, is_leaf=_is_monitor
        )

        def choose(m, g, v):
            # Before the switch this is not selected, and must not divide by zero.
            relative = rate / jnp.where(m.inner_rate == 0, 1, m.inner_rate)
            scale = -momentum_factor * m.sgd_rate * relative
            chosen = jnp.where(m.switch_step > 0, scale.astype(v.dtype) * v, v)
            return chosen.astype(g.dtype)

        updates = jax.tree.map(choose, before, grads, velocity, is_leaf=_is_monitor)

        step_dot_step = jax.tree.map(lambda p: _dot(p, p), velocity)
        step_dot_grad = jax.tree.map(_dot, velocity, grads)
        if scope == "global":
            after = criterion.observe(
                state.monitor,
                jnp.asarray(optax.tree.sum(step_dot_step), default_float()),
                jnp.asarray(optax.tree.sum(step_dot_grad), default_float()),
                count,
                rate,
            )
        else:
            after = jax.tree.map(
                lambda m, pp, pg: criterion.observe(m, pp, pg, count, rate),
                before,
                step_dot_step,
                step_dot_grad,
                is_leaf=_is_monitor,
            )
        return updates, SwitchToSgdState(inner_state, count, after, velocity)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
