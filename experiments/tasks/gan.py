"""``train`` for a Wasserstein GAN."""

import dataclasses
import functools
from collections.abc import Sequence

from experiments import parallel
from experiments.cli import parse
from experiments.configs.p4.gan import PAPER_RATES, RATES, GanConfig, GanRun
from experiments.configs.settings import (
    Rates,
    check_checkpoint_every,
    check_rates,
    check_seeds,
    fields_of,
)
from experiments.loops import gan
from experiments.optimizers import check_optimizer, rates_of
from experiments.report import gan as report
from experiments.tasks.running import TrainOptions, TrainSettings, train_command

_SCORES = tuple(
    f"{prefix}{score}" for prefix in ("", "average_") for score in gan.SCORES
)
COLUMNS = (
    "optimizer",
    "critic_optimizer",
    "seed",
    "dataset",
    "constraint",
    "epochs",
    "steps",
    "critic_steps",
    "learning_rate",
    "critic_learning_rate",
    "num_averaged",
    *_SCORES,
    "data_frechet_distance",
    "classifier_accuracy",
    "seconds",
    "compile_seconds",
    "steps_per_second",
    "resumed_from_step",
    "commit",
    "versions",
    "config",
)


@dataclasses.dataclass(frozen=True)
class TrainConfig(TrainSettings, GanConfig):
    """Two optimisers, one seed."""

    optimizer: str = "rmsprop"
    """The generator's, a registry name (WGAN: rmsprop)."""
    critic_optimizer: str | None = None
    """The critic's; by default the generator's."""
    seed: int = 0
    """Of initialisation, order, latent numbers and penalty."""
    learning_rate: float | None = None
    """The generator's; by default that of the configuration, else the registry's."""
    critic_learning_rate: float | None = None
    """The critic's; by default that of the configuration, else the registry's."""
    checkpoint_every: int = 500
    """Steps of the generator between checkpoints."""


@dataclasses.dataclass(frozen=True)
class TrainArguments(TrainOptions, TrainConfig):
    """Train a Wasserstein GAN, with a grid of samples each epoch and checkpoints."""


def resolve(config: TrainConfig) -> GanRun:
    """Checks the arguments and fills in rates.

    Args:
      config: the arguments.

    Returns:
      The run.

    Raises:
      ExperimentError: if something is wrong.
    """
    check_seeds((config.seed,))
    check_checkpoint_every(config.checkpoint_every)
    names = (config.optimizer, config.critic_optimizer or config.optimizer)
    given = (config.learning_rate, config.critic_learning_rate)
    known = {name: Rates(rate, None) for name, rate in (PAPER_RATES | RATES).items()}
    rates = []
    for name, rate in zip(names, given, strict=True):
        check_optimizer(name)
        rates.append(rates_of(name, known)[0] if rate is None else rate)
    check_rates("", rates[0], None)
    check_rates("critic_", rates[1], None)
    return GanRun(
        **fields_of(config, GanConfig),
        optimizer=names[0],
        critic_optimizer=names[1],
        seed=config.seed,
        learning_rate=rates[0],
        critic_learning_rate=rates[1],
    )


def train_main(arguments: Sequence[str]) -> int:
    """Runs ``train --task gan``.

    Args:
      arguments: those of :class:`TrainArguments`.

    Returns:
      The exit status: 130 if interrupted, else 0.
    """
    parsed = parse(TrainArguments, arguments, command="train --task gan")
    config = TrainConfig(**fields_of(parsed, TrainConfig))
    run = resolve(config)
    placement = parallel.begin(parsed)
    data = gan.load(run)
    gan.check_run(run, placement, skip=config.on_nan == "skip")
    return train_command(
        arguments,
        parsed,
        config,
        lambda folder: functools.partial(
            gan.run, run, data, samples=folder.path / "samples", placement=placement
        ),
        task="gan",
        columns=COLUMNS,
        label=f"{run.optimizer}, seed {run.seed}",
        epochs=run.epochs,
        show=report.write_and_show,
    )
