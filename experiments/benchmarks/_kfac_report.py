"""The K-FAC benchmark's rows, tables and bars."""

import dataclasses
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from experiments.benchmarks._measure import Spread
from experiments.benchmarks._rows import with_quartiles

SGD_BAR = 2.5
"""Most SGD steps that one of K-FAC may take, with inverses every 10 steps."""

PEER_BAR = 1.0
"""Most of kfac-jax's own time, for a step and for compiling."""

STEP = "step, inverses every 10"
COMPILING = "compiling"


@dataclasses.dataclass(frozen=True)
class Row:
    """What one kind of work costs on one network.

    Attributes:
      network: its name.
      parameters: their number.
      batch: images in a batch.
      entry: the optimiser, with its damping mode.
      work: a step of some kind, a part of one, or compiling.
      milliseconds: for each.
      ratio: to a step of SGD with momentum in the same process and round; of
        compiling, to SGD's.
      peer_ratio: of this library's time to kfac-jax's, in the same round.
      bar: largest ``ratio`` allowed, if there is such a bar.
      peer_bar: largest ``peer_ratio`` allowed, likewise.
    """

    network: str
    parameters: int
    batch: int
    entry: str
    work: str
    milliseconds: Spread
    ratio: Spread
    peer_ratio: Spread | None = None
    bar: float | None = None
    peer_bar: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the medians are within the bars; None without one."""
        held = [
            ratio.median <= bar
            for ratio, bar in (
                (self.ratio, self.bar),
                (self.peer_ratio, self.peer_bar),
            )
            if ratio is not None and bar is not None
        ]
        return all(held) if held else None


@dataclasses.dataclass(frozen=True)
class Training:
    """The loss of this library and of kfac-jax before one step.

    Attributes:
      network: the network.
      batch: images in a batch.
      damping_mode: of both.
      step: the number of steps done.
      loss: on the batch of that step.
      peer_loss: kfac-jax's on the same batch.
    """

    network: str
    batch: int
    damping_mode: str
    step: int
    loss: float
    peer_loss: float


def _verdict(row: Row) -> str:
    if row.passed is None:
        return ""
    return "[green]pass[/]" if row.passed else "[red]miss[/]"


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """Prints the rows of one network; medians with their quartiles."""
    first = rows[0]
    table = Table(
        title=f"{first.network}: {first.parameters:,} parameters, batch {first.batch}",
        caption="medians, quartiles in brackets; x sgd: in the same process",
    )
    table.add_column("")
    table.add_column("")
    for column in ("ms", "x sgd", "bar", "x kfac-jax", "bar", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for before, row in zip([None, *rows], rows, strict=False):
        again = before is not None and before.entry == row.entry
        table.add_row(
            "" if again else row.entry,
            row.work,
            f"{row.milliseconds.median:.3g}",
            with_quartiles(row.ratio),
            "" if row.bar is None else f"{row.bar:.1f}",
            with_quartiles(row.peer_ratio),
            "" if row.peer_bar is None else f"{row.peer_bar:.1f}",
            _verdict(row),
        )
    console.print(table)


def print_training(console: Console, rows: Sequence[Training]) -> None:
    """Prints the losses of one network and mode at some of its steps."""
    first = rows[0]
    table = Table(
        title=f"{first.network}, batch {first.batch}, {first.damping_mode} damping: "
        "loss on the step's batch"
    )
    for column in ("steps done", "optax_ia", "kfac-jax", "difference"):
        table.add_column(column, justify="right")
    every = max(len(rows) // 10, 1)
    for row in [*rows[:-1:every], rows[-1]]:
        table.add_row(
            str(row.step),
            f"{row.loss:.4g}",
            f"{row.peer_loss:.4g}",
            f"{100 * (row.loss / row.peer_loss - 1):+.2f}%",
        )
    console.print(table)
