"""What the registry lists of the wrappers: each around the rule its paper has in it."""

import jax
import optax

from optax_ia import averaging, baselines, gradients
from optax_ia._src.arguments import checked
from optax_ia._src.types import Mask
from optax_ia.decay import l2_decay
from optax_ia.schedules import scale_by_learning_rate


@checked(complex_params=True)
def lookahead_adamw(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    sync_period: int = 5,
    slow_step_size: float = 0.5,
    *,
    stop: int | None = None,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """AdamW in Lookahead."""
    inner = baselines.adamw(learning_rate, weight_decay=weight_decay, mask=mask)
    return averaging.lookahead(inner, sync_period, slow_step_size, stop=stop)


@checked(complex_params=True)
def adamw_ema(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    decay: float = 0.999,
    *,
    start: int | None = 0,
    every: int = 1,
    debias: bool = True,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """AdamW with an EMA of its iterates."""
    return optax.chain(
        baselines.adamw(learning_rate, weight_decay=weight_decay, mask=mask),
        averaging.ema_average(decay, start=start, debias=debias, every=every),
    )


@checked()
def sam_sgd(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    rho: jax.typing.ArrayLike = 0.05,
    adaptive: bool = False,
    *,
    momentum: jax.typing.ArrayLike = 0.9,
    nesterov: bool = False,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """SAM around SGD with momentum and L2 decay."""
    inner = baselines.sgd(
        learning_rate,
        momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        mask=mask,
    )
    return gradients.sam(inner, rho, adaptive)


@checked(complex_params=True)
def svrg_sgd(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    snapshot_every: jax.typing.ArrayLike = 100,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """SVRG around plain SGD with L2 decay."""
    inner = optax.chain(
        l2_decay(weight_decay, mask), scale_by_learning_rate(learning_rate)
    )
    return gradients.svrg(inner, snapshot_every)
