"""The estimate of SGD's learning rate, and the decision to switch to SGD."""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from optax_ia._src.scalars import default_float


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


def new_monitor() -> SwitchMonitor:
    """The monitor before the first update."""
    # Every field is an array of its own, or the state could not be donated.
    zeros = (jnp.zeros([], default_float()) for _ in range(5))
    counts = (jnp.zeros([], jnp.int32) for _ in range(2))
    gamma, average, lambda_hat, sgd_rate, inner_rate = zeros
    num_estimates, switch_step = counts
    return SwitchMonitor(
        gamma, average, lambda_hat, num_estimates, sgd_rate, inner_rate, switch_step
    )


@dataclasses.dataclass(frozen=True)
class SwitchCriterion:
    """When to switch; the fields are arguments of :func:`switch_to_sgd`."""

    b2: jax.typing.ArrayLike
    tol: jax.typing.ArrayLike
    rtol: jax.typing.ArrayLike
    monitor: Literal["gamma", "relative"] | None
    switch_at: jax.typing.ArrayLike | None
    sgd_learning_rate: jax.typing.ArrayLike | None

    def observe(
        self,
        before: SwitchMonitor,
        step_dot_step: jax.Array,
        step_dot_grad: jax.Array,
        count: jax.Array,
        rate: jax.Array,
    ) -> SwitchMonitor:
        """The monitor after an update, with the decision about the next one."""
        adaptive = before.switch_step == 0
        gamma = step_dot_step / jnp.where(step_dot_grad == 0, 1, -step_dot_grad)
        unit = jnp.ones_like(rate) if self.monitor == "gamma" else rate
        measurable = unit > 0
        unit = jnp.where(measurable, unit, 1)
        useful = adaptive & measurable & (step_dot_grad != 0) & jnp.isfinite(gamma)
        num_estimates = before.num_estimates + useful

        constant = (count == 1) | (before.inner_rate == rate)
        relative = jnp.asarray(self.monitor == "relative")
        if self.monitor is None:
            relative = ~constant
        # Algorithm 1 counts the updates, also those without an estimate.
        age = jnp.where(relative, num_estimates, count)

        decay = jnp.asarray(self.b2, default_float())
        average = jnp.where(
            useful, decay * before.average + (1 - decay) * gamma / unit, before.average
        )
        settled = average / (1 - decay ** jnp.maximum(age, 1))
        difference = jnp.abs(settled - gamma / unit)
        scale = jnp.where(relative, 1, unit)  # to the unit of tol
        if self.switch_at is None:
            switch = useful & (age > 1) & (settled > 0)
            switch &= scale * difference < self.tol + self.rtol * scale * settled
        else:
            # Without a rate for SGD, wait until the estimate is positive.
            due = count >= jnp.asarray(self.switch_at, jnp.int32)
            switch = adaptive & due
            if self.sgd_learning_rate is None:
                switch &= settled > 0
        switch &= rate > 0
        found = settled * unit
        if self.sgd_learning_rate is not None:
            found = jnp.asarray(self.sgd_learning_rate, default_float())
        rate_so_far = jnp.where(constant, rate, -1)
        return SwitchMonitor(
            gamma=jnp.where(useful, gamma, before.gamma),
            average=average,
            lambda_hat=jnp.where(
                adaptive & measurable, settled * unit, before.lambda_hat
            ),
            num_estimates=num_estimates,
            sgd_rate=jnp.where(switch, found, before.sgd_rate),
            inner_rate=jnp.where(
                switch, rate, jnp.where(adaptive, rate_so_far, before.inner_rate)
            ),
            switch_step=jnp.where(switch, count, before.switch_step),
        )
