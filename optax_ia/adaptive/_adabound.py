"""AdaBound and AMSBound: Adam with bounds that converge to SGD's learning rate."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.arguments import Number, checked
from optax_ia._src.scalars import default_float
from optax_ia._src.types import Mask
from optax_ia.adaptive._base_rate import known_base_rate
from optax_ia.adaptive._bounded import BASE, bounded_adam
from optax_ia.decay import l2_decay


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
    final_learning_rate=Number(above=0), gamma=Number(above=0), base_learning_rate=BASE
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
        bounded_adam(
            learning_rate,
            known_base_rate(learning_rate, base_learning_rate),
            _closing_bounds(final_learning_rate, gamma),
            b1,
            b2,
            eps,
        ),
    )


@checked(
    final_learning_rate=Number(above=0), gamma=Number(above=0), base_learning_rate=BASE
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
        bounded_adam(
            learning_rate,
            known_base_rate(learning_rate, base_learning_rate),
            _closing_bounds(final_learning_rate, gamma),
            b1,
            b2,
            eps,
            amsgrad=True,
        ),
    )
