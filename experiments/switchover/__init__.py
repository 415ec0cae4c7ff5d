"""``python -m experiments switchover``: P3's switch from Adam to SGD, on digits.

SWATS with the printed tolerance and with one that fires, SGD, Adam, Adam with switches
at fixed epochs (P3, fig. 2) and both clipped forms of Adam (fig. 1), with several
seeds; the estimated rate of SGD at every step (fig. 7); and table 1.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from experiments import tune
from experiments.cli import parse
from experiments.configs.p3.switchover import (
    PRESETS,
    TUNE_PRESETS,
    TUNING_RECORD,
    SwitchoverConfig,
)
from experiments.configs.settings import check_rates, check_seeds
from experiments.console import table_console
from experiments.errors import ExperimentError
from experiments.loops import image
from experiments.run_folder import RunFolder
from experiments.switchover import _tables
from experiments.switchover._criterion import Reach as Reach
from experiments.switchover._criterion import Switch as Switch
from experiments.switchover._criterion import first_switch as first_switch
from experiments.switchover._criterion import reach as reach
from experiments.switchover._methods import Method as Method
from experiments.switchover._methods import build as build
from experiments.switchover._methods import methods as methods
from experiments.switchover._report import write
from experiments.switchover._runs import run_all
from experiments.switchover._tune import run_grid


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Compare SWATS with its parts and with fixed switches; tables and report."""

    config: tyro.conf.OmitArgPrefixes[SwitchoverConfig]
    preset: Annotated[
        Literal["small", "smoke"],
        tyro.conf.arg(help="small: minutes on two cores. smoke: seconds, a check."),
    ] = "small"
    tune: bool = False
    """Instead, choose the rates on validation; writes the record, a CSV file."""
    out: Path | None = None
    """Run folder, by default a new one under runs/switchover; or --tune's record."""


def check(config: SwitchoverConfig) -> None:
    """Checks every number of a comparison.

    Args:
      config: the comparison.

    Raises:
      ExperimentError: naming the argument, its bound and the value received.
    """
    check_seeds(config.seeds)
    for name in ("sgd", "adam", "swats", "clip_above", "clip_below", "tol"):
        check_rates(f"{name}: ", getattr(config, name), config.weight_decay)
    for name in ("drops", "switches"):
        values = getattr(config, name)
        if not all(0 < value < 1 for value in values) or [*values] != sorted(
            set(values)
        ):
            raise ExperimentError(
                f"--{name} must increase between 0 and 1, got "
                + " ".join(map(str, values))
            )


def _show(folder: RunFolder, finding: Sequence[str], results, config) -> None:
    """Prints the table of errors and what came out."""
    every = results[0]["steps"] // results[0]["epochs"]
    table = Table(*_tables.ERRORS_HEADER, box=None, pad_edge=False)
    for cells in _tables.errors(results, methods(config, every)):
        table.add_row(*cells)
    table_console().print(table)
    for text in finding:
        print(text)
    print(f"report: {folder.path / 'report.html'}")


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: those of :class:`Arguments`.

    Returns:
      The exit status, 0.
    """
    parsed = parse(Arguments, arguments, command="switchover")
    if parsed.preset != "small":  # what is not given comes from the preset
        default = Arguments(PRESETS[parsed.preset])
        parsed = parse(Arguments, arguments, command="switchover", default=default)
    config = parsed.config
    check(config)
    data = image.load_arrays(config.task)
    console = Console()
    if parsed.tune:
        path = parsed.out or TUNING_RECORD
        if path.exists():
            raise ExperimentError(f"{path} exists; choose another with --out")
        rows = run_grid(config, TUNE_PRESETS[parsed.preset], data, path, console)
        tune.show(rows, console)
        return 0
    folder = RunFolder.prepare(parsed.out, "switchover", config, resume=False)
    results, steps = run_all(config, data, folder, console)
    _show(folder, write(folder, config, results, steps), results, config)
    return 0
