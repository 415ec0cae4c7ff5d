"""Adam with bounded step sizes: Adam-Clip, AdaBound and AMSBound."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from optax_ia._src.arguments import Flag, Number, checked
from optax_ia._src.scalars import default_float, increment
from optax_ia._src.types import Mask
from optax_ia.decay import l2_decay
from optax_ia.schedules import ScaleByLearningRateState


class BoundedAdamState(NamedTuple):
    """State of :func:`adam_clip` and :func:`adabound`.

    Attributes:
      rate: number of updates done and the learning rate of the last one.
      initial_rate: the learning rate at the start, shape (), the default float.
      mu: first moment, the tree and dtypes of the parameters.
      nu: second moment, likewise.
      nu_max: its running maximum, likewise; None without AMSBound.
    """

    rate: ScaleByLearningRateState
    initial_rate: jax.Array
    mu: optax.Updates
    nu: optax.Updates
    nu_max: Any


def _bounded_adam(
    learning_rate: optax.ScalarOrSchedule,
    bounds: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
    b1: jax.typing.ArrayLike,
    b2: jax.typing.ArrayLike,
    eps: jax.typing.ArrayLike,
    amsgrad: bool,
) -> optax.GradientTransformationExtraArgs:
    """Adam whose step sizes, learning rate included, are clipped.

    Args:
      learning_rate: a number or a schedule.
      bounds: ``(count, relative_rate)`` to the lower and the upper bound, the count
        from 1 and the rate relative to the one at the start.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added outside the square root, before the bias correction.
      amsgrad: divide by the root of the maximum of the raw second moments.

    Returns:
      The transformation; its updates are ready to be added.
    """

    def rate_at(count):
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        return jnp.asarray(rate, default_float())

    def init_fn(params):
        count = jnp.zeros([], jnp.int32)
        return BoundedAdamState(
            rate=ScaleByLearningRateState(count, rate_at(count)),
            initial_rate=jnp.array(rate_at(count), copy=True),
            mu=optax.tree.zeros_like(params),
            nu=optax.tree.zeros_like(params),
            nu_max=optax.tree.zeros_like(params) if amsgrad else None,
        )

    def update_fn(updates, state, params=None, **extra_args):
        del params, extra_args
        rate = rate_at(state.rate.count)
        count = increment(state.rate.count)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        mu = optax.tree.cast_like(mu, state.mu)
        nu = optax.tree.cast_like(nu, state.nu)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu) if amsgrad else None

        # a warm-up from zero has no first rate to compare with
        start = state.initial_rate
        relative = jnp.where(start == 0, 1, rate / jnp.where(start == 0, 1, start))
        lower, upper = bounds(count, relative)
        scale = rate * jnp.sqrt(1 - b2**count) / (1 - b1**count)

        def step(g, m, v):
            size = scale.astype(v.dtype) / (jnp.sqrt(v) + jnp.asarray(eps, v.dtype))
            size = jnp.clip(size, lower.astype(v.dtype), upper.astype(v.dtype))
            return (-size * m).astype(g.dtype)

        updates = jax.tree.map(step, updates, mu, nu_max if amsgrad else nu)
        return updates, BoundedAdamState(
            ScaleByLearningRateState(count, rate), state.initial_rate, mu, nu, nu_max
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


@checked(
    sgd_learning_rate=Number(minimum=0, schedule=True),
    lower=Number(minimum=0),
    upper=Number(minimum=0, infinite=True),
)
def adam_clip(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    sgd_learning_rate: optax.ScalarOrSchedule = 0.1,
    lower: jax.typing.ArrayLike = 1.0,
    upper: jax.typing.ArrayLike = jnp.inf,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam-Clip(p, q): Adam with each step size held between multiples of SGD's.

    .. math::
      w_t = w_{t-1} - \text{clip}\Big(
        \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}\frac{\alpha_t}{\sqrt{v_t}+\epsilon},\;
        p\,\alpha^{sgd}_t,\; q\,\alpha^{sgd}_t\Big)\, m_t

    Adam-Clip(1, 1) is SGD with the moving average of the gradient. The instrument that
    showed that Adam's small step sizes, not its large ones, cost generalisation.

    Args:
      learning_rate: Adam's rate :math:`\alpha`, a number or a schedule.
      sgd_learning_rate: :math:`\alpha^{sgd}`, the rate tuned for SGD. A number follows
        the shape of Adam's schedule (times :math:`\alpha_t/\alpha_0`, if the schedule
        does not begin at 0); a schedule is taken as it is.
      lower: p, in [0, q].
      upper: q >= p; infinity for no bound.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added outside the square root, before the bias correction, >= 0.
      weight_decay: :math:`\lambda` >= 0 of the L2 decay.
      mask: which parameters decay.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete argument is out of its range, or p > q.

    Example:
      A coordinate with large gradients gets a small step from Adam; (1, inf) lifts it:

      >>> import jax.numpy as jnp, optax_ia
      >>> g = jnp.array([100.0, 0.001])
      >>> for lower in (0.0, 1.0):
      ...     tx = optax_ia.adam_clip(1e-3, 0.1, lower, jnp.inf)
      ...     updates, _ = tx.update(g, tx.init(g), g)
      ...     print([f"{u:.4f}" for u in updates])
      ['-0.0010', '-0.0010']
      ['-1.0000', '-0.0010']

    References:
      Keskar, Socher, `Improving Generalization Performance by Switching from Adam to
      SGD <https://arxiv.org/abs/1712.07628>`_, 2017, section 2.
    """
    known = [x for x in (lower, upper) if not isinstance(x, Tracer)]
    if len(known) == 2 and float(upper) < float(lower):  # pyright: ignore
        raise ValueError(f"upper must be >= lower = {lower}, got {upper!r}.")

    def bounds(count, relative):
        if callable(sgd_learning_rate):
            rate = jnp.asarray(sgd_learning_rate(count - 1), default_float())
        else:
            rate = jnp.asarray(sgd_learning_rate, default_float()) * relative
        high = jnp.asarray(upper, default_float())
        # infinity times a rate of zero would be NaN
        return jnp.asarray(lower, rate.dtype) * rate, jnp.where(
            jnp.isinf(high), high, high * rate
        )

    return optax.chain(
        l2_decay(weight_decay, mask),
        _bounded_adam(learning_rate, bounds, b1, b2, eps, amsgrad=False),
    )


@checked(final_learning_rate=Number(above=0), gamma=Number(above=0), amsbound=Flag())
def adabound(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    final_learning_rate: jax.typing.ArrayLike = 0.1,
    gamma: jax.typing.ArrayLike = 1e-3,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    amsbound: bool = False,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdaBound and AMSBound: bounds that close in on SGD's rate.

    With :math:`F_t = F\alpha_t/\alpha_0`,

    .. math::
      w_t = w_{t-1} - \text{clip}\Big(
        \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}\frac{\alpha_t}{\sqrt{v_t}+\epsilon},\;
        F_t\big(1-\tfrac{1}{\gamma t+1}\big),\;
        F_t\big(1+\tfrac{1}{\gamma t}\big)\Big)\, m_t .

    AMSBound takes the running maximum of :math:`v` in place of :math:`v`.

    Args:
      learning_rate: :math:`\alpha`, a number or a schedule; the final rate follows it.
      final_learning_rate: :math:`F` > 0, the rate of SGD that the bounds close in on.
      gamma: :math:`\gamma` > 0, the speed at which they do.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added outside the square root, before the bias correction, >= 0.
      amsbound: AMSBound (one more tree of state). Static.
      weight_decay: :math:`\lambda` >= 0 of the L2 decay.
      mask: which parameters decay.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      The ratio of two coordinates' step sizes shrinks from Adam's 100 to SGD's 1:

      >>> import jax, jax.numpy as jnp, optax_ia
      >>> tx = optax_ia.adabound(1e-3, final_learning_rate=0.1, gamma=0.1)
      >>> g = jnp.array([1.0, 0.01])
      >>> update, state = jax.jit(tx.update), tx.init(g)
      >>> for t in range(1, 101):
      ...     u, state = update(g, state, g)
      ...     if t in (1, 10, 100):
      ...         print(t, f"{u[1] / g[1] / (u[0] / g[0]):.2f}")
      1 100.00
      10 3.07
      100 1.10

    .. note::
      Algorithm 1 of the paper also divides by :math:`\sqrt t`; the authors' code and
      their experiments do not, and neither does this.

    References:
      Luo, Xiong, Liu, Sun, `Adaptive Gradient Methods with Dynamic Bound of Learning
      Rate <https://arxiv.org/abs/1902.09843>`_, 2019, Algorithms 2 and 3.
    """

    def bounds(count, relative):
        final = jnp.asarray(final_learning_rate, default_float()) * relative
        speed = jnp.asarray(gamma, default_float()) * count
        return final * (1 - 1 / (speed + 1)), final * (1 + 1 / speed)

    return optax.chain(
        l2_decay(weight_decay, mask),
        _bounded_adam(learning_rate, bounds, b1, b2, eps, amsgrad=amsbound),
    )
