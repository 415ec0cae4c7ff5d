"""Adam-Clip: Adam with step sizes clipped to multiples of SGD's learning rate."""

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from optax_ia._src.arguments import Number, checked
from optax_ia._src.scalars import default_float
from optax_ia._src.types import Mask
from optax_ia.adaptive._base_rate import known_base_rate
from optax_ia.adaptive._bounded import BASE, bounded_adam
from optax_ia.decay import l2_decay


@checked(
    sgd_learning_rate=Number(minimum=0, schedule=True),
    lower=Number(minimum=0),
    upper=Number(minimum=0, infinite=True),
    base_learning_rate=BASE,
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
        bounded_adam(learning_rate, base_rate, bounds, b1, b2, eps),
    )
