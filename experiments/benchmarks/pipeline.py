"""``python -m experiments.benchmarks pipeline``: batches beside the steps they feed.

Images of CIFAR-10's shape and size on disk, PNGs in a directory that TFDS's builder
writes, are read, decoded, cropped, flipped and normalised; a network trains on one
batch that is there already; and it trains on the batches as they come. The three take
turns, and ratios are of the same round. So the first ratio says whether data or the
device would wait for the other if each had the machine to itself, and the last what of
the steps' rate is left where they share it.

Batches come as in the first epoch of a run, when every image is decoded, and, for
comparison, as in later ones, when a data set this small was decoded already.
"""

import contextlib
import dataclasses
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from experiments.benchmarks._measure import Spread
from experiments.benchmarks._models_networks import SETTINGS, Network, Task
from experiments.benchmarks._pipeline_data import stored_cifar
from experiments.benchmarks._report import device_line
from experiments.benchmarks._rows import with_quartiles, write_rows
from experiments.cli import parse
from experiments.console import table_console
from experiments.data import Batches, Records, train_batches
from experiments.errors import ExperimentError
from experiments.run_folder import RunFolder

BAR = 3.0
"""Least rate of the batches alone, in those of the steps alone."""

WORK = ("steps", "batches", "kept batches", "steps on batches")

_SEED = 0
_READY = 16
"""More batches than are ready ahead of their use."""


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """What to measure."""

    network: Network = "resnet20"
    """What is trained; of those of the models benchmark, one on 32x32 images."""
    batch: int = 128
    """Examples in a batch."""
    examples: int = 2048
    """Images written and read."""
    workers: int = 0
    """Processes that read; 0 reads in threads of this one."""
    repeats: int = 9
    """Rounds."""
    block_seconds: float = 2.0
    """Least duration of a timed block."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Examples per second of the input pipeline, and of the steps that it feeds."""

    config: tyro.conf.OmitArgPrefixes[PipelineConfig]
    out: Path | None = None
    """Folder for the table; by default a new one under runs/benchmarks."""


@dataclasses.dataclass(frozen=True)
class Row:
    """The rate of one kind of work.

    Attributes:
      work: ``steps``, ``batches``, ``kept batches`` or ``steps on batches``.
      network: what is trained.
      batch: examples in a batch.
      workers: processes that read.
      examples_per_second: by the clock.
      cpu_microseconds: of an example, of all threads of this process; without workers'.
      ratio: of the rate, to that of the steps in the same round.
      cpu_ratio: of the processor time of an example, to that in a step.
      bar: least ``ratio`` allowed, if there is such a bar.
    """

    work: str
    network: str
    batch: int
    workers: int
    examples_per_second: Spread
    cpu_microseconds: Spread
    ratio: Spread
    cpu_ratio: Spread
    bar: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the median reaches the bar; None without one."""
        return None if self.bar is None else self.ratio.median >= self.bar


class Fed(Task):
    """A network whose steps can be on batches that come from elsewhere."""

    def step_on(self, batch: Any) -> None:
        """One step."""
        self._state, _ = self._step(self._state, batch, self._key)

    def wait(self) -> None:
        """Until all steps are done."""
        jax.block_until_ready(self._state.params)


class _Bench:
    """The work, each kind a function of a number of batches."""

    def __init__(self, config: PipelineConfig, decoded: Records, kept: Records):
        self.task = Fed(config.network, config.batch)
        self._config = config
        self._sources = {
            "batches": self._all(decoded),
            "kept batches": self._all(kept),
            "steps on batches": self._all(decoded, jax.device_put),
        }

    def _all(self, data: Records, put: Callable[[Any], Any] | None = None) -> Batches:
        """More batches than any block takes."""
        return train_batches(
            data,
            self._config.batch,
            seed=_SEED,
            epochs=10**6,
            worker_count=self._config.workers,
            put=put,
        )

    def run(self, work: str, count: int) -> None:
        """Does one kind of work on a number of batches."""
        if work == "steps":
            self.task.block(count)
            return
        for batch in itertools.islice(self._sources[work], count):
            if work == "steps on batches":
                self.task.step_on(batch)
        self.task.wait()

    def timed(self, work: str, count: int) -> tuple[float, float]:
        """Seconds for a number of batches, by the clock and of all processors.

        Batches alone begin with none that were read ahead, as they end; steps on them
        begin with all that can be. What is read ahead afterwards is waited for, lest it
        be read while something else is timed.
        """
        if "steps" not in work:
            self.run(work, _READY)
        cpu, wall = time.process_time(), time.perf_counter()
        self.run(work, count)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        _settle()
        return wall, cpu

    def counts(self) -> dict[str, int]:
        """How many batches a block of each kind of work takes."""
        self.task.compile()
        passes = math.ceil(self._config.examples / self._config.batch)
        found = {}
        for work in WORK:
            # every image is decoded once, and in every worker
            warm = (
                passes * max(self._config.workers, 1) if work == "kept batches" else 2
            )
            self.run(work, warm)
            once = self.timed(work, 2)[0] / 2
            found[work] = max(math.ceil(self._config.block_seconds / once), 2)
        return found

    def close(self) -> None:
        """Ends threads and workers."""
        for iterator in self._sources.values():
            iterator.close()


def _settle() -> None:
    """Waits until this process does nothing."""
    for _ in range(100):
        before = time.process_time()
        time.sleep(0.05)
        if time.process_time() - before < 0.005:
            return


def measure(config: PipelineConfig, data_dir: Path) -> Iterator[tuple[str, list[Row]]]:
    """Times everything, round by round.

    Args:
      config: what, and how often.
      data_dir: where to write the images.

    Yields:
      After each step of the work its name, and the rows: none before the first round.
    """
    decoded, kept = stored_cifar(data_dir, config.examples)
    yield "writing images", []
    with contextlib.closing(_Bench(config, decoded, kept)) as bench:
        counts = bench.counts()
        yield "compiling", []
        seconds: dict[str, list[tuple[float, float]]] = {work: [] for work in WORK}
        for number in range(config.repeats):
            for work, count in counts.items():
                wall, cpu = bench.timed(work, count)
                examples = count * config.batch
                seconds[work].append((wall / examples, cpu / examples))
            yield f"round {number + 1}", _rows(config, seconds)


def _rows(
    config: PipelineConfig, seconds: dict[str, list[tuple[float, float]]]
) -> list[Row]:
    """A row per kind of work from the seconds an example took, a pair per round."""
    times = {work: np.asarray(pairs).T for work, pairs in seconds.items()}
    wall_of_steps, cpu_of_steps = times["steps"]
    return [
        Row(
            work=work,
            network=config.network,
            batch=config.batch,
            workers=config.workers,
            examples_per_second=Spread.of(1 / wall),
            cpu_microseconds=Spread.of(1e6 * cpu),
            ratio=Spread.of(wall_of_steps / wall),
            cpu_ratio=Spread.of(cpu / cpu_of_steps),
            bar=BAR if work == "batches" else None,
        )
        for work, (wall, cpu) in times.items()
    ]


def _print(console: Console, rows: list[Row]) -> None:
    first = rows[0]
    table = Table(
        title=f"{first.network}, batch {first.batch}, {first.workers} workers",
        caption="x: rate in that of the steps, same round; x cpu: processor time of an "
        "example in that of a step's; medians, quartiles in brackets",
    )
    table.add_column("")
    for column in ("examples/s", "cpu us", "x", "x cpu", "bar", ""):
        table.add_column(column, justify="right", no_wrap=True)
    verdict = {None: "", True: "[green]pass[/]", False: "[red]miss[/]"}
    for row in rows:
        table.add_row(
            row.work,
            f"{row.examples_per_second.median:.4g}",
            f"{row.cpu_microseconds.median:.4g}",
            with_quartiles(row.ratio),
            with_quartiles(row.cpu_ratio),
            "" if row.bar is None else f"{row.bar:.1f}",
            verdict[row.passed],
        )
    console.print(table)


def _check(config: PipelineConfig) -> None:
    for name, least in (("batch", 1), ("repeats", 1), ("workers", 0)):
        value = getattr(config, name)
        if value < least:
            raise ExperimentError(f"--{name} must be >= {least}, got {value}")
    if config.examples < config.batch:
        raise ExperimentError(
            f"--examples must be >= {config.batch}, the batch, got {config.examples}"
        )
    if not config.block_seconds > 0:
        raise ExperimentError(
            f"--block-seconds must be > 0, got {config.block_seconds}"
        )
    if SETTINGS[config.network].shape != (32, 32, 3):
        raise ExperimentError(
            f"--network must be one on images of 32x32, got {config.network}"
        )


def main(arguments: list[str]) -> int:
    """Runs the command; see :class:`Arguments`."""
    parsed = parse(Arguments, arguments, command="benchmarks pipeline")
    config = parsed.config
    _check(config)
    folder = RunFolder.prepare(parsed.out, "benchmarks", config, resume=False)
    console = table_console()
    console.print(device_line())
    rows: list[Row] = []
    columns = (TextColumn("{task.description:24}"), BarColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as scratch,
        Progress(*columns, transient=True) as progress,
    ):
        task = progress.add_task("writing images", total=config.repeats + 2)
        for done, found in measure(config, Path(scratch)):
            progress.update(task, advance=1, description=done)
            if found:
                rows = found
                write_rows(folder.path / "pipeline.csv", rows)
    _print(console, rows)
    print(f"pipeline.csv: in {folder.path}")
    return 0
