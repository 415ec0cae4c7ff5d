"""``python -m experiments compare``: several optimisers and seeds, one report."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from experiments import report
from experiments.cli import command_to_resume, parse
from experiments.configs.p0.digits import PRESETS, CompareConfig
from experiments.configs.settings import (
    RunConfig,
    TaskConfig,
    check_rates,
    check_seeds,
    fields_of,
)
from experiments.data import Dataset
from experiments.errors import ExperimentError
from experiments.loops import image
from experiments.optimizers import (
    check_optimizer,
    damping_of,
    list_affordable,
    rates_of,
)
from experiments.progress import LiveProgress
from experiments.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Arguments(CompareConfig):
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
    names = config.optimizers
    if "all" in names:
        names = tuple(list_affordable())
    if not names:
        raise ExperimentError("--optimizers needs at least one name, or all")
    for name in names:
        check_optimizer(name)
    return dataclasses.replace(config, optimizers=tuple(dict.fromkeys(names)))


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
            learning_rate, weight_decay = rates_of(name, config.tuned)
            runs.append(
                RunConfig(
                    **task,
                    optimizer=name,
                    seed=seed,
                    learning_rate=learning_rate,
                    weight_decay=weight_decay,
                    damping=damping_of(name, config.tuned),
                )
            )
    return runs


def train_missing(
    runs: list[RunConfig], data: Dataset, folder: RunFolder, console: Console
) -> None:
    """Does the runs that the folder holds no result of; half-done ones start anew.

    Args:
      runs: all runs.
      data: the data.
      folder: where rows and results go.
      console: where progress is shown.
    """
    done = {(row["optimizer"], row["seed"]) for row in folder.results()}
    folder.keep_rows(lambda row: (row["optimizer"], row["seed"]) in done)
    missing = [run for run in runs if (run.optimizer, run.seed) not in done]
    with LiveProgress(console, len(missing)) as progress:
        for run in missing:
            progress.begin(f"{run.optimizer}, seed {run.seed}", run.epochs)

            def on_epoch(row: image.Row) -> None:
                folder.log(row)
                progress.epoch(row)

            folder.add_result(image.run(run, data, on_epoch=on_epoch))
            progress.end()


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: those of :class:`Arguments`.

    Returns:
      The exit status: 130 if interrupted, else 0.
    """
    parsed = parse(Arguments, arguments, command="compare")
    if parsed.preset != "small":  # what is not given comes from the preset
        default = Arguments(**fields_of(PRESETS[parsed.preset], CompareConfig))
        parsed = parse(Arguments, arguments, command="compare", default=default)
    config = resolve(CompareConfig(**fields_of(parsed, CompareConfig)))
    data = image.load(config)
    folder = RunFolder.prepare(parsed.out, "compare", config, resume=parsed.resume)
    console = Console()
    interrupted = False
    try:
        train_missing(plan(config), data, folder, console)
    except KeyboardInterrupt:
        interrupted = True
    report.write(folder)
    report.show(folder, console)
    if interrupted:
        line = command_to_resume("compare", arguments, folder.path)
        print(f"interrupted; go on with: {line}", file=sys.stderr)
        return 130
    return 0
