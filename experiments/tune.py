"""``python -m experiments tune``: the grid that chose the rates, on validation only."""

import dataclasses
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments import environment
from experiments.cli import command_to_resume, parse
from experiments.configs.p0.digits import TUNE_PRESETS, TUNING_RECORD, TuneConfig
from experiments.configs.p2 import second_order
from experiments.configs.p4 import digits as p4
from experiments.configs.settings import (
    DampedRates,
    Rates,
    RunConfig,
    TaskConfig,
    check_rates,
    check_seeds,
    fields_of,
)
from experiments.csv_files import read_csv, write_csv
from experiments.errors import ExperimentError
from experiments.loops import image
from experiments.loops._image_data import Images
from experiments.progress import LiveProgress

COLUMNS = (
    "optimizer",
    "learning_rate",
    "weight_decay",
    "damping",
    "seed",
    "epochs",
    "train_loss",
    "validation_accuracy",
    "validation_loss",
    "seconds",
    "commit",
    "config",
)

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Arguments(TuneConfig):
    """Try a grid of rates and decays on validation; the test set is not touched."""

    preset: Annotated[
        Literal["small", "second_order", "rmsgd"],
        tyro.conf.arg(
            help="small: the base optimisers of P0. second_order: Adam, Ranger, K-FAC "
            "and Shampoo. rmsgd: those of P4's table 1."
        ),
    ] = "small"
    out: Path = TUNING_RECORD
    """The record, a CSV file of one row per run; by default the preset's own."""
    resume: bool = False
    """Keep the record's rows and do the runs that are missing."""


_RECORDS = {"second_order": second_order.TUNING_RECORD, "rmsgd": p4.TUNING_RECORD}
"""The records of the presets but the first."""


def plan(config: TuneConfig) -> list[RunConfig]:
    """Every run of the grid.

    Args:
      config: the grid.

    Returns:
      The runs in order.

    Raises:
      ExperimentError: if something in it is wrong.
    """
    check_seeds(config.seeds)
    task = fields_of(config, TaskConfig)
    runs = []
    for name, rates in config.grid():
        check_rates(f"{name}.", **dataclasses.asdict(rates))
        for seed in config.seeds:
            point = dataclasses.asdict(rates)
            runs.append(RunConfig(**task, **point, optimizer=name, seed=seed))
    return runs


def read_record(path: Path) -> list[Row]:
    """Reads a record.

    Args:
      path: the CSV file.

    Returns:
      Its rows, numbers as numbers; a loss that was not finite is None.
    """
    numbers = ("learning_rate", "weight_decay", "train_loss", "validation_accuracy")
    numbers = (*numbers, "validation_loss", "seconds", "damping")
    rows: list[Row] = [dict(row) for row in read_csv(path)]
    for row in rows:
        # a record from before there was a damping has no such column
        found = {name: row.get(name) for name in numbers}
        row |= {name: float(cell) if cell else None for name, cell in found.items()}
        row |= {name: int(row[name]) for name in ("seed", "epochs")}
    return rows


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of the grid, with what came out.

    Attributes:
      optimizer: the base optimiser.
      rates: learning rate, weight decay and, where there is one, damping.
      accuracy: mean validation accuracy over the seeds.
      loss: mean validation loss, infinite if a run diverged.
    """

    optimizer: str
    rates: Rates
    accuracy: float
    loss: float


def points(rows: list[Row]) -> list[Point]:
    """The mean over seeds at each point of the grid.

    Args:
      rows: a record.

    Returns:
      The points, best first within each optimiser: by accuracy, and where that is the
      same (a validation set of 450 has few values) by loss.
    """
    groups = defaultdict(list)
    for row in rows:
        rates = Rates(row["learning_rate"], row["weight_decay"])
        if row.get("damping") is not None:
            rates = DampedRates(**dataclasses.asdict(rates), damping=row["damping"])
        groups[row["optimizer"], rates].append(row)

    def mean(group: list[Row], name: str) -> float:
        values = [math.inf if row[name] is None else row[name] for row in group]
        return float(np.mean(values))

    found = [
        Point(
            optimizer,
            rates,
            # rounded, since equal counts of right answers can differ in the last bit
            round(mean(group, "validation_accuracy"), 9),
            mean(group, "validation_loss"),
        )
        for (optimizer, rates), group in groups.items()
    ]
    return sorted(
        found, key=lambda point: (point.optimizer, -point.accuracy, point.loss)
    )


def best(rows: list[Row]) -> dict[str, Rates]:
    """The best point of each optimiser.

    Args:
      rows: a record.

    Returns:
      Optimiser to rates.
    """
    chosen: dict[str, Rates] = {}
    for point in points(rows):
        chosen.setdefault(point.optimizer, point.rates)
    return chosen


def run_grid(
    runs: list[RunConfig], data: Images, path: Path, rows: list[Row], console: Console
) -> None:
    """Does the runs one after another and writes the record after each.

    Args:
      runs: what to do.
      data: the data.
      path: the record.
      rows: rows that it holds already.
      console: where progress is shown.
    """
    with LiveProgress(console, len(runs)) as progress:
        for run in runs:
            last: Row = {}

            def on_epoch(row: Row, last: Row = last) -> None:
                last.update(row)
                progress.epoch(row)

            label = f"{run.optimizer} {run.learning_rate:g} {run.weight_decay:g}"
            if run.damping is not None:
                label += f" {run.damping:g}"
            progress.begin(label, run.epochs)
            result = image.run(
                run, data, on_epoch=on_epoch, final_splits=("validation",)
            )
            result |= {
                "train_loss": last["train_loss"],
                "damping": run.damping,
                "commit": environment.commit(),
            }
            rows.append({name: result[name] for name in COLUMNS})
            write_csv(path, COLUMNS, rows)
            progress.end()


def show(rows: list[Row], console: Console) -> None:
    """Prints the grid, best point of each optimiser first.

    Args:
      rows: a record.
      console: where to.
    """
    columns = ("optimiser", "rate", "decay", "damping", "accuracy %", "loss")
    table = Table(*columns, box=None)
    for point in points(rows):
        rates = point.rates
        damping = f"{rates.damping:g}" if isinstance(rates, DampedRates) else "–"
        table.add_row(
            point.optimizer,
            f"{rates.learning_rate:g}",
            "–" if rates.weight_decay is None else f"{rates.weight_decay:g}",
            damping,
            f"{100 * point.accuracy:.2f}",
            f"{point.loss:.4f}",
        )
    console.print("Validation, mean over seeds, best first:")
    console.print(table)


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: those of :class:`Arguments`.

    Returns:
      The exit status: 130 if interrupted, else 0.
    """
    parsed = parse(Arguments, arguments, command="tune")
    if parsed.preset != "small":  # what is not given comes from the preset
        preset = TUNE_PRESETS[parsed.preset]
        default = Arguments(
            **fields_of(preset, TuneConfig),
            preset=parsed.preset,
            out=_RECORDS[parsed.preset],
        )
        parsed = parse(Arguments, arguments, command="tune", default=default)
    runs = plan(parsed)
    data = image.load(parsed)
    path = parsed.out
    if path.exists() and not parsed.resume:
        raise ExperimentError(
            f"{path} exists; complete it by --resume, or choose another with --out"
        )
    rows = read_record(path) if path.exists() else []
    done = {row["config"] for row in rows}
    missing = [run for run in runs if run.to_json() not in done]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path, COLUMNS, rows)
    except OSError as error:
        raise ExperimentError(
            f"cannot write {path} ({error.strerror}); choose another with --out"
        ) from error
    console = Console()
    try:
        run_grid(missing, data, path, rows, console)
    except KeyboardInterrupt:
        line = command_to_resume("tune", arguments, path)
        print(f"interrupted; go on with: {line}", file=sys.stderr)
        return 130
    show(rows, console)
    return 0
