"""``python -m experiments.benchmarks kfac``: K-FAC's steps in those of SGD.

Whole training steps (gradient, factors, update), in one process, in turn; with
``--peer`` kfac-jax does the same, in turn, in an interpreter of its own. The spread is
over rounds.
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.benchmarks import _kfac_runs as runs
from experiments.benchmarks._kfac_networks import Network, Task, build
from experiments.benchmarks._kfac_report import (
    COMPILING,
    PEER_BAR,
    SGD_BAR,
    STEP,
    Row,
    Training,
    print_rows,
    print_training,
)
from experiments.benchmarks._measure import Spread
from experiments.benchmarks._peer import Peer
from experiments.benchmarks._report import device_line
from experiments.benchmarks._rows import write_rows
from experiments.cli import parse
from experiments.console import table_console
from experiments.errors import ExperimentError
from experiments.run_folder import RunFolder

BATCH = {"autoencoder": 4096, "convnet": 256}
"""Images in a batch if none is given; of the toys 8. kfac-jax's example takes all of
MNIST at once for the autoencoder."""


@dataclasses.dataclass(frozen=True)
class KfacConfig:
    """What to measure."""

    networks: tuple[Network, ...] = ("autoencoder", "convnet")
    """Their names; toys: for trying it out."""
    batch: int | None = None
    """Images in a batch; by default 4096 for the autoencoder, 256 for the convnet."""
    damping_modes: tuple[Literal["factored", "product"], ...] = ("factored", "product")
    """How the damping enters; kfac-jax's use_exact_inverses is "product"."""
    inverse_every: int = 10
    """Steps between inverses; factors are updated at each."""
    repeats: int = 5
    """Rounds: a block of SGD and a period of K-FAC, then the same by the peer."""
    train_steps: int = 0
    """Steps of training to compare losses over, with a peer; 0 leaves it out."""
    learning_rate: float = 0.03
    """Of all optimisers."""
    damping: float = 3.0
    """Of K-FAC; the autoencoder's loss is a sum over pixels."""
    momentum: float = 0.9
    """Of all optimisers."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """K-FAC's steps in those of SGD with momentum, and in kfac-jax's."""

    config: tyro.conf.OmitArgPrefixes[KfacConfig]
    peer: str | None = None
    """An interpreter with kfac-jax, to compare with."""
    out: Path | None = None
    """Folder for the table; by default a new one under runs/benchmarks."""


def _check(config: KfacConfig) -> None:
    if config.batch is not None and config.batch < 1:
        raise ExperimentError(f"batch must be >= 1, got {config.batch}")
    if config.inverse_every < 3:
        # one step with inverses, one that may compile, one that is timed
        raise ExperimentError(f"inverse-every must be >= 3, got {config.inverse_every}")
    for name, least in (("repeats", 1), ("train_steps", 0)):
        if getattr(config, name) < least:
            flag, value = name.replace("_", "-"), getattr(config, name)
            raise ExperimentError(f"{flag} must be >= {least}, got {value}")
    for name in ("networks", "damping_modes"):
        if not getattr(config, name):
            flag = name.replace("_", "-")
            raise ExperimentError(f"{flag} is empty; name at least one")


class _Bench:
    """The measurements of one network."""

    def __init__(self, network: Network, config: KfacConfig, peer: Peer | None):
        self._network, self._config, self._peer = network, config, peer
        self._batch_size = config.batch or BATCH.get(network, 8)
        self._task = build(network, self._batch_size, jax.random.key(0))

    @property
    def task(self) -> Task:
        """Network and data."""
        return self._task

    def _options(self, mode: str) -> runs.Options:
        config = self._config
        return {
            "learning_rate": config.learning_rate,
            "momentum": config.momentum,
            "damping": config.damping,
            "decay": 0.95,
            "inverse_every": config.inverse_every,
            "damping_mode": mode,
        }

    def _row(
        self,
        entry: str,
        work: str,
        own: Any,
        sgd: Any,
        peer: Any = None,
    ) -> Row:
        own, sgd = np.atleast_1d(own), np.atleast_1d(sgd)
        against = None if peer is None else Spread.of(own / np.atleast_1d(peer))
        barred = not self._network.startswith("toy") and entry.startswith("kfac ")
        peer_barred = barred and work in (STEP, COMPILING) and peer is not None
        return Row(
            network=self._network,
            parameters=sum(leaf.size for leaf in jax.tree.leaves(self._task.params)),
            batch=self._batch_size,
            entry=entry,
            work=work,
            milliseconds=Spread.of(1e3 * own),
            ratio=Spread.of(own / sgd),
            peer_ratio=against,
            bar=SGD_BAR if barred and work == STEP else None,
            peer_bar=PEER_BAR if peer_barred else None,
        )

    def rows(self) -> Iterator[list[Row]]:
        """The rows of SGD, of each mode and of its parts, as they are known."""
        self._sgd = runs.Trainer(self._task, self._options("product"), sgd=True)
        batch = self._task.batch(0)

        def step():
            return self._sgd.step(batch)

        jax.clear_caches()
        compiling, once = runs.seconds(step), runs.seconds(step)
        self._sgd_compiling = max(compiling - once, 0.0)
        # blocks of about half a second
        self._sgd_steps = int(min(max(0.5 / once, 1), 100))
        self._sgd_step = step
        own = [self._sgd_seconds() for _ in range(self._config.repeats)]
        yield [
            self._row("sgd", "step", own, own),
            self._row("sgd", COMPILING, self._sgd_compiling, self._sgd_compiling),
        ]
        for mode in self._config.damping_modes:
            yield self._steps(mode)
            yield self._parts(mode)

    def _sgd_seconds(self) -> float:
        return runs.seconds(self._sgd_step, self._sgd_steps) / self._sgd_steps

    def _steps(self, mode: str) -> list[Row]:
        options, every = self._options(mode), self._config.inverse_every
        theirs = None
        if self._peer is not None:
            theirs = self._peer.ask("start", **options)
        trainer, batch, stages = runs.start(self._task, options)
        table = []
        for _ in range(self._config.repeats):
            sgd = self._sgd_seconds()
            ours = [sgd, *runs.cycle(trainer, batch, every)]
            if self._peer is not None:
                got = self._peer.ask("round", sgd_steps=self._sgd_steps)
                ours += [got["sgd"], got["with"], got["without"]]
            table.append(ours)
        times = np.asarray(table).T
        found = self._step_rows(f"kfac {mode}", times[:3], stages, self._sgd_compiling)
        if theirs is None:
            return [self._row(*row) for row in found]
        peer = self._step_rows(
            f"kfac-jax {mode}", times[3:], theirs["seconds"], theirs["sgd"]
        )
        return [
            self._row(*own, peer=other[2])
            for own, other in zip(found, peer, strict=True)
        ] + [self._row(*row) for row in peer]

    def _step_rows(self, entry, times, stages, sgd_compiling):
        sgd, inverse, plain = times
        every = self._config.inverse_every
        mean = (inverse + (every - 1) * plain) / every
        steady = np.median(inverse) + np.median(plain)
        compiling = max(sum(stages) - steady, 0.0)
        work = STEP if every == 10 else f"step, inverses every {every}"
        return [
            (entry, work, mean, sgd),
            (entry, "step with inverses", inverse, sgd),
            (entry, "step without", plain, sgd),
            (entry, COMPILING, compiling, sgd_compiling),
        ]

    def _parts(self, mode: str) -> list[Row]:
        found = []
        for name, work in runs.parts(self._task, self._options(mode)):
            work()
            table = []
            for _ in range(self._config.repeats):
                sgd = self._sgd_seconds()
                work()
                table.append((runs.seconds(work), sgd))
            own, sgd = np.asarray(table).T
            found.append(self._row(f"parts, {mode}", name, own, sgd))
        return found

    def training(self, mode: str) -> list[Training]:
        """The losses of both libraries over the same batches."""
        assert self._peer is not None
        options, steps = self._options(mode), self._config.train_steps
        own = runs.losses(self._task, options, steps)
        theirs = self._peer.ask("train", steps=steps, **options)["losses"]
        return [
            Training(self._network, self._batch_size, mode, step, *pair)
            for step, pair in enumerate(zip(own, theirs, strict=True))
        ]


def _run(
    config: KfacConfig, peer: Peer | None, folder: Path, console: Console
) -> Iterator[str]:
    """Measures and writes everything; says after each piece what was done."""
    rows: list[Row] = []
    losses: list[Training] = []
    for network in config.networks:
        bench, own = _Bench(network, config, peer), []
        if peer is not None:
            with tempfile.TemporaryDirectory() as scratch:
                data = Path(scratch) / "task.npz"
                bench.task.save(data)
                peer.ask("load", path=str(data), kind=bench.task.kind)
        for new in bench.rows():
            own += new
            write_rows(folder / "kfac.csv", rows + own)
            yield f"{network}: {new[0].entry}"
        rows += own
        print_rows(console, own)
        if peer is None or not config.train_steps:
            continue
        for mode in config.damping_modes:
            trained = bench.training(mode)
            losses += trained
            write_rows(folder / "kfac_training.csv", losses)
            print_training(console, trained)
            yield f"{network}: training, {mode}"


def main(arguments: list[str]) -> int:
    """Runs the command; see :class:`Arguments`."""
    parsed = parse(Arguments, arguments, command="benchmarks kfac")
    config = parsed.config
    _check(config)
    folder = RunFolder.prepare(parsed.out, "benchmarks", config, resume=False)
    console = table_console()
    console.print(device_line())
    columns = (TextColumn("{task.description:40}"), BarColumn(), TimeElapsedColumn())
    pieces = 1 + 2 * len(config.damping_modes)
    with contextlib.ExitStack() as stack:
        peer = None
        if parsed.peer is not None:
            peer = stack.enter_context(Peer(parsed.peer, "_kfac_jax_peer.py"))
        progress = stack.enter_context(Progress(*columns, transient=True))
        task = progress.add_task("compiling", total=pieces * len(config.networks))
        for done in _run(config, peer, folder.path, console):
            progress.update(task, advance=1, description=done)
    print(f"kfac.csv: in {folder.path}")
    return 0
