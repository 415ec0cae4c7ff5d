"""``python -m experiments.tasks.language_tuning``: the search for rates, on validation.

Every rate of the base optimisers is tried with seeds that the comparison does not use;
the test text is not looked at. One row a run, written as the runs end.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments import environment, memory
from experiments.cli import parse
from experiments.configs.language import LanguageRun, LanguageTask
from experiments.configs.p0.language import SMALL, TUNING_RECORD, LanguageTuning
from experiments.configs.settings import check_rates, check_seeds, fields_of
from experiments.errors import ExperimentError
from experiments.loops import language
from experiments.progress import LiveProgress
from experiments.run_folder import write_csv

COLUMNS = (
    "optimizer",
    "learning_rate",
    "weight_decay",
    "seed",
    "epochs",
    "train_perplexity",
    "validation_perplexity",
    "text_hash",
    "seconds",
    "commit",
    "config",
)


@dataclasses.dataclass(frozen=True)
class Arguments(LanguageTuning):
    """Try a grid of learning rates on validation; the test text is not read."""

    out: Path = TUNING_RECORD
    """The record, a CSV file of one row per run."""


def plan(config: LanguageTuning) -> list[LanguageRun]:
    """Every run of the grid, an optimiser's together: they share a compiled step.

    Args:
      config: the grid.

    Returns:
      The runs in order.
    """
    check_seeds(config.seeds)
    runs = []
    for name, rates in config.grid():
        check_rates(f"{name}.", rates.learning_rate, rates.weight_decay)
        runs += [
            LanguageRun(
                **fields_of(config, LanguageTask),
                optimizer=name,
                seed=seed,
                learning_rate=rates.learning_rate,
                weight_decay=rates.weight_decay,
            )
            for seed in config.seeds
        ]
    return runs


def main(arguments: Sequence[str]) -> int:
    """Runs the search.

    Args:
      arguments: those of :class:`Arguments`.

    Returns:
      The exit status, 0.
    """
    default = Arguments(**SMALL)
    parsed = parse(Arguments, arguments, command="tune language", default=default)
    config = LanguageTuning(**fields_of(parsed, LanguageTuning))
    corpus, runs = language.load(config), plan(config)
    rows: list[dict[str, Any]] = []
    with LiveProgress(Console(), len(runs)) as progress:
        for run in runs:
            label = f"{run.optimizer} {run.learning_rate:g}, seed {run.seed}"
            progress.begin(label, run.epochs)
            row = language.run(
                run,
                corpus,
                on_epoch=progress.epoch,
                final_splits=("train", "validation"),
            )
            row |= {"commit": environment.commit()}
            rows.append({name: row[name] for name in COLUMNS})
            write_csv(parsed.out, COLUMNS, rows)
            progress.end()
    return 0


if __name__ == "__main__":
    memory.keep_freed()
    try:
        sys.exit(main(sys.argv[1:]))
    except ExperimentError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
