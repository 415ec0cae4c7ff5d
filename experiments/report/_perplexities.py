"""Table, figures and page of a folder of runs that are compared by their perplexity."""

import dataclasses
import inspect
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.files import write_atomically
from experiments.report import _page
from experiments.report import _perplexity_figures as figures
from experiments.report._table import interval, plus_minus
from experiments.run_folder import RunFolder
from experiments.statistics import Summary, summarise

Row = dict[str, Any]

_BOOTSTRAP_SEED = 0

_SCORES = {
    "validation_perplexity": "validation,\niterate",
    "average_validation_perplexity": "validation,\naverage",
    "test_perplexity": "test,\niterate",
    "average_test_perplexity": "test,\naverage",
}
"""What every report has of a run, and the head of its column."""


@dataclasses.dataclass(frozen=True)
class Line:
    """What is reported of one optimiser.

    Attributes:
      optimizer: its name.
      rows: its rows of ``results.csv``.
      perplexities: name of the entry to its summary over the seeds that have it.
      reported: what the paper gives.
    """

    optimizer: str
    rows: list[Row]
    perplexities: dict[str, Summary | None]
    reported: tuple[str, ...]

    def cells(self) -> tuple[str, ...]:
        """The line as text, column by column as the report's header."""
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
            *(self._cell(entry) for entry in self.perplexities),
            f"{np.mean([row['seconds'] for row in self.rows]):.1f}",
            f"{np.median(known):.0f}" if known else "–",
            *self.reported,
        )

    def _cell(self, entry: str) -> str:
        summary = self.perplexities[entry]
        return f"{plus_minus(summary)}\n{interval(summary)}".strip()


@dataclasses.dataclass(frozen=True)
class PerplexityReport:
    """How the runs of one task are reported.

    Attributes:
      training: entries of training perplexity, of a run or of its last epoch, to the
        heads of their columns.
      paper: heads of the columns that a paper fills; the last is printed too.
      reported: by optimiser, what stands there.
      how_to_read: what the numbers are, in sentences under the table.
      note: the module whose docstring is the configuration's lab note.
    """

    training: Mapping[str, str]
    paper: tuple[str, ...]
    reported: Mapping[str, tuple[str, ...]]
    how_to_read: str
    note: Any

    @property
    def header(self) -> tuple[str, ...]:
        """The heads of all columns."""
        settings = ("optimiser", "seeds", "rate", "decay", "epochs")
        scores = (*self.training.values(), *_SCORES.values())
        return (*settings, *scores, "s/run", "steps/s", *self.paper)

    def make_lines(self, results: list[Row]) -> list[Line]:
        """Summarises finished runs, in the order in which optimisers first appear.

        Args:
          results: rows of ``results.csv``, with those of the last epoch.

        Returns:
          A line per optimiser.
        """
        rng = np.random.default_rng(_BOOTSTRAP_SEED)
        lines = []
        for name in dict.fromkeys(row["optimizer"] for row in results):
            rows = [row for row in results if row["optimizer"] == name]
            found: dict[str, Summary | None] = {}
            for entry in (*self.training, *_SCORES):
                values = [row[entry] for row in rows if row[entry] is not None]
                found[entry] = summarise(values, rng) if values else None
            reported = self.reported.get(name, ("–",) * len(self.paper))
            lines.append(Line(name, rows, found, reported))
        return lines

    def write(self, folder: RunFolder) -> None:
        """Writes the figures, ``table.md`` and ``report.html``.

        Args:
          folder: whose files they are made from.
        """
        results = _results(folder)
        lines = self.make_lines(results)
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
        write_atomically(folder.path / "table.md", _page.markdown(self.header, table))
        notice = _notice(folder)
        config = folder.config
        explained = _page.make_table(self.header, table)
        explained += _page.paragraph(self.how_to_read)
        page = _page.make_page(
            title=f"{folder.command}: {config['model']} on {config['dataset']}",
            finding=[notice] if notice else [],
            sections=[("Perplexity", explained), *pictures],
            description=json.loads((folder.path / "config.json").read_text()),
            note=inspect.getdoc(self.note) or "",
        )
        write_atomically(folder.path / "report.html", page)

    def show(self, folder: RunFolder, console: Console) -> None:
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
        table.add_column(self.paper[-1], justify="right", no_wrap=True)
        for line in self.make_lines(_results(folder)):
            numbers = [_short(line.perplexities[entry]) for entry in _SCORES]
            table.add_row(line.optimizer, *numbers, line.reported[-1])
        console.print(table)
        notice = _notice(folder)
        if notice:
            console.print(notice, soft_wrap=True, markup=False, highlight=False)
        path = folder.path / "report.html"
        console.print(f"report: {path}", soft_wrap=True, markup=False, highlight=False)

    def write_and_show(self, folder: RunFolder, console: Console) -> None:
        """Both of them."""
        self.write(folder)
        self.show(folder, console)


def _results(folder: RunFolder) -> list[Row]:
    """The finished runs; what ``results.csv`` has not is that of the last epoch."""
    last = {(row["optimizer"], row["seed"]): row for row in folder.rows()}
    return [
        last.get((row["optimizer"], row["seed"]), {}) | row for row in folder.results()
    ]


def _notice(folder: RunFolder) -> str | None:
    """What is missing, or None."""
    config = folder.config
    planned = len(config.get("optimizers", [0])) * len(config.get("seeds", [0]))
    done = len(folder.results())
    if done >= planned:
        return None
    return f"Partial: {done} of {planned} runs are finished. Go on by --resume."


def _short(summary: Summary | None) -> str:
    """Mean and deviation with one decimal; a dash for None."""
    if summary is None:
        return "–"
    if summary.count == 1:
        return f"{summary.mean:.1f}"
    return f"{summary.mean:.1f} ± {summary.std:.1f}"
