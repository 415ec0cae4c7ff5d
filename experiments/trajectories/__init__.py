"""``python -m experiments trajectories``: paths of every method on two functions.

A picture per method, as P2's figures 5 and 7, one page with all of them, and a table of
the end points. What is run, and what P2 says of it, is in
``experiments/configs/p2/trajectories.py``.
"""

import dataclasses
import fnmatch
import inspect
from collections.abc import Sequence
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from experiments import environment
from experiments.cli import parse
from experiments.configs.p2 import trajectories as config_module
from experiments.configs.p2.trajectories import STEPS, method_names
from experiments.console import table_console
from experiments.errors import ExperimentError
from experiments.files import write_atomically
from experiments.run_folder import RunFolder, write_csv
from experiments.trajectories import _figure, _page
from experiments.trajectories._paths import NotApplicable as NotApplicable
from experiments.trajectories._paths import Paths as Paths
from experiments.trajectories._paths import run as run
from experiments.trajectories._problems import PROBLEMS as PROBLEMS
from experiments.trajectories._problems import Problem as Problem
from experiments.trajectories._rows import Row as Row
from experiments.trajectories._rows import make_rows as make_rows
from experiments.trajectories._rows import outcomes as outcomes
from experiments.trajectories._rows import same_paths as same_paths


@dataclasses.dataclass(frozen=True)
class TrajectoriesConfig:
    """What the pictures depend on."""

    methods: tuple[str, ...] = ("*",)
    """Shell patterns of the methods to draw, such as 'adam*' swats."""
    steps: int = STEPS
    """Updates of each run."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Draw every method's path on the Beale and the Schubert function."""

    config: tyro.conf.OmitArgPrefixes[TrajectoriesConfig]
    out: Path | None = None
    """Folder to write to; by default a new one under runs/trajectories."""


def choose(patterns: Sequence[str]) -> list[str]:
    """The methods that patterns ask for.

    Args:
      patterns: shell patterns.

    Returns:
      Names in the page's order, each once.

    Raises:
      ExperimentError: if a pattern matches nothing, naming the choices.
    """
    names = method_names()
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ExperimentError(
                f"no method matches {pattern!r}; there are: {', '.join(names)}"
            )
    return [
        name
        for name in names
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]


def run_all(
    methods: Sequence[str], steps: int
) -> tuple[list[tuple[Paths, ...]], dict[str, str]]:
    """Runs methods on both functions.

    Args:
      methods: their names.
      steps: updates.

    Returns:
      Per method that ran its paths on each function; method to the reason for the
      others.
    """
    done: list[tuple[Paths, ...]] = []
    not_run: dict[str, str] = {}
    for method in methods:
        try:
            done.append(tuple(run(method, p, steps) for p in PROBLEMS.values()))
        except NotApplicable as reason:
            not_run[method] = str(reason)
    return done, not_run


def _show(console: Console, rows: Sequence[Row], not_run: dict[str, str]) -> None:
    table = Table(title="Ends at four learning rates, the smallest first", box=None)
    for column in ("method", *PROBLEMS, ""):
        table.add_column(column, no_wrap=True)
    for line in _page.overview(rows):
        table.add_row(*line)
    console.print(table)
    console.print(_page.legend(), soft_wrap=True, markup=False, highlight=False)
    for method, reason in not_run.items():
        console.print(f"not run: {method}: {reason}", soft_wrap=True, markup=False)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see :class:`Arguments`."""
    parsed = parse(Arguments, arguments, command="trajectories")
    config = parsed.config
    if config.steps < 1:
        raise ExperimentError(f"--steps must be at least 1, got {config.steps}")
    methods = choose(config.methods)
    folder = RunFolder.prepare(parsed.out, "trajectories", config, resume=False)
    with Console().status("running the methods"):
        done, not_run = run_all(methods, config.steps)
        same = same_paths(done)
        rows = [
            row
            for paths in done
            for one in paths
            for row in make_rows(one, same.get(one.method, ""))
        ]
        pictures = {paths[0].method: _figure.draw(paths) for paths in done}
    for method, png in pictures.items():
        write_atomically(folder.path / f"{method}.png", png)
    columns = tuple(field.name for field in dataclasses.fields(Row))
    write_csv(
        folder.path / "end_points.csv",
        columns,
        [dataclasses.asdict(row) for row in rows],
    )
    page = _page.make_page(
        rows=rows,
        pictures=pictures,
        not_run=not_run,
        steps=config.steps,
        note=inspect.getdoc(config_module) or "",
        commit=environment.commit(),
        versions=environment.versions(),
    )
    write_atomically(folder.path / "trajectories.html", page)
    _show(table_console(), rows, not_run)
    print(f"trajectories.html, end_points.csv and the pictures are in {folder.path}")
    return 0
