"""Switching from an adaptive optimiser to SGD, at a step and a rate found online."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from optax_ia._src.arguments import Number, checked
from optax_ia._src.diagnostics import diagnostics, read_diagnostics
from optax_ia._src.paths import path_string
from optax_ia._src.scalars import bare_scalar, default_float, increment
from optax_ia._src.states import find_states
from optax_ia.schedules import ScaleByLearningRateState


class SwitchMonitor(NamedTuple):
    """The estimate of SGD's learning rate and the switch, in :class:`SwitchToSgdState`.

    Attributes:
      gamma: the last estimate of SGD's learning rate, shape (), the default float.
      average: moving average of the monitored quantity without bias correction, shape
        (), the default float.
      lambda_hat: the average after the correction, as a learning rate, shape (), the
        default float.
      num_estimates: the number of estimates in the average, shape (), int32.
      sgd_rate: SGD's learning rate at the switch, 0 before it, shape (), the default
        float.
      inner_rate: the inner learning rate at the switch; before it, the inner learning
        rate if it has been constant so far, else -1; shape (), the default float.
      switch_step: the update after which SGD took over, 0 before, shape (), int32.
    """

    gamma: jax.Array
    average: jax.Array
    lambda_hat: jax.Array
    num_estimates: jax.Array
    sgd_rate: jax.Array
    inner_rate: jax.Array
    switch_step: jax.Array


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


def _recorded_rates(inner_state: optax.OptState) -> list[Any]:
    """The learning rates that the inner state records."""
    recorded = find_states(inner_state, ScaleByLearningRateState)
    if recorded:
        return [state.current_learning_rate for state in recorded]
    return [
        state.hyperparams["learning_rate"]
        for state in find_states(inner_state, optax.InjectStatefulHyperparamsState)
        if "learning_rate" in state.hyperparams
    ]


def _refuse_schedule(inner_state: optax.OptState) -> None:
    """Raises if the inner learning rate may change and its state does not record it."""
    rates = _recorded_rates(inner_state)
    injected = find_states(inner_state, optax.InjectStatefulHyperparamsState)
    if find_states(inner_state, optax.ScaleByScheduleState):
        reason = "an optax schedule, whose state does not hold the learning rate"
    elif len(rates) > 1:
        reason = f"{len(rates)} learning rates"
    elif not rates and any(state.hyperparams_states for state in injected):
        reason = "an injected schedule, and no hyperparameter named 'learning_rate'"
    else:
        return
    raise ValueError(
        f"the state of inner has {reason}, so SGD could not follow the schedule after "
        "the switch. Pass switch_to_sgd(inner, learning_rate=...): the schedule, or a "
        "number if the learning rate of inner is constant."
    )


def _refuse_wrappers(inner_state: optax.OptState) -> None:
    """Raises if the inner optimiser relies on its updates being applied."""
    reported = diagnostics(inner_state)
    plateau = find_states(inner_state, optax.contrib.ReduceLROnPlateauState)
    if "num_averaged" in reported:
        found = "an average of the iterates, which SGD's would be missing from"
        remedy = "optax_ia.tail_average"
    elif "sync_count" in reported:
        found = "Lookahead, whose steps back are no estimate of SGD's learning rate"
        remedy = "optax_ia.lookahead"
    elif plateau:
        found = "reduce_on_plateau, whose scale SGD would not follow"
        remedy = "optax.contrib.reduce_on_plateau"
    else:
        return
    raise ValueError(
        f"inner contains {found}. Put {remedy} around or after switch_to_sgd instead "
        "of inside it."
    )


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
    inner = optax.with_extra_args_support(inner)
    if monitor is None and callable(learning_rate):
        monitor = "relative"

    def init_fn(params):
        inner_state = inner.init(params)
        _refuse_wrappers(inner_state)
        if learning_rate is None:
            _refuse_schedule(inner_state)

        def new_monitor(_=None):
            # Every field is an array of its own, or the state could not be donated.
            zero = lambda: jnp.zeros([], default_float())  # noqa: E731
            count = lambda: jnp.zeros([], jnp.int32)  # noqa: E731
            return SwitchMonitor(
                gamma=zero(),
                average=zero(),
                lambda_hat=zero(),
                num_estimates=count(),
                sgd_rate=zero(),
                inner_rate=zero(),
                switch_step=count(),
            )

        return SwitchToSgdState(
            inner_state=inner_state,
            switch_count=jnp.zeros([], jnp.int32),
            monitor=(
                new_monitor()
                if scope == "global"
                else jax.tree.map(new_monitor, params)
            ),
            velocity=jax.tree.map(
                lambda w: jnp.zeros_like(w, jnp.promote_types(w.dtype, jnp.float32)),
                params,
            ),
        )

    def observe(before, step_dot_step, step_dot_grad, count, rate):
        """The monitor after an update, with the decision about the next one."""
        adaptive = before.switch_step == 0
        gamma = step_dot_step / jnp.where(step_dot_grad == 0, 1, -step_dot_grad)
        useful = adaptive & (step_dot_grad != 0) & jnp.isfinite(gamma)
        unit = jnp.ones_like(rate)
        if monitor != "gamma":
            useful &= rate > 0
            unit = jnp.where(rate > 0, rate, 1)
        num_estimates = before.num_estimates + useful

        constant = (count == 1) | (before.inner_rate == rate)
        relative = jnp.asarray(monitor == "relative")
        if monitor is None:
            relative = ~constant
        # Algorithm 1 counts the updates, also those without an estimate.
        age = jnp.where(relative, num_estimates, count)

        decay = jnp.asarray(b2, default_float())
        average = jnp.where(
            useful, decay * before.average + (1 - decay) * gamma / unit, before.average
        )
        settled = average / (1 - decay ** jnp.maximum(age, 1))
        difference = jnp.abs(settled - gamma / unit)
        scale = jnp.where(relative, 1, unit)  # the unit of tol
        if switch_at is None:
            switch = useful & (age > 1) & (settled > 0)
            switch &= scale * difference < tol + rtol * scale * settled
        else:
            # Without a rate for SGD, wait until the estimate is positive.
            due = count >= jnp.asarray(switch_at, jnp.int32)
            switch = adaptive & due
            if sgd_learning_rate is None:
                switch &= settled > 0
        switch &= rate > 0
        found = settled * unit
        if sgd_learning_rate is not None:
            found = jnp.asarray(sgd_learning_rate, default_float())
        rate_so_far = jnp.where(constant, rate, -1)
        return SwitchMonitor(
            gamma=jnp.where(useful, gamma, before.gamma),
            average=average,
            lambda_hat=jnp.where(
                adaptive & (rate > 0), settled * unit, before.lambda_hat
            ),
            num_estimates=num_estimates,
            sgd_rate=jnp.where(switch, found, before.sgd_rate),
            inner_rate=jnp.where(
                switch, rate, jnp.where(adaptive, rate_so_far, before.inner_rate)
            ),
            switch_step=jnp.where(switch, count, before.switch_step),
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
            (rate,) = _recorded_rates(inner_state) or [1.0]
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
