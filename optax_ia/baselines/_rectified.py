"""Adam with its variance rectified or centred: RAdam and AdaBelief."""

import jax
import optax

from optax_ia._src.arguments import checked
from optax_ia._src.types import Mask
from optax_ia.decay import decoupled_decay, l2_decay
from optax_ia.schedules import scale_by_learning_rate


@checked(complex_params=True)
def radam(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""RAdam with L2 decay: Adam with its early variance rectified.

    The step is Adam's times :math:`r_t`, the rectification of the variance of the
    adaptive learning rate; while that variance is not defined (the first updates) the
    step is the momentum's alone.

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
      >>> tx = optax_ia.radam(0.1)
      >>> w = jnp.array([1.0, 1.0])
      >>> updates, _ = tx.update(jnp.array([2.0, -0.5]), tx.init(w), w)
      >>> print([f"{u:.3f}" for u in updates])
      ['-0.200', '0.050']

    References:
      Liu et al., `On the Variance of the Adaptive Learning Rate and Beyond
      <https://arxiv.org/abs/1908.03265>`_, 2020, Algorithm 2; ``optax.radam``.
    """
    rule = optax.scale_by_radam(b1, b2, eps)
    return optax.chain(
        l2_decay(weight_decay, mask), rule, scale_by_learning_rate(learning_rate)
    )


@checked(complex_params=True)
def adabelief(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-16,
    eps_root: jax.typing.ArrayLike = 1e-16,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdaBelief with decoupled decay: Adam on the variance around the mean gradient.

    .. math::
      s_t = \beta_2 s_{t-1} + (1-\beta_2)(g_t - m_t)^2 + \epsilon_{root},\quad
      w_t = (1-\alpha_t\lambda) w_{t-1}
            - \alpha_t \frac{\hat m_t}{\sqrt{\hat s_t} + \epsilon}

    Args:
      learning_rate: :math:`\alpha` >= 0, a number or a schedule of the update count.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added outside the square root, >= 0.
      eps_root: added to the second moment, >= 0.
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
      >>> tx = optax_ia.adabelief(0.1)
      >>> w = jnp.array([1.0, 1.0])
      >>> updates, _ = tx.update(jnp.array([2.0, -0.5]), tx.init(w), w)
      >>> print([f"{u:.3f}" for u in updates])
      ['-0.111', '0.111']

    References:
      Zhuang et al., `AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed
      Gradients <https://arxiv.org/abs/2010.07468>`_, 2020, Algorithm 2;
      ``optax.adabelief``.
    """
    return optax.chain(
        optax.scale_by_belief(b1, b2, eps, eps_root),
        decoupled_decay(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
