"""The methods of the comparison: registry entries with their arguments."""

import dataclasses
import functools
import json
from typing import Any

import optax

import optax_ia
from experiments.configs.p3.switchover import PRINTED_TOL, SwitchoverConfig

MOMENTUM = 0.9
"""Of SGD, and beta_1 of Adam: what table 1 has for every CIFAR task."""

SWATS_PRINTED = "swats_printed"
SWATS = "swats"


@dataclasses.dataclass(frozen=True)
class Method:
    """One line of the comparison.

    Attributes:
      name: in the files, and what the record of the tuning calls it.
      label: in figures and tables.
      entry: the registry's name.
      learning_rate: its initial rate.
      arguments: further arguments of the registry entry.
    """

    name: str
    label: str
    entry: str
    learning_rate: float
    arguments: tuple[tuple[str, Any], ...] = ()

    @property
    def tol(self) -> float | None:
        """The tolerance of the criterion; None where no criterion decides."""
        return dict(self.arguments).get("tol")


def steps_of(fraction: float, config: SwitchoverConfig, steps_per_epoch: int) -> int:
    """A fraction of the run as a number of steps, at least one."""
    return max(1, round(fraction * config.epochs * steps_per_epoch))


def tuned_methods(config: SwitchoverConfig) -> list[Method]:
    """The methods that have a rate of their own to choose.

    Adam-Clip's bounds multiply a rate of SGD on a moving average of the gradient,
    which is ``1 / (1 - momentum)`` times that of SGD with momentum; so Adam-Clip(1, 1)
    would be the SGD of this comparison.

    Args:
      config: the comparison.

    Returns:
      SGD, Adam, SWATS with the tolerance that fires, and both clipped forms.
    """
    bound = ("sgd_learning_rate", float(f"{config.sgd / (1 - MOMENTUM):.6g}"))
    inf = float("inf")
    above = (bound, ("lower", 1.0), ("upper", inf))
    below = (bound, ("lower", 0.0), ("upper", 1.0))
    tol = (("tol", config.tol),)
    return [
        Method("sgd", "SGD(M)", "sgd", config.sgd, (("momentum", MOMENTUM),)),
        Method("adam", "Adam", "adam", config.adam),
        Method(SWATS, f"SWATS, tol {config.tol:g}", "swats", config.swats, tol),
        Method("clip_above", "Adam-Clip(1, ∞)", "adam_clip", config.clip_above, above),
        Method("clip_below", "Adam-Clip(0, 1)", "adam_clip", config.clip_below, below),
    ]


def methods(config: SwitchoverConfig, steps_per_epoch: int) -> list[Method]:
    """All methods of the comparison, in the order of its tables.

    Args:
      config: the comparison.
      steps_per_epoch: steps an epoch has.

    Returns:
      SGD, Adam, SWATS with both tolerances, Adam with fixed switches to the tuned
      SGD, and both clipped forms.
    """
    sgd, adam, swats, *clipped = tuned_methods(config)
    printed = dataclasses.replace(
        swats,
        name=SWATS_PRINTED,
        label=f"SWATS, tol {PRINTED_TOL:g}",
        arguments=(("tol", PRINTED_TOL),),
    )
    fixed = []
    for fraction in config.switches:
        step = steps_of(fraction, config, steps_per_epoch)
        label = f"Sw@{step / steps_per_epoch:.3g}"
        arguments = (("switch_at", step), ("sgd_learning_rate", config.sgd))
        fixed.append(Method(label.lower(), label, "swats", config.adam, arguments))
    return [sgd, adam, printed, swats, *fixed, *clipped]


@functools.cache
def build(
    method: Method, config: SwitchoverConfig, steps_per_epoch: int
) -> optax.GradientTransformationExtraArgs:
    """The transformation: one object, and so one compiled step, for all seeds.

    Args:
      method: which.
      config: the comparison, for schedule and decay.
      steps_per_epoch: steps an epoch has.

    Returns:
      The registry's transformation under the step schedule.
    """
    boundaries = [steps_of(drop, config, steps_per_epoch) for drop in config.drops]
    schedule = optax_ia.step_schedule(method.learning_rate, boundaries)
    # The study follows the printed criterion, which its figures are about.
    printed = {"monitor": "gamma"} if method.entry == "swats" else {}
    return optax_ia.get_optimizer(
        method.entry,
        learning_rate=schedule,
        weight_decay=config.weight_decay,
        **{**printed, **dict(method.arguments)},
    )


def describe(method: Method, config: SwitchoverConfig, seed: int) -> str:
    """Everything a run depends on, as JSON on one line.

    Args:
      method: which.
      config: the comparison.
      seed: the run's.

    Returns:
      JSON with sorted keys; infinity as text, which JSON does not have.
    """
    shared = ("dataset", "model", "epochs", "batch_size", "weight_decay", "drops")
    arguments = {
        name: str(value) if value == float("inf") else value
        for name, value in method.arguments
    }
    fields = {
        "optimizer": method.entry,
        "learning_rate": method.learning_rate,
        "seed": seed,
        **arguments,
        **{name: getattr(config, name) for name in shared},
    }
    return json.dumps(fields, sort_keys=True)
