"""Adam with bounded step sizes: Adam-Clip, AdaBound and AMSBound."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from optax_ia._src.arguments import Number, checked
from optax_ia._src.scalars import default_float, increment
from optax_ia._src.types import Mask
from optax_ia.adaptive._base_rate import (
    first_rate,
    known_base_rate,
    relative_rate,
    relative_to_first,
)
from optax_ia.decay import l2_decay
from optax_ia.schedules import ScaleByLearningRateState


class BoundedAdamState(NamedTuple):
    """State of :func:`adam_clip`, :func:`adabound` and :func:`amsbound`.

    Attributes:
      rate: the update count and the learning rate of the last update.
      base_rate: the first learning rate, shape (), the default float, where it serves
        as the base rate; None if the base rate is known at construction.
      mu: first moment, with the structure and dtypes of the parameters.
      nu: second moment, with the structure and dtypes of the parameters.
      nu_max: running maximum of ``nu``; None except for AMSBound.
    """

    rate: ScaleByLearningRateState
    base_rate: Any
    mu: optax.Updates
    nu: optax.Updates
    nu_max: Any


def _bounded_adam(
    learning_rate: optax.ScalarOrSchedule,
    base_rate: Any,
    bounds: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
    b1: jax.typing.ArrayLike,
    b2: jax.typing.ArrayLike,
    eps: jax.typing.ArrayLike,
    amsgrad: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam that clips its step sizes, which include the learning rate.

    Args:
      learning_rate: a number or a schedule.
      base_rate: the learning rate that the bounds are relative to; None for the first
        learning rate.
      bounds: maps the update number, from 1, and the learning rate relative to the base
        rate to the lower and the upper bound.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added outside the square root, before the bias correction.
      amsgrad: divide by the root of the maximum of the uncorrected second moments.

    Returns:
      The transformation, with the learning rate applied.
    """

    def rate_at(count):
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        return jnp.asarray(rate, default_float())

    def init_fn(params):
        count = jnp.zeros([], jnp.int32)
        rate = rate_at(count)
        return BoundedAdamState(
            rate=ScaleByLearningRateState(count, rate),
            base_rate=first_rate(rate) if base_rate is None else None,
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

        if base_rate is None:
            relative = relative_to_first(rate, state.base_rate)
        else:
            relative = relative_rate(rate, base_rate)
        lower, upper = bounds(count, relative)
        # A learning rate of 0 is no movement, also if SGD's rate has its own schedule.
        lower = jnp.where(rate == 0, 0, lower)
        scale = rate * jnp.sqrt(1 - b2**count) / (1 - b1**count)

        def step(g, m, v):
            size = scale.astype(v.dtype) / (jnp.sqrt(v) + jnp.asarray(eps, v.dtype))
            size = jnp.clip(size, lower.astype(v.dtype), upper.astype(v.dtype))
            return (-size * m).astype(g.dtype)

        updates = jax.tree.map(step, updates, mu, nu_max if amsgrad else nu)
        return updates, BoundedAdamState(
            ScaleByLearningRateState(count, rate), state.base_rate, mu, nu, nu_max
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


_BASE = Number(above=0, optional=True)


@checked(
    sgd_learning_rate=Number(minimum=0, schedule=True),
    lower=Number(minimum=0),
    upper=Number(minimum=0, infinite=True),
    base_learning_rate=_BASE,
)
def adam_clip(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    sgd_learning_rate: optax.ScalarOrSchedule = 0.1,
    lower: jax.typing.ArrayLike = 1.0,
    upper: jax.typing.ArrayLike = jnp.inf,
    *,
    base_learning_rate: jax.typing.ArrayLike | None = None,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam-Clip(p, q): Adam with step sizes clipped to multiples of SGD's rate.

    .. math::
      w_t = w_{t-1} - \text{clip}\Big(
        \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}\frac{\alpha_t}{\sqrt{v_t}+\epsilon},\;
        p\,\alpha^{sgd}_t,\; q\,\alpha^{sgd}_t\Big)\, m_t,\qquad
      \alpha^{sgd}_t = \alpha^{sgd} \frac{\alpha_t}{\alpha_{base}}

    Adam-Clip(1, 1) is SGD with a moving average of the gradient. Keskar and Socher used
    the method to show that Adam's small step sizes, not its large ones, hurt
    generalisation. A learning rate :math:`\alpha_t = 0` moves nothing.

    Args:
      learning_rate: Adam's learning rate :math:`\alpha_t`, a number or a schedule.
      sgd_learning_rate: :math:`\alpha^{sgd}`, the learning rate tuned for SGD. A number
        follows the shape of Adam's schedule; a schedule is used unscaled.
      lower: p, in [0, q].
      upper: q >= p; infinity for no bound.
      base_learning_rate: :math:`\alpha_{base}` > 0, Adam's learning rate at which
        SGD's is :math:`\alpha^{sgd}`; see :func:`adabound`. Not used if
        ``sgd_learning_rate`` is a schedule.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added outside the square root, before the bias correction, >= 0.
      weight_decay: :math:`\lambda` >= 0 of the L2 decay.
      mask: which parameters decay.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete argument is out of its range, or p > q.
      TypeError: if the base rate is needed and cannot be found.

    Example:
      Adam gives a small step to the coordinate with large gradients; the bounds
      (1, inf) raise that step to SGD's:

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
    base_rate = 1.0  # not used by bounds with their own schedule
    if base_learning_rate is not None or not callable(sgd_learning_rate):
        base_rate = known_base_rate(learning_rate, base_learning_rate)

    def bounds(count, relative):
        if callable(sgd_learning_rate):
            rate = jnp.asarray(sgd_learning_rate(count - 1), default_float())
        else:
            rate = jnp.asarray(sgd_learning_rate, default_float()) * relative
        high = jnp.asarray(upper, default_float())
        # Infinity times a rate of zero would be NaN.
        return jnp.asarray(lower, rate.dtype) * rate, jnp.where(
            jnp.isinf(high), high, high * rate
        )

    return optax.chain(
        l2_decay(weight_decay, mask),
        _bounded_adam(learning_rate, base_rate, bounds, b1, b2, eps),
    )


def _closing_bounds(
    final_learning_rate: jax.typing.ArrayLike, gamma: jax.typing.ArrayLike
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """The bounds of AdaBound and AMSBound."""

    def bounds(count, relative):
        final = jnp.asarray(final_learning_rate, default_float()) * relative
        speed = jnp.asarray(gamma, default_float()) * count
        return final * (1 - 1 / (speed + 1)), final * (1 + 1 / speed)

    return bounds


@checked(
    final_learning_rate=Number(above=0), gamma=Number(above=0), base_learning_rate=_BASE
)
def adabound(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    final_learning_rate: jax.typing.ArrayLike = 0.1,
    gamma: jax.typing.ArrayLike = 1e-3,
    *,
    base_learning_rate: jax.typing.ArrayLike | None = None,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdaBound: Adam with bounds that converge to SGD's learning rate.

    .. math::
      w_t = w_{t-1} - \text{clip}\Big(
        \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}\frac{\alpha_t}{\sqrt{v_t}+\epsilon},\;
        F_t\big(1-\tfrac{1}{\gamma t+1}\big),\;
        F_t\big(1+\tfrac{1}{\gamma t}\big)\Big)\, m_t,\qquad
      F_t = F \frac{\alpha_t}{\alpha_{base}}

    The bounds follow the learning rate, so a warm-up warms them up and a decay anneals
    them. A learning rate :math:`\alpha_t = 0` moves nothing.

    Args:
      learning_rate: :math:`\alpha_t`, a number or a schedule.
      final_learning_rate: :math:`F` > 0, SGD's learning rate, to which both bounds
        converge.
      gamma: :math:`\gamma` > 0, the speed at which they converge.
      base_learning_rate: :math:`\alpha_{base}` > 0, the learning rate at which the
        final rate is :math:`F`. The default for a number is the number, and for a
        schedule its maximum over the first 2**20 updates. A schedule that still
        rises in the second half of them has no known maximum and needs the argument.
        So does a schedule with a warm-up under ``optax.inject_hyperparams``: there the
        factory sees only the current value and takes the first one as the base. A
        first value of 0 or a later value above the first raises, or gives NaN under
        ``jit``, where values are unknown.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added outside the square root, before the bias correction, >= 0.
      weight_decay: :math:`\lambda` >= 0 of the L2 decay.
      mask: which parameters decay.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete argument is out of its range.
      TypeError: if the maximum of a schedule is needed and unknown.

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
      Algorithm 2 of the paper also divides by :math:`\sqrt t`; the authors' code and
      experiments do not, and neither does this function. The authors' code scales the
      bounds by the first learning rate, which is the maximum in their schedules.

    References:
      Luo, Xiong, Liu, Sun, `Adaptive Gradient Methods with Dynamic Bound of Learning
      Rate <https://arxiv.org/abs/1902.09843>`_, 2019, Algorithm 2.
    """
    return optax.chain(
        l2_decay(weight_decay, mask),
        _bounded_adam(
            learning_rate,
            known_base_rate(learning_rate, base_learning_rate),
            _closing_bounds(final_learning_rate, gamma),
            b1,
            b2,
            eps,
        ),
    )


@checked(
    final_learning_rate=Number(above=0), gamma=Number(above=0), base_learning_rate=_BASE
)
def amsbound(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    final_learning_rate: jax.typing.ArrayLike = 0.1,
    gamma: jax.typing.ArrayLike = 1e-3,
    *,
    base_learning_rate: jax.typing.ArrayLike | None = None,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AMSBound: AdaBound on the running maximum of the second moment.

    The rule of :func:`adabound` with :math:`\hat v_t = \max(\hat v_{t-1}, v_t)` in
    place of :math:`v_t`, so a large gradient keeps its step sizes small until the lower
    bound raises them.

    Args:
      learning_rate: :math:`\alpha_t`, a number or a schedule.
      final_learning_rate: :math:`F` > 0, SGD's learning rate, to which both bounds
        converge.
      gamma: :math:`\gamma` > 0, the speed at which they converge.
      base_learning_rate: :math:`\alpha_{base}` > 0, the learning rate at which the
        final rate is :math:`F`; see :func:`adabound`.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added outside the square root, before the bias correction, >= 0.
      weight_decay: :math:`\lambda` >= 0 of the L2 decay.
      mask: which parameters decay.

    Returns:
      The transformation; ``update`` needs ``params``. Its state has one copy of the
      parameters more than that of :func:`adabound`.

    Raises:
      ValueError: if a concrete argument is out of its range.
      TypeError: if the maximum of a schedule is needed and unknown.

    Example:
      AdaBound forgets one large gradient, AMSBound does not:

      >>> import jax, jax.numpy as jnp, optax_ia
      >>> for make in (optax_ia.adabound, optax_ia.amsbound):
      ...     tx = make(1e-3, gamma=1e-6, b1=0.0, b2=0.5)
      ...     update, state = jax.jit(tx.update), tx.init(jnp.zeros([]))
      ...     for t in range(60):
      ...         g = jnp.array(10.0 if t == 0 else 0.1)
      ...         u, state = update(g, state, jnp.zeros([]))
      ...     print(f"{u:.6f}")
      -0.001000
      -0.000014

    References:
      Luo, Xiong, Liu, Sun, `Adaptive Gradient Methods with Dynamic Bound of Learning
      Rate <https://arxiv.org/abs/1902.09843>`_, 2019, Algorithm 3.
    """
    return optax.chain(
        l2_decay(weight_decay, mask),
        _bounded_adam(
            learning_rate,
            known_base_rate(learning_rate, base_learning_rate),
            _closing_bounds(final_learning_rate, gamma),
            b1,
            b2,
            eps,
            amsgrad=True,
        ),
    )
