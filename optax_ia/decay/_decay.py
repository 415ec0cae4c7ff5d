"""The three weight decays, told apart by where they stand and what multiplies them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src import checks
from optax_ia._src.arguments import Number, checked
from optax_ia._src.scalars import increment
from optax_ia._src.types import Mask


def _add_decayed_weights(
    weight_decay: optax.ScalarOrSchedule, mask: Mask
) -> optax.GradientTransformationExtraArgs:
    return optax.with_extra_args_support(optax.add_decayed_weights(weight_decay, mask))


@checked(complex_params=True)
def l2_decay(
    weight_decay: optax.ScalarOrSchedule, mask: Mask = None
) -> optax.GradientTransformationExtraArgs:
    r"""L2 regularisation: adds :math:`\lambda w` to the gradient.

    .. math::
      g_t \leftarrow g_t + \lambda_t w_{t-1}

    First in a chain, before the moments: an adaptive rule then rescales the decay like
    the rest of the gradient, which is why it regularises less than decoupled decay.
    The learning rate multiplies it.

    Args:
      weight_decay: :math:`\lambda` >= 0, a number or a schedule of the update count.
      mask: which parameters decay, a tree of bools or a function of the parameters
        (:func:`path_mask`). None decays all.

    Returns:
      The transformation (``optax.add_decayed_weights``); ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete ``weight_decay`` is negative.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> tx = optax_ia.l2_decay(0.1)
      >>> w = jnp.array([2.0])
      >>> print(tx.update(jnp.array([1.0]), tx.init(w), w)[0])
      [1.2]

    References:
      Loshchilov, Hutter, `Decoupled Weight Decay Regularization
      <https://arxiv.org/abs/1711.05101>`_, 2019, Algorithm 2 (the violet term).
    """
    return _add_decayed_weights(weight_decay, mask)


@checked(complex_params=True)
def decoupled_decay(
    weight_decay: optax.ScalarOrSchedule, mask: Mask = None
) -> optax.GradientTransformationExtraArgs:
    r"""Decoupled decay, multiplied by the learning rate: :math:`(1-\alpha_t\lambda) w`.

    .. math::
      u_t \leftarrow u_t + \lambda_t w_{t-1}

    After the moments and before :func:`scale_by_learning_rate`, as in ``optax.adamw``.

    Args:
      weight_decay: :math:`\lambda` >= 0, a number or a schedule of the update count.
      mask: which parameters decay, a tree of bools or a function of the parameters
        (:func:`path_mask`). None decays all.

    Returns:
      The transformation (``optax.add_decayed_weights``); ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete ``weight_decay`` is negative.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax.chain(
      ...     optax.scale_by_adam(),
      ...     optax_ia.decoupled_decay(0.5),
      ...     optax_ia.scale_by_learning_rate(0.1),
      ... )
      >>> w = jnp.array([1.0])
      >>> print(tx.update(jnp.zeros(1), tx.init(w), w)[0])
      [-0.05]

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, Algorithm 1; Loshchilov, Hutter, `Decoupled Weight Decay
      Regularization <https://arxiv.org/abs/1711.05101>`_, 2019.
    """
    return _add_decayed_weights(weight_decay, mask)


class IndependentDecayState(NamedTuple):
    """State of :func:`independent_decay`.

    Attributes:
      count: number of updates done, shape (), int32.
    """

    count: jax.Array


@checked(complex_params=True, weight_decay=Number(minimum=0, maximum=1, schedule=True))
def independent_decay(
    weight_decay: optax.ScalarOrSchedule, mask: Mask = None
) -> optax.GradientTransformationExtraArgs:
    r"""Decay that the learning rate does not multiply: :math:`(1-\lambda_t) w`.

    .. math::
      u_t \leftarrow u_t - \lambda_t w_{t-1}

    After :func:`scale_by_learning_rate` (and before averaging). Changing the learning
    rate then leaves the decay as it is; to make it follow the shape of a schedule, pass
    ``weight_decay`` as a schedule of that shape.

    Args:
      weight_decay: :math:`\lambda` in [0, 1], a number or a schedule of the update
        count.
      mask: which parameters decay, a tree of bools or a function of the parameters
        (:func:`path_mask`). None decays all.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete ``weight_decay`` is outside [0, 1].

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax.chain(optax.sgd(0.1), optax_ia.independent_decay(0.01))
      >>> w = jnp.array([1.0])
      >>> print(tx.update(jnp.array([1.0]), tx.init(w), w)[0])
      [-0.11]

    References:
      Loshchilov, Hutter, `Decoupled Weight Decay Regularization
      <https://arxiv.org/abs/1711.05101>`_, 2019, eq. 1 with their schedule multiplier
      as the schedule.
    """

    def init_fn(params):
        del params
        return IndependentDecayState(count=jnp.zeros([], jnp.int32))

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        params = checks.check_params("independent_decay", params)
        value = weight_decay(state.count) if callable(weight_decay) else weight_decay
        updates = jax.tree.map(
            lambda u, w: u - jnp.asarray(value, u.dtype) * w.astype(u.dtype),
            updates,
            params,
        )
        return updates, IndependentDecayState(increment(state.count))

    decay = optax.GradientTransformationExtraArgs(init_fn, update_fn)
    return decay if mask is None else optax.masked(decay, mask)
