"""The optimiser of a masked language run: RoBERTa's schedule, a registry entry."""

import functools
import inspect
from typing import Any

import optax

import optax_ia
from experiments.configs.p2.masked import MaskedRun
from experiments.configs.settings import check_rates
from experiments.errors import ExperimentError
from experiments.optimizers import needs_start
from optax_ia import registry
from optax_ia.second_order import KfacLayer


def _schedule(config: MaskedRun, total: int, start: int | None) -> Any:
    """The rate of each step: up in a line, then down in a line.

    Args:
      config: the run.
      total: steps of the run.
      start: the step at which an average begins, where the rate ends at a half (P0 eq.
        13); None if nothing is averaged, and the rate ends at zero.
    """
    rate = config.learning_rate
    warm = round(config.warmup * total)
    if start is None:
        after = optax.linear_schedule(rate, 0.0, max(1, total - warm))
    else:
        after = optax_ia.averaging_schedule(rate, max(1, start - warm))
    if not warm:
        return after
    rising = optax.linear_schedule(rate / warm, rate, max(1, warm - 1))
    return optax.join_schedules([rising, after], [warm])


@functools.cache
def build_optimizer(
    config: MaskedRun, steps_per_epoch: int, layers: tuple[KfacLayer, ...] | None
) -> optax.GradientTransformationExtraArgs:
    """Clip, rule, decay, schedule, averaging: always in this order.

    Those that find their own rate, or their own start, keep what they are given after
    the rise. Periods that mean an epoch are one.

    Cached, so that runs that differ in nothing but their seed (give them seed 0 here)
    share one transformation, and with it one compiled step.

    Args:
      config: the run.
      steps_per_epoch: steps of an epoch.
      layers: those with Kronecker factors, for K-FAC.

    Returns:
      The transformation.

    Raises:
      ExperimentError: if the optimiser has no such decay or damping.
    """
    name, total = config.optimizer, config.epochs * steps_per_epoch
    check_rates("", config.learning_rate, config.weight_decay, config.damping)
    record = registry.get_record(name)
    arguments = inspect.signature(record.factory).parameters
    overrides: dict[str, Any] = {}
    if not record.averages:
        schedule = _schedule(config, total, None)
    elif "start" in arguments:
        start = max(1, round(config.average_from * total))
        schedule = _schedule(config, total, start)
        if needs_start(name):
            overrides |= {"start": start, "every": config.average_every}
    else:
        schedule = optax.constant_schedule(config.learning_rate)
        overrides["every"] = config.average_every
    if record.own_rate:
        schedule = config.learning_rate
    for argument, value in (
        ("patience", config.patience),
        ("steps_per_epoch", steps_per_epoch),
        ("snapshot_every", steps_per_epoch),
    ):
        if argument in arguments:
            overrides[argument] = value
    for argument in ("weight_decay", "damping"):
        value = getattr(config, argument)
        if value is None:
            continue
        if argument in arguments:
            overrides[argument] = value
        elif value:
            words = argument.replace("_", " ")
            raise ExperimentError(f"{name} has no {words}; leave it out")
    if layers is not None and "layers" in arguments:
        overrides["layers"] = layers
    rule = optax_ia.get_optimizer(name, learning_rate=schedule, **overrides)
    if config.clip_norm is None:
        return rule
    return optax.with_extra_args_support(
        optax.chain(optax.clip_by_global_norm(config.clip_norm), rule)
    )
