"""SGD with momentum, and the rules that rescale by squared gradients alone."""

import jax
import optax

from optax_ia._src.arguments import Number, checked
from optax_ia._src.types import Mask
from optax_ia.decay import l2_decay
from optax_ia.schedules import scale_by_learning_rate


@checked(complex_params=True)
def sgd(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    momentum: jax.typing.ArrayLike = 0.9,
    *,
    nesterov: bool = False,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SGD with momentum and L2 decay.

    .. math::
      m_t = \mu m_{t-1} + g_t + \lambda w_{t-1},\quad w_t = w_{t-1} - \alpha_t m_t

    Nesterov's form steps along :math:`g_t + \lambda w_{t-1} + \mu m_t` instead.

    Args:
      learning_rate: :math:`\alpha` >= 0, a number or a schedule of the update count.
      momentum: :math:`\mu` in [0, 1).
      nesterov: use Nesterov's form. Static.
      weight_decay: :math:`\lambda` >= 0, added to the gradient (L2); a number or a
        schedule.
      mask: which parameters decay, a tree of bools, a function of the parameters or a
        pattern of paths (:func:`path_mask`). None decays all.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not of the type above.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> tx = optax_ia.sgd(0.1, momentum=0.9)
      >>> w = jnp.array([1.0, 1.0])
      >>> updates, _ = tx.update(jnp.array([2.0, -0.5]), tx.init(w), w)
      >>> print([f"{u:.3f}" for u in updates])
      ['-0.200', '0.050']

    References:
      Sutskever, Martens, Dahl, Hinton, On the Importance of Initialization and
      Momentum in Deep Learning, 2013; ``optax.sgd``.
    """
    return optax.chain(
        l2_decay(weight_decay, mask),
        optax.trace(decay=momentum, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@checked(complex_params=True, initial_accumulator_value=Number(minimum=0))
def adagrad(
    learning_rate: optax.ScalarOrSchedule = 0.01,
    initial_accumulator_value: jax.typing.ArrayLike = 0.0,
    eps: jax.typing.ArrayLike = 1e-20,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adagrad with L2 decay.

    .. math::
      a_t = a_{t-1} + g_t^2,\quad
      w_t = w_{t-1} - \alpha_t \frac{g_t}{\sqrt{a_t + \epsilon}}

    Args:
      learning_rate: :math:`\alpha` >= 0, a number or a schedule of the update count.
      initial_accumulator_value: :math:`a_0` >= 0.
      eps: added inside the square root, >= 0; 1e-20 there is 1e-10 outside.
      weight_decay: :math:`\lambda` >= 0, added to the gradient (L2); a number or a
        schedule.
      mask: which parameters decay, a tree of bools, a function of the parameters or a
        pattern of paths (:func:`path_mask`). None decays all.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not of the type above.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> tx = optax_ia.adagrad(0.1)
      >>> w = jnp.array([1.0, 1.0])
      >>> updates, _ = tx.update(jnp.array([2.0, -0.5]), tx.init(w), w)
      >>> print([f"{u:.3f}" for u in updates])
      ['-0.100', '0.100']

    References:
      Duchi, Hazan, Singer, Adaptive Subgradient Methods for Online Learning and
      Stochastic Optimization, 2011; Keskar, Socher 2017, eq. 1; ``optax.adagrad``.
    """
    rule = optax.scale_by_rss(initial_accumulator_value, eps)
    return optax.chain(
        l2_decay(weight_decay, mask), rule, scale_by_learning_rate(learning_rate)
    )


@checked(complex_params=True)
def rmsprop(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    decay: jax.typing.ArrayLike = 0.99,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""RMSprop with L2 decay.

    .. math::
      v_t = \rho v_{t-1} + (1-\rho) g_t^2,\quad
      w_t = w_{t-1} - \alpha_t \frac{g_t}{\sqrt{v_t} + \epsilon}

    Args:
      learning_rate: :math:`\alpha` >= 0, a number or a schedule of the update count.
      decay: :math:`\rho` in [0, 1).
      eps: added outside the square root, >= 0.
      weight_decay: :math:`\lambda` >= 0, added to the gradient (L2); a number or a
        schedule.
      mask: which parameters decay, a tree of bools, a function of the parameters or a
        pattern of paths (:func:`path_mask`). None decays all.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not of the type above.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> tx = optax_ia.rmsprop(0.01)
      >>> w = jnp.array([1.0, 1.0])
      >>> updates, _ = tx.update(jnp.array([2.0, -0.5]), tx.init(w), w)
      >>> print([f"{u:.3f}" for u in updates])
      ['-0.100', '0.100']

    References:
      Tieleman, Hinton, Lecture 6.5: RMSProp, Coursera, 2012; ``optax.rmsprop``.
    """
    rule = optax.scale_by_rms(decay, eps, eps_in_sqrt=False)
    return optax.chain(
        l2_decay(weight_decay, mask), rule, scale_by_learning_rate(learning_rate)
    )
