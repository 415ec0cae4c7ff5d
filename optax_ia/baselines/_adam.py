"""Adam and the rules that change its second moment."""

from typing import Any

import jax
import optax

from optax_ia._src.arguments import checked
from optax_ia._src.types import Mask
from optax_ia.decay import decoupled_decay, l2_decay
from optax_ia.schedules import scale_by_learning_rate


@checked(complex_params=True)
def adam(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam with L2 decay.

    .. math::
      w_t = w_{t-1} - \alpha_t \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}

    with the bias-corrected moments of :math:`g_t + \lambda w_{t-1}`: the decay passes
    through both moments. :func:`adamw` decouples it.

    Args:
      learning_rate: :math:`\alpha` >= 0, a number or a schedule of the update count.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
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
      >>> tx = optax_ia.adam(0.1)
      >>> w = jnp.array([1.0, 1.0])
      >>> updates, _ = tx.update(jnp.array([2.0, -0.5]), tx.init(w), w)
      >>> print([f"{u:.3f}" for u in updates])
      ['-0.100', '0.100']

    References:
      Kingma, Ba, `Adam: A Method for Stochastic Optimization
      <https://arxiv.org/abs/1412.6980>`_, 2015, Algorithm 1;
      ``optax.adam``.
    """
    rule = optax.scale_by_adam(b1, b2, eps)
    return optax.chain(
        l2_decay(weight_decay, mask), rule, scale_by_learning_rate(learning_rate)
    )


@checked(complex_params=True)
def adamw(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    *,
    mu_dtype: Any = None,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamW: Adam with decoupled decay.

    .. math::
      w_t = (1 - \alpha_t\lambda) w_{t-1}
            - \alpha_t \frac{\hat m_t}{\sqrt{\hat v_t + \epsilon_{root}} + \epsilon}

    Args:
      learning_rate: :math:`\alpha` >= 0, a number or a schedule of the update count.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added outside the square root, >= 0.
      eps_root: added inside the square root, >= 0.
      mu_dtype: dtype of the first moment; None keeps the parameters'.
      weight_decay: :math:`\lambda` >= 0, decoupled, times the learning rate; a
        number or a schedule.
      mask: which parameters decay, a tree of bools, a function of the parameters or a
        pattern of paths (:func:`path_mask`). None decays all.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not of the type above.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> tx = optax_ia.adamw(0.1, weight_decay=0.5)
      >>> w = jnp.array([1.0, 1.0])
      >>> updates, _ = tx.update(jnp.array([2.0, -0.5]), tx.init(w), w)
      >>> print([f"{u:.3f}" for u in updates])
      ['-0.150', '0.050']

    References:
      Loshchilov, Hutter, `Decoupled Weight Decay Regularization
      <https://arxiv.org/abs/1711.05101>`_, 2019, Algorithm 2; ``optax.adamw``.
    """
    return optax.chain(
        optax.scale_by_adam(b1, b2, eps, eps_root, mu_dtype),
        decoupled_decay(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@checked(complex_params=True)
def amsgrad(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AMSGrad with L2 decay: Adam on the running maximum of the second moment.

    .. math::
      \bar v_t = \max(\bar v_{t-1}, \hat v_t),\quad
      w_t = w_{t-1} - \alpha_t \frac{\hat m_t}{\sqrt{\bar v_t} + \epsilon}

    Args:
      learning_rate: :math:`\alpha` >= 0, a number or a schedule of the update count.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
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
      >>> tx = optax_ia.amsgrad(0.1)
      >>> w = jnp.array([1.0, 1.0])
      >>> updates, _ = tx.update(jnp.array([2.0, -0.5]), tx.init(w), w)
      >>> print([f"{u:.3f}" for u in updates])
      ['-0.100', '0.100']

    .. note::
      The maximum runs over bias-corrected second moments, as in Optax; PyTorch takes
      it over the raw ones (``optax_ia.padam(partial=0.5, correction="sqrt")``).

    References:
      Reddi, Kale, Kumar, `On the Convergence of Adam and Beyond
      <https://arxiv.org/abs/1904.09237>`_, 2018, Algorithm 2; ``optax.amsgrad``.
    """
    rule = optax.scale_by_amsgrad(b1, b2, eps)
    return optax.chain(
        l2_decay(weight_decay, mask), rule, scale_by_learning_rate(learning_rate)
    )


@checked()
def yogi(
    learning_rate: optax.ScalarOrSchedule = 0.01,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-3,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Yogi with L2 decay: Adam whose second moment moves in bounded steps.

    .. math::
      v_t = v_{t-1} - (1-\beta_2)\,\text{sign}(v_{t-1} - g_t^2)\, g_t^2,\quad
      w_t = w_{t-1} - \alpha_t \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}

    Args:
      learning_rate: :math:`\alpha` >= 0, a number or a schedule of the update count.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
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
      >>> tx = optax_ia.yogi(0.1)
      >>> w = jnp.array([1.0, 1.0])
      >>> updates, _ = tx.update(jnp.array([2.0, -0.5]), tx.init(w), w)
      >>> print([f"{u:.3f}" for u in updates])
      ['-0.100', '0.100']

    References:
      Zaheer, Reddi, Sachan, Kale, Kumar, Adaptive Methods for Nonconvex Optimization,
      2018, Algorithm 2; ``optax.yogi``.
    """
    rule = optax.scale_by_yogi(b1, b2, eps)
    return optax.chain(
        l2_decay(weight_decay, mask), rule, scale_by_learning_rate(learning_rate)
    )
