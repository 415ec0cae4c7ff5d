"""The grid that chose the rates, on validation; the test set is not touched."""

import dataclasses
from pathlib import Path

from rich.console import Console

from experiments import environment, tune
from experiments.configs.p3.switchover import SwitchoverConfig, TuneConfig
from experiments.data import Dataset
from experiments.loops import traced
from experiments.progress import LiveProgress
from experiments.run_folder import write_csv
from experiments.switchover._methods import Method, build, describe, tuned_methods


def _points(
    config: SwitchoverConfig, grid: TuneConfig, sgd: float | None
) -> list[tuple[Method, SwitchoverConfig]]:
    """SGD's points, or those of the others once SGD's rate, a bound, is known."""
    if sgd is None:
        found = [dataclasses.replace(config, sgd=rate) for rate in grid.sgd_rates]
        return [(tuned_methods(point)[0], point) for point in found]
    config = dataclasses.replace(config, sgd=sgd)
    return [
        (dataclasses.replace(method, learning_rate=rate), config)
        for method in tuned_methods(config)[1:]
        for rate in grid.adam_rates
    ]


def run_grid(
    config: SwitchoverConfig,
    grid: TuneConfig,
    data: Dataset,
    path: Path,
    console: Console,
) -> list[tune.Row]:
    """Does the runs one after another and writes the record after each.

    Args:
      config: the comparison whose rates are to be chosen.
      grid: what to try.
      data: the data.
      path: the record, in the form of ``python -m experiments tune``.
      console: where progress is shown.

    Returns:
      The record's rows.
    """
    rows: list[tune.Row] = []
    steps_per_epoch = len(data.train) // config.batch_size
    per_seed = len(grid.sgd_rates) + 4 * len(grid.adam_rates)
    with LiveProgress(console, per_seed * len(grid.seeds)) as progress:
        for others in (False, True):
            sgd = tune.best(rows)["sgd"].learning_rate if others else None
            for method, point in _points(config, grid, sgd):
                for seed in grid.seeds:
                    label = f"{method.label} {method.learning_rate:g}, seed {seed}"
                    progress.begin(label, config.epochs)

                    def on_epoch(row: traced.Row) -> None:
                        progress.epoch(row | {"average_validation_accuracy": None})

                    trace = traced.run(
                        point.task,
                        build(method, point, steps_per_epoch),
                        data,
                        seed=seed,
                        on_epoch=on_epoch,
                        splits=("validation",),
                    )
                    values = {
                        "optimizer": method.name,
                        "learning_rate": method.learning_rate,
                        "weight_decay": config.weight_decay,
                        "damping": None,
                        "seed": seed,
                        "seconds": trace.seconds,
                        "commit": environment.commit(),
                        "config": describe(method, point, seed),
                        "epochs": trace.last["epoch"],
                        **trace.last,
                    }
                    rows.append({name: values[name] for name in tune.COLUMNS})
                    write_csv(path, tune.COLUMNS, rows)
                    progress.end()
    return rows
