"""``python -m experiments variance_reduction``: SVRG and SGD on a convex problem.

P2, section 4.3.1: logistic regression on digits, the gap to the minimum over passes
over the data, with snapshots' gradients over all the data and over a large batch.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from experiments.cli import parse
from experiments.configs.p2.variance_reduction import (
    VarianceReductionConfig,
    check,
)
from experiments.console import table_console
from experiments.errors import ExperimentError
from experiments.run_folder import RunFolder, write_csv
from experiments.variance_reduction._problem import Minimum as Minimum
from experiments.variance_reduction._problem import Problem as Problem
from experiments.variance_reduction._problem import load as load
from experiments.variance_reduction._problem import minimise as minimise
from experiments.variance_reduction._report import HEADER, write
from experiments.variance_reduction._report import fitted_factor as fitted_factor
from experiments.variance_reduction._report import summarise as summarise
from experiments.variance_reduction._runs import COLUMNS
from experiments.variance_reduction._runs import Method as Method
from experiments.variance_reduction._runs import methods as methods
from experiments.variance_reduction._runs import runner as runner


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Run SGD and SVRG on a convex problem; gaps to its minimum, table and report."""

    config: tyro.conf.OmitArgPrefixes[VarianceReductionConfig]
    out: Path | None = None
    """Run folder, by default a new one under runs/variance_reduction."""


def run_all(
    config: VarianceReductionConfig,
    problem: Problem,
    minimum: Minimum,
    console: Console,
) -> list[dict[str, Any]]:
    """Runs every method with every seed.

    Args:
      config: the comparison.
      problem: what is minimised.
      minimum: its minimum.
      console: where progress is shown.

    Returns:
      The rows, one per epoch, method by method and seed by seed.
    """
    rows: list[dict[str, Any]] = []
    with console.status("") as status:
        for method in methods(config, len(problem)):
            run = runner(problem, minimum, method, config)
            for seed in config.seeds:
                status.update(f"{method.label}, seed {seed}")
                rows += run(seed)
    return rows


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: those of :class:`Arguments`.

    Returns:
      The exit status, 0.
    """
    parsed = parse(Arguments, arguments, command="variance_reduction")
    config = parsed.config
    problem = load(config.l2)
    check(config, len(problem))
    compared = methods(config, len(problem))
    for method in compared:
        if method.epochs(config.passes) < 1:
            raise ExperimentError(
                f"--passes must be at least {method.passes(1):.2f}, what an epoch of "
                f"{method.name} takes, got {config.passes}"
            )
    minimum = minimise(problem)
    folder = RunFolder.prepare(parsed.out, "variance_reduction", config, resume=False)
    rows = run_all(config, problem, minimum, Console())
    write_csv(folder.path / "gaps.csv", COLUMNS, rows)
    lines, said = write(folder, config, minimum, rows, compared)
    shown = Table(*HEADER, box=None, pad_edge=False)
    for cells in lines:
        shown.add_row(*cells)
    table_console().print(shown)
    for text in said:
        print(text)
    print(f"report: {folder.path / 'report.html'}")
    return 0
