"""Table, figures and page of a language run's folder."""

import dataclasses
import inspect
import json
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.configs.p0 import language as note
from experiments.files import write_atomically
from experiments.report import _page
from experiments.report import _perplexity_figures as figures
from experiments.report._table import interval, plus_minus
from experiments.run_folder import RunFolder
from experiments.statistics import Summary, summarise

Row = dict[str, Any]

_BOOTSTRAP_SEED = 0

HEADER = (
    "optimiser",
    "seeds",
    "rate",
    "decay",
    "epochs",
    "training,\niterate",
    "training,\naverage",
    "validation,\niterate",
    "validation,\naverage",
    "test,\niterate",
    "test,\naverage",
    "s/run",
    "steps/s",
    "P0, PTB:\nvalidation",
    "P0, PTB:\ntest",
)

_ENTRIES = tuple(
    f"{kind}{split}_perplexity"
    for split in ("train", "validation", "test")
    for kind in ("", "average_")
)

_HOW_TO_READ = """\
Perplexity: the exponential of the mean negative log likelihood of all tokens of a split
but the first, dropout off, with the state of the network carried on. Mean ± sample
deviation over seeds, and below it the 95 % bootstrap interval of the mean, which
resamples seeds only and is too narrow for a handful of them. Each text was evaluated
once per run at its end, validation also after every epoch. Rates were chosen on
validation for the optimisers without averaging; those with it took over their base's.
Perplexities of pydocs compare only where the hash of its text is the same. The columns
on the right are what P0 reports for Penn Treebank (tables 12 and 13): another text,
another network, and no target for this one."""


@dataclasses.dataclass(frozen=True)
class Line:
    """What is reported of one optimiser.

    Attributes:
      optimizer: its name.
      rows: its rows of ``results.csv``.
      perplexities: name of the entry to its summary over the seeds that have it.
    """

    optimizer: str
    rows: list[Row]
    perplexities: dict[str, Summary | None]

    def cells(self) -> tuple[str, ...]:
        """The line as text, column by column as :data:`HEADER`."""
        first = self.rows[0]
        decay = first["weight_decay"]
        epochs = sorted({row["epochs"] for row in self.rows})
        speeds = [row["steps_per_second"] for row in self.rows]
        known = [speed for speed in speeds if speed is not None]
        return (
            self.optimizer,
            str(len(self.rows)),
            f"{first['learning_rate']:g}",
            "default" if decay is None else f"{decay:g}",
            "-".join(str(end) for end in dict.fromkeys((epochs[0], epochs[-1]))),
            *(self._cell(entry) for entry in _ENTRIES),
            f"{np.mean([row['seconds'] for row in self.rows]):.1f}",
            f"{np.median(known):.0f}" if known else "–",
            *note.REPORTED.get(self.optimizer, ("–", "–")),
        )

    def _cell(self, entry: str) -> str:
        summary = self.perplexities[entry]
        return f"{plus_minus(summary)}\n{interval(summary)}".strip()


def make_lines(results: list[Row]) -> list[Line]:
    """Summarises finished runs, in the order in which optimisers first appear.

    Args:
      results: rows of ``results.csv``.

    Returns:
      A line per optimiser.
    """
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    lines = []
    for name in dict.fromkeys(row["optimizer"] for row in results):
        rows = [row for row in results if row["optimizer"] == name]
        found: dict[str, Summary | None] = {}
        for entry in _ENTRIES:
            values = [row[entry] for row in rows if row[entry] is not None]
            found[entry] = summarise(values, rng) if values else None
        lines.append(Line(name, rows, found))
    return lines


def _notice(folder: RunFolder) -> str | None:
    """What is missing, or None."""
    config = folder.config
    planned = len(config.get("optimizers", [0])) * len(config.get("seeds", [0]))
    done = len(folder.results())
    if done >= planned:
        return None
    return f"Partial: {done} of {planned} runs are finished. Go on by --resume."


def write(folder: RunFolder) -> None:
    """Writes the figures, ``table.md`` and ``report.html``.

    Args:
      folder: whose files they are made from.
    """
    results, lines = folder.results(), make_lines(folder.results())
    test = [
        (
            line.optimizer,
            line.perplexities["test_perplexity"],
            line.perplexities["average_test_perplexity"],
        )
        for line in lines
    ]
    made = {
        "test_perplexity.png": (
            "Test perplexity, seed by seed",
            figures.final_perplexity(results, test),
        ),
        "validation_perplexity.png": (
            "Validation perplexity over epochs",
            figures.validation_perplexity(folder.rows()),
        ),
    }
    pictures = []
    for name, (caption, file) in made.items():
        if file is not None:
            write_atomically(folder.path / name, file)
            pictures.append((caption, _page.picture(caption, file)))
    table = [line.cells() for line in lines]
    write_atomically(folder.path / "table.md", _page.markdown(HEADER, table))
    notice = _notice(folder)
    config = folder.config
    explained = _page.make_table(HEADER, table) + _page.paragraph(_HOW_TO_READ)
    page = _page.make_page(
        title=f"{folder.command}: {config['model']} on {config['dataset']}",
        finding=[notice] if notice else [],
        sections=[("Perplexity", explained), *pictures],
        description=json.loads((folder.path / "config.json").read_text()),
        note=inspect.getdoc(note) or "",
    )
    write_atomically(folder.path / "report.html", page)


def show(folder: RunFolder, console: Console) -> None:
    """Prints the table, and where the report is.

    Args:
      folder: whose.
      console: where to.
    """
    # Narrow enough for 80 characters; the page has intervals, rates and times too.
    table = Table(
        title="Perplexity: mean ± deviation over seeds", box=None, pad_edge=False
    )
    table.add_column("optimiser", no_wrap=True)
    for split in ("valid.", "test"):
        table.add_column(f"{split},\niterate", justify="right", no_wrap=True)
        table.add_column(f"{split},\naverage", justify="right", no_wrap=True)
    table.add_column("P0, PTB:\ntest", justify="right", no_wrap=True)
    for line in make_lines(folder.results()):
        numbers = [_short(line.perplexities[entry]) for entry in _ENTRIES[2:]]
        reported = line.cells()[-1]
        table.add_row(line.optimizer, *numbers, reported)
    console.print(table)
    notice = _notice(folder)
    if notice:
        console.print(notice, soft_wrap=True, markup=False, highlight=False)
    path = folder.path / "report.html"
    console.print(f"report: {path}", soft_wrap=True, markup=False, highlight=False)


def _short(summary: Summary | None) -> str:
    """Mean and deviation with one decimal; a dash for None."""
    if summary is None:
        return "–"
    if summary.count == 1:
        return f"{summary.mean:.1f}"
    return f"{summary.mean:.1f} ± {summary.std:.1f}"


def write_and_show(folder: RunFolder, console: Console) -> None:
    """Both of them."""
    write(folder)
    show(folder, console)
