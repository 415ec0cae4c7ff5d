"""Switching from an adaptive rule to SGD, at a step and a rate that the run finds."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.arguments import Number, checked
from optax_ia._src.diagnostics import read_diagnostics
from optax_ia._src.paths import path_string
from optax_ia._src.scalars import bare_scalar, default_float, increment
from optax_ia._src.states import find_states
from optax_ia.schedules import ScaleByLearningRateState


class SwitchMonitor(NamedTuple):
    """What decides one switch, in :class:`SwitchToSgdState`.

    Attributes:
      gamma: the last estimate of SGD's learning rate, shape (), the default float.
      average: its moving average before the bias correction, likewise.
      lambda_hat: that after the correction, likewise.
      sgd_rate: SGD's rate at the switch, 0 before it, likewise.
      rate_at_switch: the inner learning rate at the switch, likewise.
      switch_step: the update after which SGD took over, 0 before, shape (), int32.
    """

    gamma: jax.Array
    average: jax.Array
    lambda_hat: jax.Array
    sgd_rate: jax.Array
    rate_at_switch: jax.Array
    switch_step: jax.Array


class SwitchToSgdState(NamedTuple):
    """State of :func:`switch_to_sgd`.

    Attributes:
      inner_state: the state of the adaptive transformation.
      switch_count: number of updates done, shape (), int32.
      monitor: one :class:`SwitchMonitor`, or a tree of them, one for each parameter.
      velocity: SGD's momentum buffer, before the switch the last step: the tree of the
        parameters, float32 or wider.
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


def _inner_rate(inner_state: optax.OptState) -> jax.Array:
    """The learning rate that the inner state says it used, 1 if it says nothing."""
    recorded = find_states(inner_state, ScaleByLearningRateState)
    if len(recorded) == 1:
        return recorded[0].current_learning_rate
    injected = [
        state.hyperparams["learning_rate"]
        for state in find_states(inner_state, optax.InjectStatefulHyperparamsState)
        if "learning_rate" in state.hyperparams
    ]
    if len(injected) == 1:
        return jnp.asarray(injected[0], default_float())
    return jnp.ones([], default_float())


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    wide = jnp.promote_types(a.dtype, jnp.float32)
    return jnp.sum(a.astype(wide) * b.astype(wide)).astype(default_float())


@checked(learning_rate=Number(minimum=0, schedule=True, optional=True))
def switch_to_sgd(
    inner: optax.GradientTransformation,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    *,
    tol: jax.typing.ArrayLike = 1e-9,
    scope: Literal["global", "leaf"] = "global",
    learning_rate: optax.ScalarOrSchedule | None = None,
    switch_at: jax.typing.ArrayLike | None = None,
    sgd_learning_rate: jax.typing.ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Begins with an adaptive optimiser and ends with SGD (SWATS for any optimiser).

    While adaptive, the update k is the inner one, :math:`p_k`. Each whose
    :math:`p_k^T g_k \ne 0` gives an estimate of the learning rate that SGD would need,

    .. math::
      \gamma_k = \frac{p_k^T p_k}{-p_k^T g_k},\quad
      \lambda_k = \beta_2\lambda_{k-1} + (1-\beta_2)\gamma_k,\quad
      \hat\lambda_k = \lambda_k / (1 - \beta_2^k),

    and if :math:`k > 1`, :math:`|\hat\lambda_k - \gamma_k| <` ``tol`` and
    :math:`\hat\lambda_k > 0`, the following updates are those of SGD with momentum at
    the rate :math:`\Lambda = \hat\lambda_k`:

    .. math::
      v_j = \beta_1 v_{j-1} + g_j,\quad
      u_j = -(1-\beta_1)\,\Lambda\,\frac{\alpha_j}{\alpha_k}\,v_j,\quad v_k = 0.

    The inner learning rate :math:`\alpha` goes on following its schedule. All of it is
    arrays in the state: no host decision, no recompilation.

    Args:
      inner: the adaptive optimiser, its learning rate included.
      b1: momentum of SGD, in [0, 1).
      b2: decay of the average of :math:`\gamma`, in [0, 1).
      tol: the largest difference that counts as settled, > 0. Differences below about
        1e-8 are rounding in float32: where the printed 1e-9 never fires, try a
        hundredth of the rate that you expect.
      scope: ``"global"``, one switch from one dot product over all parameters, or
        ``"leaf"``, one for each parameter (six scalars of state each). Static.
      learning_rate: the schedule that ``inner`` follows. None reads the rate from its
        state, which optimisers of this package and ``optax.inject_hyperparams`` keep;
        for others pass it if it is a schedule.
      switch_at: switch after this update (the first from it on whose
        :math:`\hat\lambda` is positive), whatever the criterion says, an integer >= 1.
      sgd_learning_rate: the rate of SGD in place of :math:`(1-\beta_1)\Lambda`, > 0.

    Returns:
      The transformation. One more tree of state than ``inner``. Extra arguments go to
      ``inner``. :func:`diagnostics` gives ``gamma``, ``lambda_hat``,
      ``sgd_learning_rate`` (:math:`\Lambda`; 0 before the switch), ``phase`` (0, then
      1) and ``switch_step`` (0 before), with the parameter's path for ``scope="leaf"``.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      RMSprop whose estimate settles on a quadratic; SGD then ends the work:

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
      Algorithm 1 has no condition on the sign of :math:`\hat\lambda`; a negative rate
      would climb. An estimate that is not finite leaves the average as it is. Decay
      inside ``inner`` ends with it: put :func:`l2_decay` before this wrapper, as
      :func:`swats` does, and both phases decay.

    References:
      Keskar, Socher, `Improving Generalization Performance by Switching from Adam to
      SGD <https://arxiv.org/abs/1712.07628>`_, 2017, Algorithm 1 and section 4.
    """
    inner = optax.with_extra_args_support(inner)

    def init_fn(params):
        def monitor(_=None):
            # an array each: two fields sharing one could not be donated
            zeros = (jnp.zeros([], default_float()) for _ in range(5))
            return SwitchMonitor(*zeros, switch_step=jnp.zeros([], jnp.int32))

        return SwitchToSgdState(
            inner_state=inner.init(params),
            switch_count=jnp.zeros([], jnp.int32),
            monitor=monitor() if scope == "global" else jax.tree.map(monitor, params),
            velocity=jax.tree.map(
                lambda w: jnp.zeros_like(w, jnp.promote_types(w.dtype, jnp.float32)),
                params,
            ),
        )

    def observe(monitor, step_dot_step, step_dot_grad, count, rate):
        """The monitor after an update, with the decision about the next one."""
        gamma = step_dot_step / jnp.where(step_dot_grad == 0, 1, -step_dot_grad)
        adaptive = monitor.switch_step == 0
        useful = adaptive & (step_dot_grad != 0) & jnp.isfinite(gamma)
        decay = jnp.asarray(b2, default_float())
        average = jnp.where(
            useful, decay * monitor.average + (1 - decay) * gamma, monitor.average
        )
        settled = average / (1 - decay**count)
        if switch_at is None:
            switch = useful & (count > 1) & (settled > 0)
            switch &= jnp.abs(settled - gamma) < tol
        else:
            # without a rate of its own it waits for one that descends
            due = count >= jnp.asarray(switch_at, jnp.int32)
            switch = adaptive & due & (rate > 0)
            if sgd_learning_rate is None:
                switch &= settled > 0
        found = settled
        if sgd_learning_rate is not None:
            found = jnp.asarray(sgd_learning_rate, default_float())
        return SwitchMonitor(
            gamma=jnp.where(useful, gamma, monitor.gamma),
            average=average,
            lambda_hat=jnp.where(adaptive, settled, monitor.lambda_hat),
            sgd_rate=jnp.where(switch, found, monitor.sgd_rate),
            rate_at_switch=jnp.where(switch, rate, monitor.rate_at_switch),
            switch_step=jnp.where(switch, count, monitor.switch_step),
        )

    def update_fn(updates, state, params=None, **extra_args):
        grads = updates
        steps, inner_state = inner.update(
            grads, state.inner_state, params, **extra_args
        )
        count = increment(state.switch_count)
        momentum_factor = 1 if sgd_learning_rate is not None else 1 - b1
        if learning_rate is None:
            rate = _inner_rate(inner_state)
        else:
            rate = (
                learning_rate(count - 1) if callable(learning_rate) else learning_rate
            )
            rate = jnp.asarray(rate, default_float())

        before = state.monitor
        if scope == "global":
            before = jax.tree.map(lambda _: state.monitor, grads)

        # Until the switch the buffer holds the adaptive step: the dot products and the
        # update then read it from there. Else it would be written to fresh memory,
        # which costs more than all the rest.
        def push(m, p, g, v):
            v = jnp.where(m.switch_step == count - 1, 0, v)  # the first step of SGD
            moved = jnp.asarray(b1, v.dtype) * v + g.astype(v.dtype)
            return jnp.where(m.switch_step > 0, moved, p.astype(v.dtype))

        velocity = jax.tree.map(
            push, before, steps, grads, state.velocity, is_leaf=_is_monitor
        )

        def choose(m, g, v):
            # 0/0 before the switch, where it is not selected
            relative = rate / jnp.where(m.rate_at_switch == 0, 1, m.rate_at_switch)
            scale = -momentum_factor * m.sgd_rate * relative
            chosen = jnp.where(m.switch_step > 0, scale.astype(v.dtype) * v, v)
            return chosen.astype(g.dtype)

        updates = jax.tree.map(choose, before, grads, velocity, is_leaf=_is_monitor)

        step_dot_step = jax.tree.map(lambda p: _dot(p, p), velocity)
        step_dot_grad = jax.tree.map(_dot, velocity, grads)
        if scope == "global":
            monitor = observe(
                state.monitor,
                jnp.asarray(optax.tree.sum(step_dot_step), default_float()),
                jnp.asarray(optax.tree.sum(step_dot_grad), default_float()),
                count,
                rate,
            )
        else:
            monitor = jax.tree.map(
                lambda m, pp, pg: observe(m, pp, pg, count, rate),
                before,
                step_dot_step,
                step_dot_grad,
                is_leaf=_is_monitor,
            )
        return updates, SwitchToSgdState(inner_state, count, monitor, velocity)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
