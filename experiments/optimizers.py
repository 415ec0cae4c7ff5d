"""The optimiser of a run, assembled in one place and one order."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import optax

import optax_ia
from experiments.configs.settings import DampedRates, Rates, RunConfig, check_rates
from experiments.errors import ExperimentError, unknown
from optax_ia import registry
from optax_ia._src.required import REQUIRED


def list_affordable() -> list[str]:
    """What ``all`` stands for: every entry of the registry but one kind.

    Those that need Hessian products take fifty in each step; on CPU a convolution's,
    in a loop of the compiler, is twenty times slower than it need be.
    """
    return [
        name
        for name in optax_ia.list_optimizers()
        if "matvec" not in registry.get_record(name).needs
    ]


def check_optimizer(name: str) -> None:
    """Checks that an optimiser exists.

    Args:
      name: a registry name.

    Raises:
      ExperimentError: naming the choices.
    """
    if name not in optax_ia.list_optimizers():
        raise unknown("optimizer", name, [*optax_ia.list_optimizers(), "all"])


def _takes(name: str, argument: str) -> bool:
    """Whether an entry's factory has an argument of this name."""
    factory = registry.get_record(name).factory
    return argument in inspect.signature(factory).parameters


def _default_of(name: str, argument: str) -> Any:
    """The registry's value of an argument, else the factory's own."""
    record = registry.get_record(name)
    if argument in record.defaults:
        return record.defaults[argument]
    return inspect.signature(record.factory).parameters[argument].default


def needs_start(name: str) -> bool:
    """Whether an entry averages from an update that must be given."""
    return _takes(name, "start") and _default_of(name, "start") is REQUIRED


def rates_of(name: str, tuned: Mapping[str, Rates]) -> tuple[float, float | None]:
    """Learning rate and weight decay of an optimiser.

    Args:
      name: a registry name.
      tuned: what was chosen for the base optimisers.

    Returns:
      What was tuned for it or, as in P0 B.2, for the optimiser it is built on; else
      the registry's rate and None, which leaves the registry's decay as it is.
    """
    for known in (name, registry.get_record(name).base or name):
        if known in tuned:
            return tuned[known].learning_rate, tuned[known].weight_decay
    return float(_default_of(name, "learning_rate")), None


def damping_of(name: str, tuned: Mapping[str, Rates]) -> float | None:
    """Damping of an optimiser.

    Args:
      name: a registry name.
      tuned: what was chosen for the base optimisers.

    Returns:
      What was tuned for it; else None, which leaves the registry's.
    """
    rates = tuned.get(name)
    return rates.damping if isinstance(rates, DampedRates) else None


def tuned_rates(name: str, tuned: Mapping[str, Rates]) -> dict[str, Any]:
    """Rate, decay and damping of an optimiser, as fields of a run.

    Args:
      name: a registry name.
      tuned: what was chosen for the base optimisers.

    Returns:
      ``learning_rate``, ``weight_decay`` and ``damping``; see :func:`rates_of` and
      :func:`damping_of`.
    """
    learning_rate, weight_decay = rates_of(name, tuned)
    return {
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "damping": damping_of(name, tuned),
    }


def given_rates(config: Any, tuned: Mapping[str, Rates]) -> dict[str, Any]:
    """:func:`tuned_rates` of a configuration's optimiser, but for what it gives itself.

    Args:
      config: has ``optimizer``, and the three fields, None where nothing is given.
      tuned: what was chosen for the base optimisers.

    Returns:
      As there.

    Raises:
      ExperimentError: if there is no such optimiser, or a number is out of bounds.
    """
    check_optimizer(config.optimizer)
    rates = tuned_rates(config.optimizer, tuned)
    for name in rates:
        if getattr(config, name) is not None:
            rates[name] = getattr(config, name)
    check_rates("", **rates)
    return rates


def named_optimizers(names: Sequence[str]) -> tuple[str, ...]:
    """The optimisers of a comparison.

    Args:
      names: registry names, or ``all``.

    Returns:
      Each named once; ``all`` is :func:`list_affordable`.

    Raises:
      ExperimentError: if there is none, or one does not exist.
    """
    if "all" in names:
        names = list_affordable()
    if not names:
        raise ExperimentError("--optimizers needs at least one name, or all")
    for name in names:
        check_optimizer(name)
    return tuple(dict.fromkeys(names))


@functools.cache
def build_optimizer(
    config: RunConfig, steps_per_epoch: int
) -> optax.GradientTransformationExtraArgs:
    """Clip, rule, decay, schedule, averaging: always in this order.

    The rule, its decay and its averaging come from the registry as one
    transformation. Entries without an average follow P0 eq. 12. Those with one follow
    P0 eq. 13 and, unless they say themselves when to collect (an EMA does), collect
    once an epoch from ``config.averaging_epoch`` on. Those that find their own start
    keep their rate constant (P0 A.2); those that find their rates are given the first.
    Periods that mean an epoch are one: the growth of a line search's trials, the
    snapshots of SVRG, the measurements of RMSGD.

    With ``config.schedule`` "step" all that take a schedule follow P4's step decay
    instead, averages included.

    Cached, so that runs which differ in nothing but their seed (give them seed 0
    here) share one transformation, and with it one compiled step.

    Args:
      config: the run.
      steps_per_epoch: steps an epoch has.

    Returns:
      The transformation.
    """
    name = config.optimizer
    record = registry.get_record(name)
    overrides: dict[str, Any] = {}
    if not record.averages:
        schedule = optax_ia.linear_schedule(
            config.learning_rate, config.epochs, steps_per_epoch=steps_per_epoch
        )
    elif _takes(name, "start"):
        start = config.averaging_epoch * steps_per_epoch
        schedule = optax_ia.averaging_schedule(config.learning_rate, start)
        if needs_start(name):
            overrides |= {"start": start, "every": steps_per_epoch}
    else:
        schedule = optax.constant_schedule(config.learning_rate)
        overrides["every"] = steps_per_epoch
        if _takes(name, "patience"):
            overrides["patience"] = config.patience
    if config.schedule == "step":
        schedule = optax_ia.step_schedule(
            config.learning_rate,
            range(config.decay_every, config.epochs, config.decay_every),
            scale=config.decay_factor,
            steps_per_epoch=steps_per_epoch,
        )
    if record.own_rate:
        schedule = config.learning_rate
    for period in ("steps_per_epoch", "snapshot_every"):
        if _takes(name, period):
            overrides[period] = steps_per_epoch
    if config.weight_decay is not None:
        if not _takes(name, "weight_decay"):
            raise ExperimentError(f"{name} has no weight decay; leave it out")
        overrides["weight_decay"] = config.weight_decay
    if config.damping is not None:
        if not _takes(name, "damping"):
            raise ExperimentError(f"{name} has no damping; leave it out")
        overrides["damping"] = config.damping
    rule = optax_ia.get_optimizer(name, learning_rate=schedule, **overrides)
    if config.clip_norm is None:
        return rule
    return optax.with_extra_args_support(
        optax.chain(optax.clip_by_global_norm(config.clip_norm), rule)
    )
