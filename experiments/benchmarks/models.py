"""``python -m experiments.benchmarks models``: training steps beside PyTorch's.

Gradient and update by SGD with momentum on one batch of random data; with ``--peer``
the same network from the same parameters in PyTorch, in turn, in an interpreter of its
own, images in either of its memory formats. Ratios are of blocks of the same round;
the spread is over rounds. Where other work shares the processors, ratios of processor
time say more than those of the clock, and PyTorch's threads, which wait by spinning,
are told not to by ``OMP_WAIT_POLICY=passive``.

What convolutions cost on the CPU, and what was tried (jaxlib 0.10.2 in huge pages,
PyTorch 2.13 with oneDNN, 2 cores with AVX-512 and other work; processor time,
ResNet-20's shapes, batch 128):

- A 3x3 convolution takes 6.7, 3.2 and 3.5 ms forward at 16, 32 and 64 channels, its
  input gradient 6.9, 3.3 and 3.2 ms, its weight gradient 8.7, 9.0 and 6.6 ms; PyTorch
  (channels last) 4.2, 3.5, 2.6; 4.4, 3.7, 2.7; and 3.4, 3.9, 4.1 ms on one thread.
- The weight gradient is a convolution with a window as large as the image, for which
  XLA turns input and output gradient to batch-last. Products do not beat it: of patches
  (9 shifted copies) 46, 21 and 15 ms; of single shifts 44, 17 and 9; of columns'
  shifts of the input with rows' shifts of the gradient, all 9 blocks of the kernel in
  one product without waste, 19, 10 and 8, and 8.6, 6.9 and 6.6 in a loop over 8 images.
  As rule of the derivative (``jax.custom_jvp``) the last gave 1.03 times the step's
  speed. The product alone takes 5.8 ms at 16 channels. Forward, patches take 32, 15 and
  10 ms; NCHW 9.8, 5.0 and 4.4.
- Flags (YNN's fusions off, fusion emitters off, oneDNN, XNN, fast math, vectors of 512
  bits, Eigen's threads off, another scheduler) gave 0.87 to 1.05 times the speed.
- Fresh memory is a fifth of the step: each takes its 303 MB from the system
  anew, 74,000 page faults. Where glibc keeps it (:mod:`experiments.memory`, which every
  command sets, for the peer too) there are none, and a step takes 540 ms instead of
  670. Huge pages (``GLIBC_TUNABLES=glibc.malloc.hugetlb=1``) did as much at times only.
- Max-pooling by comparisons (:func:`optax_ia.models._layers.max_pool`) took vgg_small
  from 147 to 105 ms.

Ratios of processor time then, to contiguous and channels-last PyTorch: ResNet-20 1.9
and 2.3 at batch 128, 1.3 and 1.3 at batch 32; vgg_small 1.3 and 1.6; with memory kept
on both sides 1.7 and 1.9, 1.0 and 1.0, 1.0 and 1.3. Another machine, of AMD's, gave 2.9
and 3.5, 1.5 and 1.6, 2.6 and 3.3 without: there PyTorch's convolutions are that much
better than XLA's.
"""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.benchmarks._measure import Spread
from experiments.benchmarks._models_networks import (
    LEARNING_RATE,
    MOMENTUM,
    SETTINGS,
    Network,
    Task,
)
from experiments.benchmarks._models_report import Row, print_rows
from experiments.benchmarks._peer import Peer
from experiments.benchmarks._report import device_line
from experiments.benchmarks._rows import write_rows
from experiments.cli import parse
from experiments.console import table_console
from experiments.errors import ExperimentError
from experiments.run_folder import RunFolder

LOSS_TOLERANCE = 1e-3
"""Largest relative difference of the two sides' losses before the first step."""


@dataclasses.dataclass(frozen=True)
class ModelsConfig:
    """What to measure."""

    networks: tuple[Network, ...] = (
        *("resnet20", "vgg_small", "awd_lstm_2"),
        *("roberta_tiny", "roberta_4x256"),
    )
    """Their names; vgg_tiny and awd_lstm_tiny: for trying it out."""
    batch: int | None = None
    """Examples in a batch; by default each network's own, two of them for resnet20."""
    repeats: int = 9
    """Rounds: a block of our steps, then one of the peer's for each memory format."""
    block_seconds: float = 1.0
    """Least duration of a timed block."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Training steps of the zoo's networks, beside the same in PyTorch."""

    config: tyro.conf.OmitArgPrefixes[ModelsConfig]
    peer: str | None = None
    """An interpreter with torch, to compare with; both compute on the CPU."""
    out: Path | None = None
    """Folder for the table; by default a new one under runs/benchmarks."""


def _check(config: ModelsConfig, peer: str | None) -> None:
    if config.batch is not None and config.batch < 1:
        raise ExperimentError(f"batch must be >= 1, got {config.batch}")
    if config.repeats < 1:
        raise ExperimentError(f"repeats must be >= 1, got {config.repeats}")
    if not config.block_seconds > 0:
        raise ExperimentError(f"block-seconds must be > 0, got {config.block_seconds}")
    if not config.networks:
        raise ExperimentError("networks is empty; name at least one")
    if peer is not None and jax.default_backend() != "cpu":
        raise ExperimentError(
            f"peer must be compared with on the CPU, got {jax.default_backend()}; "
            "set JAX_PLATFORMS=cpu"
        )


def _threads() -> int:
    """How many processors this process may use, which is XLA's number of threads."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(allowed(0)) if allowed else os.cpu_count() or 1


class _Bench:
    """The measurements of one network with one batch."""

    def __init__(
        self, network: Network, batch: int, config: ModelsConfig, peer: Peer | None
    ):
        self._network, self._batch = network, batch
        self._config, self._peer = config, peer
        self._task = Task(network, batch)
        self._layouts: list[str] = []
        if peer is not None:
            self._layouts = ["contiguous"]
            if self._task.setting.convolutional:
                self._layouts.append("channels_last")

    def _load(self) -> dict[str, float]:
        """Hands the network over; gives the differences of the losses."""
        if self._peer is None:
            return {}
        with tempfile.TemporaryDirectory() as scratch:
            data = Path(scratch) / "task.npz"
            self._task.save(data)
            self._peer.ask(
                "load",
                path=str(data),
                layouts=self._layouts,
                sgd={"lr": LEARNING_RATE, "momentum": MOMENTUM},
                threads=_threads(),
                **self._task.description(),
            )
        own, differences = self._task.loss(), {}
        for layout in self._layouts:
            theirs = self._peer.ask("loss", layout=layout)["loss"]
            differences[layout] = abs(theirs / own - 1)
            if not differences[layout] <= LOSS_TOLERANCE:
                raise ExperimentError(
                    f"{self._network} is another network there: its loss at the start "
                    f"is {theirs} and not {own}"
                )
        return differences

    def _theirs(self, layout: str, steps: int) -> tuple[float, float]:
        assert self._peer is not None
        got = self._peer.ask("block", layout=layout, steps=steps)
        return got["wall"], got["cpu"]

    def _steps(self, once: float) -> int:
        return int(min(max(self._config.block_seconds / once, 1), 1000))

    def rows(self) -> list[Row]:
        """The row of this library, then those of the peer."""
        differences = self._load()
        compiling = self._task.compile()
        own_steps = self._steps(self._task.block(2)[0])
        steps = {}
        for layout in self._layouts:
            self._theirs(layout, 1)
            steps[layout] = self._steps(self._theirs(layout, 2)[0])
        rounds = []
        for _ in range(self._config.repeats):
            taken = [self._task.block(own_steps)]
            taken += [self._theirs(layout, steps[layout]) for layout in self._layouts]
            rounds.append(taken)
        own, *others = np.moveaxis(np.asarray(rounds), 0, -1)
        first = self._row("optax_ia", own)
        found = [dataclasses.replace(first, compile_seconds=compiling)]
        for layout, theirs in zip(self._layouts, others, strict=True):
            name = "PyTorch"
            if layout != "contiguous":
                name += f" {layout}"
            wall_ratio, cpu_ratio = (Spread.of(ratio) for ratio in own / theirs)
            found.append(
                dataclasses.replace(
                    self._row(name, theirs),
                    ratio=wall_ratio,
                    cpu_ratio=cpu_ratio,
                    loss_difference=differences[layout],
                    bar=self._task.setting.bar,
                )
            )
        return found

    def _row(self, entry: str, seconds: np.ndarray) -> Row:
        wall, cpu = (Spread.of(1e3 * each) for each in seconds)
        return Row(
            network=self._network,
            parameters=self._task.parameters,
            batch=self._batch,
            entry=entry,
            threads=_threads(),
            milliseconds=wall,
            cpu_milliseconds=cpu,
            examples_per_second=1e3 * self._batch / wall.median,
        )


def _run(
    config: ModelsConfig, peer: Peer | None, folder: Path, console: Console
) -> Iterator[str]:
    """Measures and writes everything; says after each piece what was done."""
    rows: list[Row] = []
    for network in config.networks:
        batches = SETTINGS[network].batches
        if config.batch is not None:
            batches = (config.batch,)
        for batch in batches:
            new = _Bench(network, batch, config, peer).rows()
            rows += new
            write_rows(folder / "models.csv", rows)
            print_rows(console, new)
            yield f"{network}, batch {batch}"


def main(arguments: list[str]) -> int:
    """Runs the command; see :class:`Arguments`."""
    parsed = parse(Arguments, arguments, command="benchmarks models")
    config = parsed.config
    _check(config, parsed.peer)
    folder = RunFolder.prepare(parsed.out, "benchmarks", config, resume=False)
    console = table_console()
    console.print(device_line())
    columns = (TextColumn("{task.description:40}"), BarColumn(), TimeElapsedColumn())
    with contextlib.ExitStack() as stack:
        peer = None
        if parsed.peer is not None:
            peer = stack.enter_context(Peer(parsed.peer, "_torch_models_peer.py"))
        progress = stack.enter_context(Progress(*columns, transient=True))
        pieces = sum(
            1 if config.batch else len(SETTINGS[network].batches)
            for network in config.networks
        )
        task = progress.add_task("compiling", total=pieces)
        for done in _run(config, peer, folder.path, console):
            progress.update(task, advance=1, description=done)
    print(f"models.csv: in {folder.path}")
    return 0
