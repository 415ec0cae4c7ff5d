"""GadamAuto: Gadam that finds its own start and end."""

from typing import Any, Literal

import jax
import optax

from optax_ia._src.arguments import checked
from optax_ia._src.types import Mask
from optax_ia.averaging._auto import auto_average
from optax_ia.baselines import adamw


@checked(complex_params=True)
def gadam_auto(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    every: jax.typing.ArrayLike = 1,
    *,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Mask = None,
    patience: int = 10,
    mode: Literal["min", "max"] = "min",
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    mu_dtype: Any = None,
    accumulator_dtype: Any = "float32",
) -> optax.GradientTransformationExtraArgs:
    """GadamAuto: AdamW at a constant rate, averaged when the metric levels out.

    AdamW followed by :func:`auto_average`: report the validation metric by
    :func:`record_metric` after each evaluation and end the run when
    :func:`should_stop` says so.

    Args:
      learning_rate: the rate; the paper keeps it constant.
      every: collect each ``every``-th update once averaging has started.
      weight_decay: decoupled, multiplied by the learning rate.
      mask: which parameters decay.
      patience: evaluations without improvement that start the averaging, and again that
        end the run.
      mode: ``"min"`` if a smaller metric is better, ``"max"`` if a larger is.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added outside the square root.
      eps_root: added inside the square root.
      mu_dtype: dtype of the first moment; None keeps the parameters'.
      accumulator_dtype: see :func:`tail_average`.

    Returns:
      The transformation; ``update`` needs ``params``; the average is read by
      :func:`averaged_params`.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.gadam_auto(patience=2)
      >>> update = jax.jit(tx.update)
      >>> w = jnp.ones(1)
      >>> state = tx.init(w)
      >>> for evaluation in range(100):
      ...     updates, state = update(w, state, w)
      ...     w = optax.apply_updates(w, updates)
      ...     state = optax_ia.record_metric(state, max(1.0, 5.0 - evaluation))
      ...     if optax_ia.should_stop(state):
      ...         break
      >>> print(evaluation, optax_ia.num_averaged(state))
      9 3

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, appendix A.2 and table 8.
    """
    return optax.chain(
        adamw(
            learning_rate,
            b1,
            b2,
            eps,
            eps_root,
            mu_dtype=mu_dtype,
            weight_decay=weight_decay,
            mask=mask,
        ),
        auto_average(
            every, patience=patience, mode=mode, accumulator_dtype=accumulator_dtype
        ),
    )
