"""Learning rate schedules of the papers, in steps or in epochs."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import optax

from optax_ia._src.arguments import Number, Unchecked, checked


def _constant_linear_constant(
    init_value: float, final_value: float, total_steps: float
) -> optax.Schedule:
    """Constant to half of ``total_steps``, linear to nine tenths, constant."""

    def schedule(count):
        fraction = jnp.clip((count / total_steps - 0.5) / 0.4, 0.0, 1.0)
        return init_value + (final_value - init_value) * fraction

    return schedule


@checked(
    init_value=Number(minimum=0),
    steps_per_epoch=Number(above=0),
    total=Number(above=0),
    final_scale=Number(minimum=0),
)
def linear_schedule(
    init_value: float,
    total: float,
    *,
    final_scale: float = 0.01,
    steps_per_epoch: float = 1,
) -> optax.Schedule:
    r"""Constant, then linear, then constant: the schedule of runs without averaging.

    With :math:`x = t/T`,

    .. math::
      \alpha_t = \begin{cases}
        \alpha_0 & x \le 0.5 \\
        \alpha_0 \big[1 - (1-r)\,(x-0.5)/0.4\big] & 0.5 < x \le 0.9 \\
        r\,\alpha_0 & \text{otherwise.}
      \end{cases}

    Args:
      init_value: :math:`\alpha_0` >= 0.
      total: :math:`T` > 0, the length of the run in units of ``steps_per_epoch``.
      final_scale: :math:`r` >= 0, the last rate relative to the first.
      steps_per_epoch: 1 if ``total`` is in steps; the number of steps of an epoch if it
        is in epochs.

    Returns:
      A function of the update count, for any ``learning_rate``.

    Raises:
      ValueError: if an argument is out of its range.

    Example:
      >>> import optax_ia
      >>> rate = optax_ia.linear_schedule(1.0, 100)
      >>> [round(float(rate(t)), 3) for t in (0, 50, 70, 90, 100)]
      [1.0, 1.0, 0.505, 0.01, 0.01]

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, eq. 12.
    """
    return _constant_linear_constant(
        init_value, init_value * final_scale, total * steps_per_epoch
    )


@checked(
    init_value=Number(minimum=0),
    steps_per_epoch=Number(above=0),
    start=Number(above=0),
    averaging_value=Number(minimum=0, optional=True),
)
def averaging_schedule(
    init_value: float,
    start: float,
    *,
    averaging_value: float | None = None,
    steps_per_epoch: float = 1,
) -> optax.Schedule:
    r"""Constant, then linear to the rate held while averaging.

    With :math:`x = t/T_{avg}`,

    .. math::
      \alpha_t = \begin{cases}
        \alpha_0 & x \le 0.5 \\
        \alpha_0 \big[1 - (1-\alpha_{avg}/\alpha_0)\,(x-0.5)/0.4\big]
          & 0.5 < x \le 0.9 \\
        \alpha_{avg} & \text{otherwise.}
      \end{cases}

    Args:
      init_value: :math:`\alpha_0` >= 0.
      start: :math:`T_{avg}` > 0, where averaging starts, in units of
        ``steps_per_epoch``.
      averaging_value: :math:`\alpha_{avg}` >= 0; None is half of ``init_value``, the
        paper's choice.
      steps_per_epoch: 1 if ``start`` is in steps; the number of steps of an epoch if it
        is in epochs.

    Returns:
      A function of the update count, for any ``learning_rate``.

    Raises:
      ValueError: if an argument is out of its range.

    Example:
      >>> import optax_ia
      >>> rate = optax_ia.averaging_schedule(1.0, 100)
      >>> [round(float(rate(t)), 3) for t in (0, 50, 70, 90, 500)]
      [1.0, 1.0, 0.75, 0.5, 0.5]

    .. note::
      The paper's middle branch prints t/T where its other branches have t/T_avg; the
      schedule would jump. It is relative to T_avg throughout here.

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, eq. 13.
    """
    if averaging_value is None:
        averaging_value = init_value / 2
    return _constant_linear_constant(
        init_value, averaging_value, start * steps_per_epoch
    )


@checked(
    init_value=Number(minimum=0),
    steps_per_epoch=Number(above=0),
    boundaries=Unchecked(),
    scale=Number(above=0),
)
def step_schedule(
    init_value: float,
    boundaries: Sequence[float],
    *,
    scale: float = 0.1,
    steps_per_epoch: int = 1,
) -> optax.Schedule:
    r"""Multiplies the rate by ``scale`` at each boundary.

    .. math::
      \alpha_t = \alpha_0\, s^{|\{b : b \le t\}|}

    Args:
      init_value: :math:`\alpha_0` >= 0.
      boundaries: increasing, > 0, in units of ``steps_per_epoch``.
      scale: :math:`s` > 0, the factor at each boundary.
      steps_per_epoch: 1 if the boundaries are in steps; the number of steps of an epoch
        if they are in epochs.

    Returns:
      A function of the update count (``optax.piecewise_constant_schedule``).

    Raises:
      ValueError: if an argument is out of its range.

    Example:
      The baselines of table 14, 300 epochs of 390 steps:

      >>> import optax_ia
      >>> rate = optax_ia.step_schedule(0.1, [150, 250], steps_per_epoch=390)
      >>> [round(float(rate(epoch * 390)), 4) for epoch in (0, 149, 150, 250)]
      [0.1, 0.1, 0.01, 0.001]

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, appendix C.4.
    """
    if steps_per_epoch != round(steps_per_epoch):
        raise ValueError(
            f"steps_per_epoch must be a whole number, got {steps_per_epoch!r}."
        )
    steps = [round(boundary * steps_per_epoch) for boundary in boundaries]
    if any(later <= earlier for earlier, later in itertools.pairwise([0, *steps])):
        raise ValueError(f"boundaries must be increasing and > 0, got {boundaries!r}.")
    return optax.piecewise_constant_schedule(init_value, dict.fromkeys(steps, scale))
