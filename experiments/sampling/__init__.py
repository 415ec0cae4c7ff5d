"""``python -m experiments sampling``: data drawn with and without replacement.

P2, fig. 6: training loss and test accuracy of a shallow convolutional network under
SGD whose batches are drawn in either way, in pairs of runs over many seeds.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from experiments import environment
from experiments import tune as tuning
from experiments.cli import parse
from experiments.configs.p2.sampling import (
    PRESETS,
    TUNING_RECORD,
    SamplingConfig,
    TuneConfig,
)
from experiments.configs.settings import check_rates, check_seeds
from experiments.console import table_console
from experiments.data import Dataset
from experiments.errors import ExperimentError
from experiments.loops import image
from experiments.progress import LiveProgress
from experiments.run_folder import RunFolder, write_csv
from experiments.sampling._report import HEADER, table, write
from experiments.sampling._study import DRAWS as DRAWS
from experiments.sampling._study import MEASURES as MEASURES
from experiments.sampling._study import RESULT_COLUMNS, Row, result
from experiments.sampling._study import differences as differences
from experiments.sampling._study import shows as shows
from experiments.sampling._study import train as train


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train SGD on data drawn with and without replacement; table and report."""

    config: tyro.conf.OmitArgPrefixes[SamplingConfig]
    preset: Annotated[
        Literal["small", "smoke"],
        tyro.conf.arg(help="small: minutes on two cores. smoke: seconds, a check."),
    ] = "small"
    tune: bool = False
    """Instead, choose the rate on validation; writes the record, a CSV file."""
    out: Path | None = None
    """Run folder, by default a new one under runs/sampling; with --tune the record."""


def run_all(
    config: SamplingConfig, data: Dataset, folder: RunFolder, console: Console
) -> list[Row]:
    """Trains with either draw and every seed, pair by pair.

    Args:
      config: the comparison.
      data: the data.
      folder: where ``metrics.jsonl`` and ``results.csv`` go.
      console: where progress is shown.

    Returns:
      The rows of ``results.csv``.
    """
    results: list[Row] = []
    with LiveProgress(console, len(DRAWS) * len(config.seeds)) as progress:
        for seed in config.seeds:
            for draw in DRAWS:
                progress.begin(f"{draw} replacement, seed {seed}", config.epochs)
                named = {"draw": draw, "seed": seed}

                def on_epoch(row: Row, named: Row = named) -> None:
                    folder.log({**named, **row})
                    progress.epoch(row | {"average_validation_accuracy": None})

                trace = train(config, data, draw=draw, seed=seed, on_epoch=on_epoch)
                results.append(result(config, draw, seed, trace))
                write_csv(folder.path / "results.csv", RESULT_COLUMNS, results)
                progress.end()
    return results


def run_grid(
    config: SamplingConfig, grid: TuneConfig, data: Dataset, path: Path
) -> list[tuning.Row]:
    """Tries every rate on validation, without replacement.

    Args:
      config: the comparison whose rate is to be chosen.
      grid: what to try.
      data: the data.
      path: the record, in the form of ``python -m experiments tune``.

    Returns:
      The record's rows.
    """
    rows: list[tuning.Row] = []
    for rate in grid.rates:
        point = dataclasses.replace(config, learning_rate=rate)
        for seed in grid.seeds:
            trace = train(
                point,
                data,
                draw="without",
                seed=seed,
                on_epoch=lambda _: None,
                splits=("train", "validation"),
            )
            known = {
                "optimizer": "sgd",
                "learning_rate": rate,
                "weight_decay": 0.0,
                "seed": seed,
                "epochs": config.epochs,
                "seconds": trace.seconds,
                "commit": environment.commit(),
                "config": f"{point.task!r}",
            }
            values = {**trace.last, **known}
            rows.append({name: values[name] for name in tuning.COLUMNS})
            write_csv(path, tuning.COLUMNS, rows)
    return rows


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: those of :class:`Arguments`.

    Returns:
      The exit status, 0.
    """
    parsed = parse(Arguments, arguments, command="sampling")
    if parsed.preset != "small":  # what is not given comes from the preset
        default = Arguments(PRESETS[parsed.preset])
        parsed = parse(Arguments, arguments, command="sampling", default=default)
    config = parsed.config
    check_seeds(config.seeds)
    check_rates("", config.learning_rate, None)
    data = image.load_arrays(config.task)
    if parsed.tune:
        path = parsed.out or TUNING_RECORD
        if path.exists():
            raise ExperimentError(f"{path} exists; choose another with --out")
        tuning.show(run_grid(config, TuneConfig(), data, path), Console())
        return 0
    folder = RunFolder.prepare(parsed.out, "sampling", config, resume=False)
    results = run_all(config, data, folder, Console())
    said = write(folder, config, results)
    shown = Table(*HEADER, box=None, pad_edge=False)
    for cells in table(results):
        shown.add_row(*cells)
    table_console().print(shown)
    for text in said:
        print(text)
    print(f"report: {folder.path / 'report.html'}")
    return 0
