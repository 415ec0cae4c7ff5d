"""``python -m experiments.benchmarks step``: what one update costs."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.benchmarks import _report
from experiments.benchmarks._entries import (
    REFERENCE,
    Entry,
    all_entries,
    select,
    skipped,
)
from experiments.benchmarks._measure import Program, Run, compile_all, interleave
from experiments.benchmarks._trees import build
from experiments.cli import parse
from experiments.console import table_console
from experiments.errors import ExperimentError
from experiments.run_folder import RunFolder

Tree = Literal["flat", "resnet50", "resnet110", "toy"]


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What to measure."""

    trees: tuple[Tree, ...] = ("flat", "resnet50", "resnet110")
    """flat: one tensor of 25 million; resnet50, resnet110; toy: for trying it out."""
    entries: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME|PATTERN ...]")] = (
        "*",
    )
    """Optimisers of the registry, optax.adamw and optax.lookahead."""
    repeats: int = 15
    """Timed blocks per optimiser and kind of step."""
    compile_repeats: int = 3
    """Compilations per optimiser."""
    block_seconds: float = 0.1
    """Least duration of a timed block of optax.adamw, within 100 steps."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Time per update, memory and compile time, as ratios to optax.adamw."""

    config: tyro.conf.OmitArgPrefixes[StepConfig]
    out: Path | None = None
    """Folder for the tables; by default a new one under runs/benchmarks."""


def _check(config: StepConfig) -> None:
    for name in ("repeats", "compile_repeats"):
        if getattr(config, name) < 1:
            flag = name.replace("_", "-")
            raise ExperimentError(f"{flag} must be >= 1, got {getattr(config, name)}")
    if not config.block_seconds > 0:
        raise ExperimentError(f"block-seconds must be > 0, got {config.block_seconds}")
    if not config.trees:
        raise ExperimentError("trees is empty; name at least one")


def _with_bases(chosen: Sequence[Entry]) -> list[Entry]:
    """The entries to compile: those chosen, the reference and all bases."""
    wanted = {REFERENCE, *(e.name for e in chosen), *(e.base for e in chosen)}
    return [entry for entry in all_entries().values() if entry.name in wanted]


def measure_tree(
    tree: Tree, config: StepConfig, chosen: Sequence[Entry], progress: Progress
) -> list[_report.Row]:
    """Compiles and times the chosen entries on one tree.

    Args:
      tree: its name.
      config: how long.
      chosen: what is reported.
      progress: shows how far it is.

    Returns:
      A row per entry and phase.
    """
    params = build(tree, jax.random.key(0))
    grads = build(tree, jax.random.key(1))
    entries = {entry.name: entry for entry in _with_bases(chosen)}
    compiling = progress.add_task(
        f"{tree}: compile", total=config.compile_repeats * len(entries)
    )
    programs = compile_all(
        list(entries.values()),
        params,
        rounds=config.compile_repeats,
        done=functools.partial(progress.advance, compiling),
    )
    timing = progress.add_task(f"{tree}: time", total=len(chosen) * config.repeats)
    rows = []
    for entry in chosen:
        runs = _runs(entry, entries, programs, params)
        seconds = []
        for block in interleave(
            runs,
            grads,
            repeats=config.repeats,
            block_seconds=config.block_seconds,
        ):
            seconds.append(block)
            progress.advance(timing)
        moved = [run.moved_bytes(grads) for run in runs]
        rows += _report.rows_of(tree, runs, moved, seconds, programs)
    return rows


def _runs(
    entry: Entry, entries: dict[str, Entry], programs: dict[str, Program], params
) -> list[Run]:
    """The reference, the entry's base and the entry's phases, in that order."""
    peers = [entries[REFERENCE], entries[entry.base]]
    runs = [Run(peer, peer.phases[0], programs[peer.name], params) for peer in peers]
    own = programs[entry.name]
    return runs + [Run(entry, phase, own, params) for phase in entry.phases]


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see :class:`Arguments`."""
    parsed = parse(Arguments, arguments, command="benchmarks step")
    config = parsed.config
    _check(config)
    chosen = select(config.entries)
    folder = RunFolder.prepare(parsed.out, "benchmarks", config, resume=False)
    console = table_console()
    console.print(_report.device_line())
    columns = (
        TextColumn("{task.description:18}"),
        BarColumn(),
        TimeRemainingColumn(compact=True),
    )
    rows: list[_report.Row] = []
    for tree in config.trees:
        with Progress(*columns, transient=True) as progress:
            new = measure_tree(tree, config, chosen, progress)
        rows += new
        _report.print_rows(console, new)
        _report.write(folder.path, rows)  # a later tree may be too large for the device
    _report.print_verdicts(console, rows)
    for name, reason in skipped(config.entries).items():
        console.print(f"skipped {name}: {reason}")
    names = ", ".join(sorted(path.name for path in folder.path.glob("*.csv")))
    print(f"{names}: in {folder.path}")
    return 0
