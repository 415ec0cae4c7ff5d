"""The optimisers of a GAN: registry entries at constant rates, the critic's clipped."""

import functools
import inspect
from typing import Any

import optax

import optax_ia
from experiments.configs.p4.gan import GanRun
from experiments.configs.settings import check_rates
from experiments.optimizers import needs_start
from optax_ia import models, registry
from optax_ia.second_order import KfacLayer


@functools.cache
def build_optimizer(
    config: GanRun,
    epoch_steps: int,
    layers: tuple[KfacLayer, ...] | None,
    critic: bool,
) -> optax.GradientTransformationExtraArgs:
    """The optimiser of one of the networks.

    Rates are constant, as the paper's: there is no minimum to settle in. Weights are
    clipped after everything else; an average that the optimiser keeps of the critic is
    of weights before the clipping, and is not used.

    Cached, so that runs that differ in nothing but their seed (give them seed 0 here)
    share one transformation, and with it one compiled step.

    Args:
      config: the run.
      epoch_steps: the generator's steps of an epoch.
      layers: those with Kronecker factors, for K-FAC.
      critic: whether it is the critic's.

    Returns:
      The transformation.

    Raises:
      ExperimentError: if the rate is out of bounds.
    """
    name, rate = config.optimizer, config.learning_rate
    prefix, each = "", 1
    if critic:
        name, rate = config.critic_optimizer, config.critic_learning_rate
        prefix, each = "critic_", config.critic_steps
    check_rates(prefix, rate, None)
    record = registry.get_record(name)
    arguments = inspect.signature(record.factory).parameters
    overrides: dict[str, Any] = {}
    if record.averages and "every" in arguments:
        overrides["every"] = each * config.average_every
    if needs_start(name):
        total = config.epochs * epoch_steps
        overrides["start"] = max(1, round(config.average_from * total)) * each
    for argument, value in (
        ("patience", config.patience),
        ("steps_per_epoch", epoch_steps * each),
        ("snapshot_every", epoch_steps * each),
        ("layers", layers),
    ):
        if argument in arguments and value is not None:
            overrides[argument] = value
    rule = optax_ia.get_optimizer(name, learning_rate=rate, **overrides)
    if not critic or config.constraint != "clip":
        return rule
    clipped = optax.chain(rule, models.clip_weights(config.clip))
    return optax.with_extra_args_support(clipped)
