"""The models benchmark's rows and table."""

import dataclasses
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from experiments.benchmarks._measure import Spread
from experiments.benchmarks._rows import with_quartiles


@dataclasses.dataclass(frozen=True)
class Row:
    """What a training step of one network costs on one side.

    Attributes:
      network: its name.
      parameters: their number.
      batch: examples in a batch.
      entry: "optax_ia", or PyTorch and its memory format.
      threads: of either side.
      milliseconds: of a step, by the clock.
      cpu_milliseconds: of a step, of all processors together.
      examples_per_second: by the clock, at the median.
      compile_seconds: of the first step beyond a later one; None of a peer, as the
        peer's are of this library, which follow.
      ratio: of a peer: this library's time in the peer's, in the same round.
      cpu_ratio: likewise of processor time.
      loss_difference: relative, of the losses at the start without dropout.
      bar: largest ``ratio`` allowed, if there is such a bar.
    """

    network: str
    parameters: int
    batch: int
    entry: str
    threads: int
    milliseconds: Spread
    cpu_milliseconds: Spread
    examples_per_second: float
    compile_seconds: float | None = None
    ratio: Spread | None = None
    cpu_ratio: Spread | None = None
    loss_difference: float | None = None
    bar: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the median is within the bar; None without one."""
        if self.bar is None or self.ratio is None:
            return None
        return self.ratio.median <= self.bar


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """Prints the rows of one network and batch; medians with their quartiles."""
    first = rows[0]
    table = Table(
        title=f"{first.network}: {first.parameters:,} parameters, "
        f"batch {first.batch}, {first.threads} threads",
        caption="a training step; x: optax_ia's time in the peer's, same round; "
        "medians, quartiles in brackets",
    )
    table.add_column("")
    columns = ("ms", "cpu ms", "1/s", "compile s", "x", "x cpu", "bar", "")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    verdict = {None: "", True: "[green]pass[/]", False: "[red]miss[/]"}
    for row in rows:
        compiling = row.compile_seconds
        table.add_row(
            row.entry,
            f"{row.milliseconds.median:.3g}",
            f"{row.cpu_milliseconds.median:.3g}",
            f"{row.examples_per_second:.4g}",
            "" if compiling is None else f"{compiling:.1f}",
            with_quartiles(row.ratio),
            with_quartiles(row.cpu_ratio),
            "" if row.bar is None else f"{row.bar:.1f}",
            verdict[row.passed],
        )
    console.print(table)
