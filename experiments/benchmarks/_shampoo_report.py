"""The Shampoo benchmark's rows, table, bars and CSV file."""

import dataclasses

from rich.console import Console
from rich.table import Table

from experiments.benchmarks._measure import Spread
from experiments.benchmarks._rows import with_quartiles

BARS = {"between roots": 8.0, "roots every 10": 14.0, "roots every 100": 9.0}
"""Most AdamW updates that a step with blocks of 128 may take, by kind of step."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What one kind of step costs.

    Attributes:
      entry: the optimiser and its options.
      work: the kind of step, or a mean over steps of two kinds.
      milliseconds: per step.
      ratio: to optax.adamw in the same round; of a PyTorch peer, to PyTorch's AdamW.
      compile_seconds: of tracing and compiling; None of a peer, as what follows.
      state_bytes: size of the state.
      temporary_bytes: scratch memory of a step, if the backend tells.
      bar: largest ratio allowed, if there is such a bar.
    """

    entry: str
    work: str
    milliseconds: Spread
    ratio: Spread
    compile_seconds: Spread | None = None
    state_bytes: int | None = None
    temporary_bytes: int | None = None
    bar: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the median is within the bar; None without one."""
        return None if self.bar is None else self.ratio.median <= self.bar


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.1f}"


def print_rows(console: Console, title: str, rows: list[Row]) -> None:
    """Prints all rows; medians with their quartiles."""
    table = Table(title=title, caption="medians, quartiles in brackets")
    table.add_column("")
    table.add_column("steps")
    for column in ("ms", "x adamw", "compile s", "state MB", "scratch MB", "bar", ""):
        table.add_column(column, justify="right", no_wrap=True)
    verdict = {None: "", True: "[green]pass[/]", False: "[red]miss[/]"}
    for row in rows:
        compiling = row.compile_seconds
        table.add_row(
            row.entry,
            row.work,
            f"{row.milliseconds.median:.3g}",
            with_quartiles(row.ratio),
            "" if compiling is None else f"{compiling.median:.1f}",
            _megabytes(row.state_bytes),
            _megabytes(row.temporary_bytes),
            "" if row.bar is None else f"{row.bar:.1f}",
            verdict[row.passed],
        )
    console.print(table)
