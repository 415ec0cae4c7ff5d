"""The benchmark's rows, tables, bars and CSV files."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import environment
from experiments.benchmarks._entries import REFERENCE
from experiments.benchmarks._measure import Program, Run, Spread
from experiments.benchmarks._rows import with_quartiles, write_rows
from experiments.benchmarks._trees import BARRED, count

COMPILE_BAR = 1.3
"""Largest allowed ratio of compile times to the base's."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What one kind of step of one optimiser costs on one tree.

    Attributes:
      tree: the tree.
      leaves: its leaves.
      parameters: its parameters.
      entry: the optimiser.
      phase: the kind of step; empty if all cost the same.
      base: the optimiser that its overhead is measured against.
      milliseconds: per update, with params and state donated.
      ratio: to optax.adamw in the same round.
      base_ratio: to ``base`` in the same round.
      least_base_ratio: ``base_ratio`` if only the bytes counted that must be moved.
      gigabytes_per_second: bandwidth for what such a step must move at least.
      state_bytes: size of the state.
      state_ratio: to that of optax.adamw.
      temporary_bytes: scratch memory of a step, if the backend tells.
      fresh_bytes: outputs that are not written in place, if the backend tells.
      compile_seconds: of tracing and compiling.
      compile_ratio: to optax.adamw in the same round.
      compile_base_ratio: to ``base`` in the same round.
      time_bar: largest ``base_ratio`` allowed, if there is one.
      num_averaged: iterates collected in the run; None without an average.
      sync_count: Lookahead's synchronisations in the run; None without it.
    """

    tree: str
    leaves: int
    parameters: int
    entry: str
    phase: str
    base: str
    milliseconds: Spread
    ratio: Spread
    base_ratio: Spread
    least_base_ratio: float
    gigabytes_per_second: float
    state_bytes: int
    state_ratio: float
    temporary_bytes: int | None
    fresh_bytes: int | None
    compile_seconds: Spread
    compile_ratio: Spread
    compile_base_ratio: Spread
    time_bar: float | None
    num_averaged: int | None
    sync_count: int | None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A bar, and what was measured.

    Attributes:
      tree: the tree.
      entry: the optimiser.
      phase: the kind of step; empty for compile time or if all cost the same.
      quantity: ``time`` or ``compile time``.
      base: what it is a ratio to.
      measured: the median ratio.
      low: its lower quartile.
      high: its upper quartile.
      bar: the largest allowed.
      least: what the bytes to be moved allow; None for compile time.
      passed: whether the median is within it.
    """

    tree: str
    entry: str
    phase: str
    quantity: str
    base: str
    measured: float
    low: float
    high: float
    bar: float
    least: float | None
    passed: bool


def device_line() -> str:
    """The device and the versions, for the head of the output."""
    versions = environment.versions()
    packages = ", ".join(f"{name} {versions[name]}" for name in ("jax", "optax"))
    device = jax.devices()[0]
    return f"{device.platform}: {device.device_kind} x {jax.device_count()}; {packages}"


def rows_of(
    tree: str,
    runs: Sequence[Run],
    moved_bytes: Sequence[int],
    seconds: Sequence[Sequence[float]],
    programs: Mapping[str, Program],
) -> list[Row]:
    """The rows of one entry.

    Args:
      tree: its tree.
      runs: those of the reference, of the base, and of each of the entry's phases.
      moved_bytes: of each run.
      seconds: per step, for each round and run.
      programs: those of the tree.

    Returns:
      A row per phase.
    """
    times = np.asarray(seconds).T
    leaves, parameters = count(tree)
    rows = []
    for run, moved, own in zip(runs[2:], moved_bytes[2:], times[2:], strict=True):
        program, base = run.program, programs[run.entry.base]
        reference = programs[REFERENCE]
        compiled = np.asarray(program.compile_seconds)
        counts = run.counts()
        rows.append(
            Row(
                tree=tree,
                leaves=leaves,
                parameters=parameters,
                entry=run.entry.name,
                phase=run.phase.name,
                base=run.entry.base,
                milliseconds=Spread.of(1e3 * own),
                ratio=Spread.of(own / times[0]),
                base_ratio=Spread.of(own / times[1]),
                least_base_ratio=moved / moved_bytes[1],
                gigabytes_per_second=moved / np.median(own).item() / 1e9,
                state_bytes=program.state_bytes,
                state_ratio=program.state_bytes / reference.state_bytes,
                temporary_bytes=program.temporary_bytes,
                fresh_bytes=program.fresh_bytes,
                compile_seconds=Spread.of(compiled),
                compile_ratio=Spread.of(compiled / reference.compile_seconds),
                compile_base_ratio=Spread.of(compiled / base.compile_seconds),
                time_bar=run.entry.time_bars.get(run.phase.name),
                num_averaged=counts.get("num_averaged"),
                sync_count=counts.get("sync_count"),
            )
        )
    return rows


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """The bars that stand for these rows: those on the trees they are stated for."""

    def judge(row: Row, ratio: Spread, bar: float, least: float | None) -> Verdict:
        compiling = least is None
        return Verdict(
            tree=row.tree,
            entry=row.entry,
            phase="" if compiling else row.phase,
            quantity="compile time" if compiling else "time",
            base=row.base,
            measured=ratio.median,
            low=ratio.low,
            high=ratio.high,
            bar=bar,
            least=least,
            passed=ratio.median <= bar,
        )

    found, compiled = [], set()
    for row in rows:
        if row.tree not in BARRED:
            continue
        if row.time_bar is not None:
            least = row.least_base_ratio
            found.append(judge(row, row.base_ratio, row.time_bar, least))
        own = not row.entry.startswith("optax.")
        if own and (row.tree, row.entry) not in compiled:
            compiled.add((row.tree, row.entry))
            found.append(judge(row, row.compile_base_ratio, COMPILE_BAR, None))
    return found


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Writes ``step.csv``, and ``bars.csv`` if there are bars for these rows.

    Args:
      folder: where to.
      rows: at least one.
    """
    write_rows(folder / "step.csv", rows)
    found = verdicts(rows)
    if found:
        write_rows(folder / "bars.csv", found)


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f}"


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """Prints the rows of one tree; medians with their quartiles."""
    first = rows[0]
    table = Table(
        title=f"{first.tree}: {first.leaves} leaves, {first.parameters:,} parameters",
        caption=f"medians, quartiles in brackets; x: ratio to {REFERENCE}, of blocks "
        "timed next to each other; MB of scratch memory",
    )
    for column in ("optimiser", "steps"):
        table.add_column(column)
    for column in ("ms", "x", "x base"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("base")
    for column in ("GB/s", "state x", "scratch", "compile s", "x", "x base"):
        table.add_column(column, justify="right")
    for row in rows:
        again = row is not first and row.entry == rows[rows.index(row) - 1].entry
        wraps = row.base != REFERENCE
        table.add_row(
            "" if again else row.entry,
            row.phase,
            f"{row.milliseconds.median:.3g}",
            with_quartiles(row.ratio),
            with_quartiles(row.base_ratio) if wraps else "",
            row.base if wraps and not again else "",
            f"{row.gigabytes_per_second:.1f}",
            "" if again else f"{row.state_ratio:.2f}",
            "" if again else _megabytes(row.temporary_bytes),
            "" if again else f"{row.compile_seconds.median:.2f}",
            "" if again else f"{row.compile_ratio.median:.2f}",
            f"{row.compile_base_ratio.median:.2f}" if wraps and not again else "",
        )
    console.print(table)


def print_verdicts(console: Console, rows: Sequence[Row]) -> None:
    """Prints each bar beside what was measured; nothing if none stands."""
    found = verdicts(rows)
    if not found:
        return
    table = Table(
        title="Bars",
        caption="least: the ratio of the bytes that must be read or written",
    )
    for column in ("tree", "optimiser", "steps", "of", "to"):
        table.add_column(column)
    for column in ("measured", "least", "bar", ""):
        table.add_column(column, justify="right")
    for verdict in found:
        over = f"+{100 * (verdict.measured / verdict.bar - 1):.0f}%"
        table.add_row(
            verdict.tree,
            verdict.entry,
            verdict.phase,
            verdict.quantity,
            verdict.base,
            with_quartiles(Spread(verdict.measured, verdict.low, verdict.high)),
            "" if verdict.least is None else f"{verdict.least:.2f}",
            f"{verdict.bar:.2f}",
            "[green]pass[/]" if verdict.passed else f"[red]miss {over}[/]",
        )
    console.print(table)
