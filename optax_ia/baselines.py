"""The papers' baselines: Optax's own rules with decay and a recorded rate.

Not exported: users of these have ``optax``. The registry lists them so that every
optimiser of a comparison takes the same arguments and reports its learning rate.
"""

from typing import Any

import jax
import optax

from optax_ia._src.arguments import Number, checked
from optax_ia._src.types import Mask
from optax_ia.decay import decoupled_decay, l2_decay
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
    """``optax.sgd`` with momentum and L2 decay."""
    return optax.chain(
        l2_decay(weight_decay, mask),
        optax.trace(decay=momentum, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


def _l2_chain(rule, learning_rate, weight_decay, mask):
    return optax.chain(
        l2_decay(weight_decay, mask), rule, scale_by_learning_rate(learning_rate)
    )


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
    """``optax.adam`` with L2 decay."""
    rule = optax.scale_by_adam(b1, b2, eps)
    return _l2_chain(rule, learning_rate, weight_decay, mask)


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
    """``optax.amsgrad`` with L2 decay."""
    rule = optax.scale_by_amsgrad(b1, b2, eps)
    return _l2_chain(rule, learning_rate, weight_decay, mask)


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
    """``optax.adamw``."""
    return optax.chain(
        optax.scale_by_adam(b1, b2, eps, eps_root, mu_dtype),
        decoupled_decay(weight_decay, mask),
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
    """``optax.adagrad`` with L2 decay, started from zero as in P3 eq. 1.

    Optax's epsilon stands inside the root: 1e-20 there is 1e-10 beside it.
    """
    rule = optax.scale_by_rss(initial_accumulator_value, eps)
    return _l2_chain(rule, learning_rate, weight_decay, mask)


@checked(complex_params=True)
def rmsprop(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    decay: jax.typing.ArrayLike = 0.99,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """``optax.rmsprop`` with L2 decay and the epsilon outside the root."""
    rule = optax.scale_by_rms(decay, eps, eps_in_sqrt=False)
    return _l2_chain(rule, learning_rate, weight_decay, mask)


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
    """``optax.yogi`` with L2 decay."""
    rule = optax.scale_by_yogi(b1, b2, eps)
    return _l2_chain(rule, learning_rate, weight_decay, mask)


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
    """``optax.radam`` with L2 decay."""
    rule = optax.scale_by_radam(b1, b2, eps)
    return _l2_chain(rule, learning_rate, weight_decay, mask)


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
    """``optax.adabelief`` with decoupled decay, as its authors' code has it."""
    return optax.chain(
        optax.scale_by_belief(b1, b2, eps, eps_root),
        decoupled_decay(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
