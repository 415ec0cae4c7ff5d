"""Ranger: rectified Adam on centralised gradients inside Lookahead."""

import jax
import optax

from optax_ia._src.arguments import checked
from optax_ia._src.types import Mask
from optax_ia.averaging._lookahead import lookahead
from optax_ia.decay import decoupled_decay
from optax_ia.gradients import centralize
from optax_ia.schedules import scale_by_learning_rate


@checked()
def ranger(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    sync_period: jax.typing.ArrayLike = 6,
    slow_step_size: jax.typing.ArrayLike = 0.5,
    *,
    b1: jax.typing.ArrayLike = 0.95,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-5,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Ranger: gradient centralisation, then RAdam, inside Lookahead.

    .. math::
      g \leftarrow g - \text{mean}_{\dots, in}(g),\quad
      \tilde w_t = w_{t-1} - \alpha_t\big(\text{RAdam}(g) + \lambda w_{t-1}\big),\quad
      t \bmod k = 0:\; w_t = \phi \leftarrow \phi + \alpha(\tilde w_t - \phi)

    Args:
      learning_rate: the rate, a number or a schedule.
      sync_period: :math:`k` >= 1, inner steps between synchronisations.
      slow_step_size: :math:`\alpha` in [0, 1], how far the slow weights go.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added outside the square root, >= 0.
      weight_decay: :math:`\lambda` >= 0, decoupled, multiplied by the learning rate.
      mask: which parameters decay.

    Returns:
      The transformation; ``update`` needs ``params``. One more tree of state than
      RAdam.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      A column of a kernel moves only against its own mean; every sixth step the slow
      weights follow halfway:

      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.ranger(0.1)
      >>> w = jnp.zeros((2, 1))  # (in, out)
      >>> state = tx.init(w)
      >>> for _ in range(6):
      ...     updates, state = tx.update(jnp.array([[3.0], [1.0]]), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> print(float(w.sum()), optax_ia.diagnostics(state)["sync_count"])
      0.0 1

    .. note::
      Epsilon is added after the bias correction, as in Optax's RAdam; the released code
      adds it before (with 1e-5 the first steps on tiny gradients differ). Newer
      releases multiply the decay by RAdam's rectified step size; here the learning rate
      alone does.

    References:
      Wright, `Ranger <https://github.com/lessw2020/Ranger-Deep-Learning-Optimizer>`_,
      2019; the parts: Yong et al. 2020, Liu et al. 2019 (RAdam), Zhang et al. 2019.
    """
    inner = optax.chain(
        centralize(),
        optax.scale_by_radam(b1, b2, eps),
        decoupled_decay(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
    return lookahead(inner, sync_period, slow_step_size)
