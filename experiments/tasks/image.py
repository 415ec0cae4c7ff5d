"""``train`` and ``compare`` for image classification."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from experiments import parallel, report
from experiments.cli import parse
from experiments.configs.p0.digits import PRESETS, CompareConfig
from experiments.configs.settings import (
    RunConfig,
    TaskConfig,
    check_checkpoint_every,
    check_rates,
    check_seeds,
    fields_of,
)
from experiments.loops import image
from experiments.loops._image_data import Images
from experiments.optimizers import given_rates, named_optimizers, tuned_rates
from experiments.run_folder import RESULT_COLUMNS, RunFolder
from experiments.tasks.running import (
    TrainOptions,
    TrainSettings,
    compare_command,
    train_command,
)


@dataclasses.dataclass(frozen=True)
class TrainConfig(TrainSettings, TaskConfig):
    """One optimiser, one seed."""

    optimizer: str = "gadamx"
    """Registry name."""
    seed: int = 0
    """Of initialisation, data order and augmentation."""
    learning_rate: float | None = None
    """Initial learning rate; by default the tuned one, else the registry's."""
    weight_decay: float | None = None
    """Weight decay; by default the tuned one, else the registry's."""
    damping: float | None = None
    """Damping of K-FAC; by default the tuned one."""


@dataclasses.dataclass(frozen=True)
class TrainArguments(TrainOptions, TrainConfig):
    """Train one optimiser with checkpoints; --resume goes on exactly."""


def resolve_run(config: TrainConfig) -> RunConfig:
    """Checks the arguments and fills in the tuned rate and decay.

    Args:
      config: the arguments.

    Returns:
      The run.

    Raises:
      ExperimentError: if something is wrong.
    """
    check_seeds((config.seed,))
    check_checkpoint_every(config.checkpoint_every)
    return RunConfig(
        **fields_of(config, TaskConfig),
        optimizer=config.optimizer,
        seed=config.seed,
        **given_rates(config, PRESETS["small"].tuned),
    )


def train_main(arguments: Sequence[str]) -> int:
    """Runs ``train``.

    Args:
      arguments: those of :class:`TrainArguments`.

    Returns:
      The exit status: 130 if interrupted, else 0.
    """
    parsed = parse(TrainArguments, arguments, command="train")
    config = TrainConfig(**fields_of(parsed, TrainConfig))
    run = resolve_run(config)
    placement = parallel.begin(parsed)
    devices = 1 if placement is None else placement.devices
    if run.batch_stats == "replica" and run.replicas is None:
        # Results depend on it: it stands in the record.
        run = dataclasses.replace(run, replicas=devices)
        config = dataclasses.replace(config, replicas=devices)
    data = image.load(run)
    image.check_run(run, devices, skip=config.on_nan == "skip")
    return train_command(
        arguments,
        parsed,
        config,
        lambda folder: functools.partial(_run, run, data, placement=placement),
        task="image",
        columns=RESULT_COLUMNS,
        label=f"{run.optimizer}, seed {run.seed}",
        epochs=run.epochs,
        show=_show,
    )


@dataclasses.dataclass(frozen=True)
class CompareArguments(CompareConfig):
    """Train several optimisers with several seeds; write a table and a report."""

    preset: Annotated[
        Literal["small", "second_order", "rmsgd", "smoke"],
        tyro.conf.arg(
            help="small: P0's six, minutes on two cores. second_order: K-FAC and "
            "Shampoo beside SGD, Adam and Ranger (P2, fig. 19). rmsgd: RMSGD beside "
            "P4's baselines (table 1), with its step decay. smoke: seconds, a check."
        ),
    ] = "small"
    out: Path | None = None
    """Run folder; by default a new one under runs/compare."""
    resume: bool = False
    """Go on with a run folder: that of --out, or the newest under runs/compare."""


def resolve(config: CompareConfig) -> CompareConfig:
    """Checks a comparison and replaces ``all`` by the names it stands for.

    Args:
      config: the comparison.

    Returns:
      The same with every optimiser named, once.

    Raises:
      ExperimentError: if something in it is wrong.
    """
    check_seeds(config.seeds)
    for base, rates in config.tuned.items():
        check_rates(f"{base}.", **dataclasses.asdict(rates))
    return dataclasses.replace(config, optimizers=named_optimizers(config.optimizers))


def plan(config: CompareConfig) -> list[RunConfig]:
    """Every run of a comparison, seed by seed, so that a partial one is fair too.

    Args:
      config: the comparison, resolved.

    Returns:
      The runs in order.
    """
    task = fields_of(config, TaskConfig)
    runs = []
    for seed in config.seeds:
        for name in config.optimizers:
            runs.append(
                RunConfig(
                    **task,
                    optimizer=name,
                    seed=seed,
                    **tuned_rates(name, config.tuned),
                )
            )
    return runs


def compare_main(arguments: Sequence[str]) -> int:
    """Runs ``compare``.

    Args:
      arguments: those of :class:`CompareArguments`.

    Returns:
      The exit status: 130 if interrupted, else 0.
    """
    parsed = parse(CompareArguments, arguments, command="compare")
    if parsed.preset != "small":  # what is not given comes from the preset
        default = CompareArguments(**fields_of(PRESETS[parsed.preset], CompareConfig))
        parsed = parse(CompareArguments, arguments, command="compare", default=default)
    config = resolve(CompareConfig(**fields_of(parsed, CompareConfig)))
    data = image.load(config)
    folder = RunFolder.prepare(parsed.out, "compare", config, resume=parsed.resume)
    runs = [
        (run.optimizer, run.seed, run.epochs, functools.partial(_run, run, data))
        for run in plan(config)
    ]
    return compare_command(arguments, folder, runs, show=_show)


def _run(run: RunConfig, data: Images, **hooks: Any) -> image.Row:
    return image.run(run, data, **hooks)


def _show(folder: RunFolder, console: Console) -> None:
    report.write(folder)
    report.show(folder, console)
