"""The optimiser of a language run, and the learning rate of each of its windows.

The rate is multiplied by a window's length over the usual one, as in the code of
AWD-LSTM: a mean over fewer words is worth a shorter step. No schedule of optax's knows
lengths, which differ between seeds; so the rate is a hyperparameter in the optimiser's
state, set before every step, and all seeds share one compiled step.
"""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_ia
from experiments.configs.language import LanguageRun
from experiments.configs.settings import check_rates
from experiments.errors import ExperimentError
from experiments.loops._accumulate import accumulated
from experiments.optimizers import needs_start
from experiments.parallel import Placement
from optax_ia import registry
from optax_ia.second_order import KfacLayer


def _arguments(name: str) -> Mapping[str, inspect.Parameter]:
    """The arguments of an entry's factory."""
    return inspect.signature(registry.get_record(name).factory).parameters


def schedule_factor(config: LanguageRun, epoch: int) -> float:
    """What the first learning rate is multiplied by in an epoch.

    Args:
      config: the run.
      epoch: counted from 0.

    Returns:
      1, or after each of the fractions ``decay_at`` a further ``decay_factor``.
    """
    averages = registry.get_record(config.optimizer).averages
    stepped = {
        "constant": False,
        "step": not averages,
        # P0, table 12: without decay but for Padam, which needs it to converge
        "paper": config.optimizer in ("padam", "padamw"),
    }[config.schedule]
    if not stepped:
        return 1.0
    passed = sum(epoch >= at * config.epochs - 1e-9 for at in config.decay_at)
    return config.decay_factor**passed


def _overrides(config: LanguageRun, steps_per_epoch: int) -> dict[str, Any]:
    """Arguments of the registry's factory."""
    name = config.optimizer
    record = registry.get_record(name)
    arguments = _arguments(name)
    overrides: dict[str, Any] = {}
    if record.averages and "every" in arguments:
        # Merity et al., algorithm 1, averages all iterates; P0 A.1 some of them
        all_iterates = name in ("asgd", "nt_asgd")
        overrides["every"] = 1 if all_iterates else config.average_every
    for argument, value in (
        ("patience", config.patience),
        ("window", config.nonmonotone),
        ("snapshot_every", steps_per_epoch),
        # RMSGD measures when told to, at the ends of epochs of unequal length
        ("steps_per_epoch", None if name == "rmsgd" else steps_per_epoch),
    ):
        if argument in arguments:
            overrides[argument] = value
    if config.partial is not None and "partial" in arguments:
        overrides["partial"] = config.partial
    if config.momentum is not None and name in ("sgd", "swa", "sam_sgd", "sgdp"):
        overrides["momentum"] = config.momentum
    if config.damping is not None:
        if "damping" not in arguments:
            raise ExperimentError(f"{name} has no damping; leave it out")
        overrides["damping"] = config.damping
    if needs_start(name):
        overrides["start"] = None  # the loop starts the average at an epoch
    return overrides


def waits_for_start(config: LanguageRun) -> bool:
    """Whether the average begins at an epoch of the configuration's."""
    return needs_start(config.optimizer)


def build_optimizer(
    config: LanguageRun,
    steps_per_epoch: int,
    kfac_layers: tuple[KfacLayer, ...] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Clip, L2, rule with its averaging: always in this order, as in AWD-LSTM's code.

    Where gradients are accumulated, all of that sees their means alone.

    Runs that differ in nothing but seed and learning rate share one transformation, and
    with it one compiled step: :func:`with_rate` sets the rate.

    Args:
      config: the run.
      steps_per_epoch: the number of steps of an epoch, roughly.
      kfac_layers: for K-FAC, the layers that have factors.

    Returns:
      The transformation.

    Raises:
      ExperimentError: if the optimiser has no such decay or damping.
    """
    check_rates("", config.learning_rate, config.weight_decay, config.damping)
    shared = dataclasses.replace(config, seed=0)
    if not registry.get_record(config.optimizer).own_rate:
        shared = dataclasses.replace(shared, learning_rate=1.0)
    return _build(shared, steps_per_epoch, kfac_layers)


@functools.cache
def _build(
    config: LanguageRun,
    steps_per_epoch: int,
    kfac_layers: tuple[KfacLayer, ...] | None,
) -> optax.GradientTransformationExtraArgs:
    name = config.optimizer
    record = registry.get_record(name)
    overrides = _overrides(config, steps_per_epoch)
    if kfac_layers is not None:
        overrides["layers"] = kfac_layers
    before = []
    if config.clip_norm is not None:
        before.append(optax.clip_by_global_norm(config.clip_norm))
    decay = config.weight_decay
    if decay is not None:
        # What takes gradients of its own, at another place, adds decay by itself.
        if config.decay == "l2" and not record.needs:
            before.append(optax.add_decayed_weights(decay))
            decay = 0.0
        if "weight_decay" in _arguments(name):
            overrides["weight_decay"] = decay
        elif decay:
            raise ExperimentError(f"{name} has no weight decay; leave it out")

    def rule(learning_rate):
        return optax_ia.get_optimizer(name, learning_rate=learning_rate, **overrides)

    if record.own_rate:
        made = rule(config.learning_rate)
    else:
        made = optax.inject_hyperparams(rule)(learning_rate=config.learning_rate)
    tx = optax.with_extra_args_support(optax.chain(*before, made))
    return accumulated(tx, config.accumulate) if config.accumulate > 1 else tx


def with_rate(opt_state: Any, rate: float, placement: Placement | None = None) -> Any:
    """The state with another learning rate; one that finds its own is left alone.

    Args:
      opt_state: of :func:`build_optimizer`.
      rate: for the next update.
      placement: the devices that the state is on; None for one.

    Returns:
      The state.
    """
    kind = optax.InjectStatefulHyperparamsState

    def change(node):
        if not isinstance(node, kind):
            return node
        old = jnp.asarray(node.hyperparams["learning_rate"])
        if placement is None:
            new = jnp.asarray(rate, old.dtype)
        else:
            new = placement.whole(np.asarray(rate, old.dtype))
        return node._replace(hyperparams={**node.hyperparams, "learning_rate": new})

    return jax.tree.map(change, opt_state, is_leaf=lambda node: isinstance(node, kind))
