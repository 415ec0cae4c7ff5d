"""``python -m experiments.benchmarks epoch``: an epoch of training in those of SGD.

P4, figures 15 and 16: what an epoch costs with RMSGD, which measures its layers once in
each, with SAM and its second gradient, with the line search and the others. Whole
training steps of one network on the same batches, in one process, in turn; ratios are
of epochs that ran within the same round.
"""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from experiments import environment
from experiments.benchmarks._measure import Spread
from experiments.benchmarks._report import device_line
from experiments.cli import parse
from experiments.configs.p4 import digits as p4
from experiments.configs.settings import RunConfig, check_rates
from experiments.console import table_console
from experiments.data import Dataset, epoch_batches
from experiments.errors import ExperimentError
from experiments.loops import image
from experiments.optimizers import check_optimizer, rates_of
from experiments.run_folder import RunFolder, write_csv
from optax_ia import registry

REFERENCE = "sgd"


@dataclasses.dataclass(frozen=True)
class EpochConfig:
    """What to measure."""

    optimizers: tuple[str, ...] = p4.OPTIMIZERS
    """Registry names; SGD is measured beside them."""
    dataset: str = "digits"
    """Data set, by name."""
    model: str = "vgg_small"
    """Network, by name, from optax_ia.models."""
    width: int | None = None
    """Channels of the first stage, of networks that have a choice."""
    batch_size: int = 64
    """Examples per step."""
    repeats: int = 11
    """Timed epochs of each optimiser, interleaved."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Time per epoch of training, as ratios to SGD's."""

    config: tyro.conf.OmitArgPrefixes[EpochConfig]
    out: Path | None = None
    """Folder for the table; by default a new one under runs/benchmarks."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What an epoch costs with one optimiser.

    Attributes:
      optimizer: its name.
      milliseconds: of an epoch's steps, without evaluation.
      ratio: to SGD in the same round.
      first_seconds: the first step, compilation included.
    """

    optimizer: str
    milliseconds: Spread
    ratio: Spread
    first_seconds: float


class Trainer:
    """A network in training with one optimiser, an epoch at a time.

    Args:
      name: the optimiser.
      config: what to measure.
      data: the data.
    """

    def __init__(self, name: str, config: EpochConfig, data: Dataset):
        rate, decay = rates_of(name, p4.RATES)
        check_rates(f"{name}.", rate, decay)
        run = RunConfig(
            dataset=config.dataset,
            model=config.model,
            width=config.width,
            batch_size=config.batch_size,
            optimizer=name,
            learning_rate=rate,
            weight_decay=decay,
            **p4.TASK,
        )
        self._key = jax.random.key(0)
        self._state = image.init_state(run, data, self._key)
        self._needs = registry.get_record(name).needs
        self._data = data
        self._full = None
        if "full_gradient" in self._needs:
            self._full = image.full_batches(run)

    def epoch(self, batches: list[Any]) -> float:
        """Trains on the batches; the seconds it took."""
        totals = image.zero_totals()
        began = time.perf_counter()
        for images, labels in batches:
            self._state, totals = image.train_step(
                self._state,
                totals,
                self._key,
                images,
                labels,
                augment=self._data.augment,
                needs=self._needs,
                full_batches=self._full,
            )
        jax.block_until_ready((self._state, totals))
        return time.perf_counter() - began


def measure(config: EpochConfig, data: Dataset) -> Iterator[tuple[str, list[Row]]]:
    """Times everything, round by round.

    Args:
      config: what, and how often.
      data: the data.

    Yields:
      After each step of the work its name, and the rows: none before the first round.
    """
    names = tuple(dict.fromkeys((REFERENCE, *config.optimizers)))
    batches = list(epoch_batches(data.train, config.batch_size, seed=0, epoch=0))
    trainers, first = {}, {}
    for name in names:
        trainers[name] = Trainer(name, config, data)
        first[name] = trainers[name].epoch(batches[:1])
        trainers[name].epoch(batches)
        yield f"compiling {name}", []
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(config.repeats):
        for name in names:
            seconds[name].append(trainers[name].epoch(batches))
        reference = np.asarray(seconds[REFERENCE])
        yield (
            f"round {number + 1}",
            [
                Row(
                    name,
                    Spread.of(1e3 * np.asarray(seconds[name])),
                    Spread.of(np.asarray(seconds[name]) / reference),
                    first[name],
                )
                for name in names
            ],
        )


def _write(folder: Path, config: EpochConfig, rows: list[Row], steps: int) -> None:
    table = [
        {
            "optimizer": row.optimizer,
            "dataset": config.dataset,
            "model": config.model,
            "steps_per_epoch": steps,
            "milliseconds": row.milliseconds.median,
            "milliseconds_q1": row.milliseconds.low,
            "milliseconds_q3": row.milliseconds.high,
            "ratio": row.ratio.median,
            "ratio_q1": row.ratio.low,
            "ratio_q3": row.ratio.high,
            "first_seconds": row.first_seconds,
            "device": jax.devices()[0].device_kind,
            "commit": environment.commit(),
        }
        for row in rows
    ]
    write_csv(folder / "epoch.csv", tuple(table[0]), table)


def main(arguments: list[str]) -> int:
    """Runs the command; see :class:`Arguments`."""
    parsed = parse(Arguments, arguments, command="benchmarks epoch")
    config = parsed.config
    for name in config.optimizers:
        check_optimizer(name)
    if config.repeats < 1:
        raise ExperimentError(f"--repeats must be >= 1, got {config.repeats}")
    task = RunConfig(
        dataset=config.dataset,
        model=config.model,
        batch_size=config.batch_size,
        width=config.width,
    )
    data = image.load_arrays(task)
    folder = RunFolder.prepare(parsed.out, "benchmarks", config, resume=False)
    console = table_console()
    console.print(device_line())
    steps = len(data.train) // config.batch_size
    rows: list[Row] = []
    columns = (TextColumn("{task.description:24}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as progress:
        total = len({REFERENCE, *config.optimizers}) + config.repeats
        task_id = progress.add_task("compiling", total=total)
        for done, found in measure(config, data):
            progress.update(task_id, advance=1, description=done)
            if found:
                rows = found
                _write(folder.path, config, rows, steps)
    table = Table(
        title=f"{config.model} on {config.dataset}: an epoch of {steps} steps",
        caption="medians, quartiles in brackets",
    )
    table.add_column("optimiser")
    for column in ("ms", "x sgd", "first step s"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        ratio = row.ratio
        table.add_row(
            row.optimizer,
            f"{row.milliseconds.median:.3g}",
            f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]",
            f"{row.first_seconds:.1f}",
        )
    console.print(table)
    print(f"epoch.csv: in {folder.path}")
    return 0
