"""``python -m experiments lanczos``: sharp and flat directions, on a convex problem.

P1, section 4: logistic regression on a thousand images by LanczosOPT, over its damping
and a factor on its eigenvalues, beside gradient descent; the curves of both errors
(fig. 2) and how far each run ends from the best (fig. 3).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from experiments.cli import parse
from experiments.configs.p1.lanczos import LanczosConfig, check
from experiments.console import table_console
from experiments.lanczos._report import write
from experiments.lanczos._runs import COLUMNS, CURVE_COLUMNS, curve_rows, run_all
from experiments.lanczos._runs import Run as Run
from experiments.lanczos._runs import Task as Task
from experiments.lanczos._runs import load as load
from experiments.lanczos._runs import runner as runner
from experiments.lanczos._tables import HEADER
from experiments.lanczos._tables import differences as differences
from experiments.run_folder import RunFolder, write_csv


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Run LanczosOPT over damping and sharp scale; curves, heat maps and report."""

    config: tyro.conf.OmitArgPrefixes[LanczosConfig]
    data_dir: Path | None = None
    """Where TensorFlow Datasets prepared the data set; by default where that puts it
    itself, $TFDS_DATA_DIR or ~/tensorflow_datasets. The digits need none."""
    out: Path | None = None
    """Run folder, by default a new one under runs/lanczos."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: those of :class:`Arguments`.

    Returns:
      The exit status, 0.
    """
    parsed = parse(Arguments, arguments, command="lanczos")
    config = parsed.config
    check(config)
    console = Console()
    with console.status(f"reading {config.dataset}"):
        task = load(
            config.dataset,
            parsed.data_dir,
            examples=config.examples,
            seed=config.seed,
        )
    folder = RunFolder.prepare(parsed.out, "lanczos", config, resume=False)
    runs = run_all(config, task, console)
    write_csv(folder.path / "runs.csv", COLUMNS, [run.row for run in runs])
    write_csv(folder.path / "curves.csv", CURVE_COLUMNS, curve_rows(runs))
    lines, said = write(folder, config, task, runs)
    shown = Table(*HEADER, box=None, pad_edge=False)
    for cells in lines:
        shown.add_row(*cells)
    table_console().print(shown)
    for text in said:
        print(text)
    print(f"report: {folder.path / 'report.html'}")
    return 0
