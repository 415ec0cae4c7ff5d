"""``python -m experiments report RUN_DIR``: table and report from a folder's files."""

import dataclasses
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments.cli import parse
from experiments.configs.p0 import digits
from experiments.configs.p2 import second_order
from experiments.configs.p4 import digits as p4
from experiments.errors import ExperimentError
from experiments.files import write_atomically
from experiments.report import _figures, _page, gan, language, masked
from experiments.report._table import HEADER, Line, cells, make_lines
from experiments.report._together import error_over_time
from experiments.run_folder import RunFolder

_BOOTSTRAP_SEED = 0

_OTHER_TASKS = {"language": language, "masked": masked, "gan": gan}
"""What makes the report of tasks whose results are no accuracies."""

_HOW_TO_READ = """\
Mean ± sample deviation over seeds, and below it the 95 % bootstrap interval of the
mean, which resamples seeds only: the test set is the same in all of them, and for a
handful of seeds the interval is too narrow. The test set was evaluated once per run, at
its end. Rates and decays were chosen on validation, for the optimisers without
averaging; those with it took over their base's. The columns on the right are what the
papers report: P0 for VGG-16, P2 for ResNet-18 after 40 epochs, P4 for ResNet-18 after
250, on their own tasks; they are no target for this one. Seconds include evaluation
every epoch and, in a process's first run of an optimiser, compilation; steps per second
are of training alone, and so are the seconds on the axis of a figure."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Make table, figures and report.html of a run folder again, from its files."""

    folder: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(metavar="RUN_DIR", help="A run folder."),
    ]


def _num_planned(folder: RunFolder) -> int:
    config = folder.config
    return len(config.get("optimizers", [None])) * len(config.get("seeds", [None]))


def _notice(folder: RunFolder) -> str | None:
    """What is missing, or None."""
    done, planned = len(folder.results()), _num_planned(folder)
    if done >= planned:
        return None
    return f"Partial: {done} of {planned} runs are finished. Go on by --resume."


def _lines(folder: RunFolder) -> list[Line]:
    return make_lines(folder.results(), np.random.default_rng(_BOOTSTRAP_SEED))


def _note(folder: RunFolder) -> str:
    """The lab note of the comparison that has most of the folder's optimisers."""
    names = set(folder.config.get("optimizers", ()))
    notes = (digits, second_order, p4)
    nearest = max(notes, key=lambda note: len(names & set(note.OPTIMIZERS)))
    return inspect.getdoc(nearest) or ""


def write(folder: RunFolder) -> None:
    """Writes the figures, ``table.md`` and ``report.html``.

    Args:
      folder: whose files they are made from.
    """
    results, rows, lines = folder.results(), folder.rows(), _lines(folder)
    figures: dict[str, tuple[str, bytes]] = {}
    if results:
        png = _figures.final_accuracy(results, lines)
        figures["test_accuracy.png"] = "Test accuracy, seed by seed", png
    if rows:
        png = _figures.validation_error(rows)
        figures["validation_error.png"] = "Validation error over epochs", png
        png = _figures.learning_rate(rows)
        figures["learning_rate.png"] = "Learning rate", png
        together = error_over_time(rows, lines)
        if together is not None:
            title = "Validation error over epochs and over seconds"
            figures["validation_time.png"] = title, together
        averaged = _figures.num_averaged(rows)
        if averaged is not None:
            figures["num_averaged.png"] = "Number of averaged iterates", averaged
    for name, (_, png) in figures.items():
        write_atomically(folder.path / name, png)
    table = [cells(line) for line in lines]
    write_atomically(folder.path / "table.md", _page.markdown(HEADER, table))
    config = folder.config
    notice = _notice(folder)
    accuracy = _page.make_table(HEADER, table) + _page.paragraph(_HOW_TO_READ)
    pictures = [
        (caption, _page.picture(caption, png)) for caption, png in figures.values()
    ]
    page = _page.make_page(
        title=f"{folder.command}: {config['model']} on {config['dataset']}",
        finding=[notice] if notice else [],
        sections=[("Test accuracy", accuracy), *pictures],
        description=json.loads((folder.path / "config.json").read_text()),
        note=_note(folder),
    )
    write_atomically(folder.path / "report.html", page)


def show(folder: RunFolder, console: Console) -> None:
    """Prints the table, and where the report is.

    Args:
      folder: whose.
      console: where to.
    """
    # Narrow enough for 80 characters; the page has rates, decays, seeds and P4 too.
    table = Table(
        title="Test accuracy in %: mean ± deviation over seeds,\n"
        "[95 % bootstrap interval of the mean]",
        box=None,
        pad_edge=False,
    )
    table.add_column("optimiser")
    table.add_column("last iterate", justify="right", no_wrap=True)
    table.add_column("average", justify="right", no_wrap=True)
    table.add_column("s/run", justify="right")
    table.add_column("steps/s", justify="right")
    table.add_column("P0, VGG-16:\nCIFAR-10\nCIFAR-100", justify="right", no_wrap=True)
    table.add_column("P2:\nCIFAR\n-100", justify="right", no_wrap=True)
    for line in _lines(folder):
        name, _, _, _, iterate, average, seconds, speed, *paper, p2, _ = cells(line)
        p0 = "\n".join(paper) if line.reported else "–"
        table.add_row(name, iterate, average, seconds, speed, p0, p2)
    console.print(table)
    notice = _notice(folder)
    if notice:
        console.print(notice, soft_wrap=True, markup=False, highlight=False)
    path = folder.path / "report.html"
    console.print(f"report: {path}", soft_wrap=True, markup=False, highlight=False)


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: those of :class:`Arguments`.

    Returns:
      The exit status, 0.
    """
    parsed = parse(Arguments, arguments, command="report")
    folder = RunFolder.open(parsed.folder)
    if folder.command not in ("compare", "train"):
        raise ExperimentError(
            f"{folder.path} was made by {folder.command}; report takes the folders of "
            "compare and train"
        )
    if folder.task in _OTHER_TASKS:
        _OTHER_TASKS[folder.task].write_and_show(folder, Console())
        return 0
    write(folder)
    show(folder, Console())
    return 0
