"""SWATS: Adam, then SGD at the learning rate that Adam's steps suggest."""

from typing import Literal

import jax
import optax

from optax_ia._src.arguments import checked
from optax_ia._src.types import Mask
from optax_ia.adaptive._padam import scale_by_padam
from optax_ia.adaptive._switch import switch_to_sgd
from optax_ia.decay import l2_decay
from optax_ia.schedules import scale_by_learning_rate


@checked(complex_params=True)
def swats(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    *,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-9,
    tol: jax.typing.ArrayLike = 1e-9,
    rtol: jax.typing.ArrayLike = 0.0,
    monitor: Literal["gamma", "relative"] | None = None,
    scope: Literal["global", "leaf"] = "global",
    switch_at: jax.typing.ArrayLike | None = None,
    sgd_learning_rate: jax.typing.ArrayLike | None = None,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SWATS: switches from Adam to SGD.

    Adam, with L2 decay in its gradient,

    .. math::
      p_k = -\alpha_k \frac{\sqrt{1-\beta_2^k}}{1-\beta_1^k}
            \frac{m_k}{\sqrt{a_k}+\epsilon},

    until :func:`switch_to_sgd` finds that its estimate of SGD's learning rate has
    settled; then SGD with momentum :math:`\beta_1` at that rate. Under a schedule the
    estimate is monitored relative to :math:`\alpha_k`; see ``monitor`` there.

    Args:
      learning_rate: Adam's learning rate :math:`\alpha_k`, a number or a schedule,
        which SGD follows after the switch.
      b1: decay of the first moment, and SGD's momentum, in [0, 1).
      b2: decay of the second moment and of the average of the rates, in [0, 1).
      eps: added outside the square root, >= 0.
      tol: see :func:`switch_to_sgd`.
      rtol: see :func:`switch_to_sgd`.
      monitor: see :func:`switch_to_sgd`; None is ``"relative"`` for a schedule.
      scope: see :func:`switch_to_sgd`.
      switch_at: see :func:`switch_to_sgd`.
      sgd_learning_rate: see :func:`switch_to_sgd`.
      weight_decay: :math:`\lambda` >= 0 of the L2 decay, in both phases.
      mask: which parameters decay.

    Returns:
      The transformation; ``update`` needs ``params``. Its state has one copy of the
      parameters more than Adam's.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      On a noisy quadratic, with a wide tolerance:

      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.swats(1e-2, tol=1e-3)
      >>> def step(carry, key):
      ...     w, state = carry
      ...     g = w + 0.1 * jax.random.normal(key, w.shape)
      ...     updates, state = tx.update(g, state, w)
      ...     return (optax.apply_updates(w, updates), state), None
      >>> w = jnp.ones(10)
      >>> keys = jax.random.split(jax.random.key(0), 1000)
      >>> (w, state), _ = jax.lax.scan(step, (w, tx.init(w)), keys)
      >>> values = optax_ia.diagnostics(state)
      >>> print(values["phase"], bool(values["sgd_learning_rate"] > 1e-2))
      1 True

    .. note::
      Algorithm 1 prints epsilon inside the root, equation 2 outside; this function
      follows equation 2. It adds epsilon before the bias correction, unlike
      ``optax.adam``. The printed tolerance of 1e-9 seldom fires without noise.

    References:
      Keskar, Socher, `Improving Generalization Performance by Switching from Adam to
      SGD <https://arxiv.org/abs/1712.07628>`_, 2017, Algorithm 1.
    """
    adam = optax.chain(
        scale_by_padam(b1, b2, eps, partial=0.5, amsgrad=False, correction="sqrt"),
        scale_by_learning_rate(learning_rate),
    )
    return optax.chain(
        l2_decay(weight_decay, mask),
        switch_to_sgd(
            adam,
            b1,
            b2,
            tol=tol,
            rtol=rtol,
            monitor=monitor or ("relative" if callable(learning_rate) else None),
            scope=scope,
            switch_at=switch_at,
            sgd_learning_rate=sgd_learning_rate,
        ),
    )
