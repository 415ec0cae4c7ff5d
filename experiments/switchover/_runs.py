"""Every method with every seed, and what is kept of each run."""

from typing import Any

from rich.console import Console

from experiments import environment
from experiments.configs.p3.switchover import SwitchoverConfig
from experiments.data import Dataset
from experiments.loops import traced
from experiments.progress import LiveProgress
from experiments.run_folder import RunFolder, write_csv
from experiments.switchover._criterion import differences
from experiments.switchover._methods import (
    MOMENTUM,
    SWATS,
    SWATS_PRINTED,
    Method,
    build,
    describe,
    methods,
)

Row = dict[str, Any]

RESULT_COLUMNS = (
    "method",
    "seed",
    "dataset",
    "model",
    "epochs",
    "steps",
    "learning_rate",
    "tol",
    "switch_step",
    "switch_epoch",
    "Lambda",
    "rate_after_switch",
    "closest",
    "train_loss",
    "validation_loss",
    "validation_accuracy",
    "test_loss",
    "test_accuracy",
    "seconds",
    "steps_per_second",
    "commit",
    "config",
)

STEP_COLUMNS = (
    "method",
    "seed",
    "step",
    "epoch",
    "learning_rate",
    "loss",
    "gamma",
    "lambda_hat",
    "phase",
    "sgd_learning_rate",
)


def _result(
    method: Method, config: SwitchoverConfig, seed: int, trace: traced.Trace, every: int
) -> Row:
    """The row of a run for ``results.csv``; None where a column does not apply."""
    final = trace.steps[-1]
    switched = bool(final.get("phase"))
    step = final["switch_step"] if switched else None
    rate = final["sgd_learning_rate"] if switched else None
    found = None
    if rate is not None and method.tol is not None:
        found, rate = rate, (1 - MOMENTUM) * rate
    closest = None
    if method.tol is not None:
        closest = float(differences(trace.steps).min())
    own = {
        "method": method.name,
        "seed": seed,
        "dataset": config.dataset,
        "model": config.model,
        "epochs": trace.last["epoch"],
        "steps": trace.last["step"],
        "learning_rate": method.learning_rate,
        "tol": method.tol,
        "switch_step": step,
        "switch_epoch": None if step is None else step / every,
        "Lambda": found,
        "rate_after_switch": rate,
        "closest": closest,
        "seconds": trace.seconds,
        "steps_per_second": trace.steps_per_second,
        "commit": environment.commit(),
        "config": describe(method, config, seed),
    }
    return {**own, **{name: trace.last[name] for name in RESULT_COLUMNS[13:18]}}


def run_all(
    config: SwitchoverConfig, data: Dataset, folder: RunFolder, console: Console
) -> tuple[list[Row], list[Row]]:
    """Trains every method with every seed, seed by seed.

    Writes ``metrics.jsonl`` (a row per epoch), ``results.csv`` (a row per run, after
    each) and ``steps.csv`` (a row per update of SWATS).

    Args:
      config: the comparison.
      data: the data.
      folder: where to.
      console: where progress is shown.

    Returns:
      The rows of ``results.csv`` and of ``steps.csv``.
    """
    every = len(data.train) // config.batch_size
    chosen = methods(config, every)
    results: list[Row] = []
    steps: list[Row] = []
    with LiveProgress(console, len(chosen) * len(config.seeds)) as progress:
        for seed in config.seeds:
            for method in chosen:
                progress.begin(f"{method.label}, seed {seed}", config.epochs)
                named = {"method": method.name, "seed": seed}

                def on_epoch(row: Row, named: Row = named) -> None:
                    folder.log({**named, **row})
                    progress.epoch(row | {"average_validation_accuracy": None})

                trace = traced.run(
                    config.task,
                    build(method, config, every),
                    data,
                    seed=seed,
                    on_epoch=on_epoch,
                )
                results.append(_result(method, config, seed, trace, every))
                write_csv(folder.path / "results.csv", RESULT_COLUMNS, results)
                if method.name in (SWATS, SWATS_PRINTED):
                    rows = [{**named, **step} for step in trace.steps]
                    steps += [{k: row[k] for k in STEP_COLUMNS} for row in rows]
                    write_csv(folder.path / "steps.csv", STEP_COLUMNS, steps)
                progress.end()
    return results, steps
