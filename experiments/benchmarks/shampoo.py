"""``python -m experiments.benchmarks shampoo``: Shampoo's steps in those of AdamW.

On the shapes of ResNet-18, in one process, in turn; with ``--peer`` PyTorch's, in those
of its own AdamW. The spread is over rounds.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.benchmarks._entries import REFERENCE, Entry, Phase
from experiments.benchmarks._measure import Program, Run, Spread, compile_all
from experiments.benchmarks._peer import Peer
from experiments.benchmarks._report import device_line
from experiments.benchmarks._rows import write_rows
from experiments.benchmarks._shampoo_report import BARS, Row, print_rows
from experiments.cli import parse
from experiments.console import table_console
from experiments.errors import ExperimentError
from experiments.run_folder import RunFolder
from optax_ia.second_order._shampoo import shampoo

_NEVER = 2**31 - 1

Network = Literal["resnet18", "toy"]


@dataclasses.dataclass(frozen=True)
class ShampooConfig:
    """What to measure."""

    network: Network = "resnet18"
    """Whose parameters; toy: for trying it out."""
    block_sizes: Annotated[tuple[int, ...], tyro.conf.arg(metavar="[INT ...]")] = (128,)
    """Longest axes of a block."""
    graftings: tuple[Literal["sgd", "adagrad", "rmsprop"], ...] = ("rmsprop", "sgd")
    """Grafted methods."""
    repeats: int = 9
    """Timed blocks of each kind of step, interleaved."""
    root_repeats: int = 3
    """Timed steps with roots."""
    compile_repeats: int = 2
    """Compilations of each program."""
    block_seconds: float = 0.3
    """Least duration of a timed block of optax.adamw, within 100 steps."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Time per update, memory and compile time, as ratios to optax.adamw."""

    config: tyro.conf.OmitArgPrefixes[ShampooConfig]
    peer: str | None = None
    """An interpreter with torch and pytorch_optimizer, to compare with."""
    out: Path | None = None
    """Folder for the table; by default a new one under runs/benchmarks."""


def shapes(network: Network) -> Iterator[tuple[int, ...]]:
    """The shapes of the parameters: ResNet-18 with 1000 classes, or a few small ones.

    Args:
      network: its name.

    Yields:
      A shape for each leaf.
    """
    if network == "toy":
        yield from [(3, 3, 4, 8), (8,), (8, 10), (10,)]
        return

    def convolution(size: int, before: int, after: int) -> list[tuple[int, ...]]:
        return [(size, size, before, after), (after,), (after,)]

    yield from convolution(7, 3, 64)
    before = 64
    for width in (64, 128, 256, 512):
        for _ in range(2):
            yield from convolution(3, before, width)
            yield from convolution(3, width, width)
            if before != width:
                yield from convolution(1, before, width)
            before = width
    yield from [(before, 1000), (1000,)]


def build(network: Network, key: jax.Array) -> dict[str, jax.Array]:
    """A tree of normal numbers in the shapes of a network, of deviation 0.01."""
    wanted = list(shapes(network))
    keys = jax.random.split(key, len(wanted))
    return {
        f"{number:03d}": 0.01 * jax.random.normal(key, shape, jnp.float32)
        for number, (key, shape) in enumerate(zip(keys, wanted, strict=True))
    }


def _entries(config: ShampooConfig) -> list[Entry]:
    """The reference, and Shampoo with each of the options."""
    phases = (
        Phase("between roots", given={"precondition_every": _NEVER}),
        Phase("with roots", given={"precondition_every": 1}),
    )
    entries = [Entry(REFERENCE, functools.partial(optax.adamw, 1e-3))]
    for size in config.block_sizes:
        for grafting in config.graftings:
            for every in (1, _NEVER):
                make = functools.partial(
                    shampoo,
                    start=1,
                    block_size=size,
                    grafting=grafting,
                    statistics_every=every,
                )
                name = f"block {size}, {grafting}"
                if every != 1:
                    name += ", no statistics"
                entries.append(Entry(name, make, phases=phases))
    return entries


def _check(config: ShampooConfig) -> None:
    for name in ("repeats", "root_repeats", "compile_repeats"):
        if getattr(config, name) < 1:
            flag = name.replace("_", "-")
            raise ExperimentError(f"{flag} must be >= 1, got {getattr(config, name)}")
    if not config.block_seconds > 0:
        raise ExperimentError(f"block-seconds must be > 0, got {config.block_seconds}")
    if not config.block_sizes or min(config.block_sizes) < 1:
        raise ExperimentError(f"block-sizes must be >= 1, got {config.block_sizes}")
    if not config.graftings:
        raise ExperimentError("graftings is empty; name at least one")


def _pairs(
    reference: Run, run: Run, grads: Any, repeats: int, seconds: float
) -> np.ndarray:
    """Seconds per step of a run and of the reference beside it, for each round."""
    run.block(grads, 1)
    once = reference.block(grads, 1)
    steps = int(min(max(seconds / once, 1), 100))
    # blocks of about the same length, of one step at least
    own = int(max(seconds / run.block(grads, 1), 1))
    rounds = []
    for _ in range(repeats):
        reference.block(grads, 1)
        beside = reference.block(grads, steps)
        run.block(grads, 1)
        rounds.append((run.block(grads, own), beside))
    return np.asarray(rounds)


def _kinds(
    between: np.ndarray, roots: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Seconds and ratios of both kinds of steps, and means over a period of them."""
    seconds, ratio = between[:, 0], between[:, 0] / between[:, 1]
    with_roots = roots[:, 0] / roots[:, 1]
    yield "between roots", seconds, ratio
    yield "with roots", roots[:, 0], with_roots
    for every in (10, 100):
        means = [
            (np.median(root) + (every - 1) * each) / every
            for root, each in ((roots[:, 0], seconds), (with_roots, ratio))
        ]
        yield f"roots every {every}", means[0], means[1]


def measure(config: ShampooConfig) -> Iterator[Row]:
    """Times everything.

    Args:
      config: what, and how long.

    Yields:
      The rows of one entry after the other.
    """
    params = build(config.network, jax.random.key(0))
    grads = build(config.network, jax.random.key(1))
    entries = _entries(config)
    programs = compile_all(entries, params, rounds=config.compile_repeats)
    first, *others = entries
    reference = Run(first, first.phases[0], programs[first.name], params)
    time = functools.partial(_pairs, reference, grads=grads)
    own = time(reference, repeats=config.repeats, seconds=config.block_seconds)
    yield _row(first, "", programs, own[:, 0], own[:, 0] / own[:, 1])
    for entry in others:
        program = programs[entry.name]
        runs = [Run(entry, phase, program, params) for phase in entry.phases]
        repeats = (config.repeats, config.root_repeats)
        between, roots = (
            time(run, repeats=number, seconds=config.block_seconds)
            for run, number in zip(runs, repeats, strict=True)
        )
        for work, seconds, ratio in _kinds(between, roots):
            yield _row(entry, work, programs, seconds, ratio)


def measure_peers(peer: Peer, config: ShampooConfig) -> Iterator[Row]:
    """Times PyTorch's optimisers against its own AdamW, on the same shapes.

    Args:
      peer: runs ``_torch_shampoo_peer.py``.
      config: what, and how long.

    Yields:
      The rows of one peer after the other.
    """
    # PyTorch's kernels have their output axis first
    wanted = [list(shape[::-1]) for shape in shapes(config.network)]
    names = peer.ask("load", shapes=wanted)["peers"]

    def seconds(name, steps):
        return float(np.mean(peer.ask("block", name=name, steps=steps)["seconds"]))

    for name in names:
        found = []
        for every in (_NEVER, 1):
            peer.ask("start", name=name, every=every)
            pairs = []
            for _ in range(config.root_repeats):
                peer.ask("block", name="AdamW", steps=1)
                beside = seconds("AdamW", 10)
                pairs.append((seconds(name, 1), beside))
            peer.ask("stop", name=name)
            found.append(np.asarray(pairs))
        for work, own, ratio in _kinds(*found):
            yield Row(f"PyTorch {name}", work, Spread.of(1e3 * own), Spread.of(ratio))


def _row(
    entry: Entry,
    work: str,
    programs: dict[str, Program],
    seconds: np.ndarray,
    ratio: np.ndarray,
) -> Row:
    program = programs[entry.name]
    barred = entry.name in ("block 128, rmsprop",)
    return Row(
        entry=entry.name,
        work=work,
        milliseconds=Spread.of(1e3 * seconds),
        ratio=Spread.of(ratio),
        compile_seconds=Spread.of(program.compile_seconds),
        state_bytes=program.state_bytes,
        temporary_bytes=program.temporary_bytes,
        bar=BARS.get(work) if barred else None,
    )


def main(arguments: list[str]) -> int:
    """Runs the command; see :class:`Arguments`."""
    parsed = parse(Arguments, arguments, command="benchmarks shampoo")
    config = parsed.config
    _check(config)
    folder = RunFolder.prepare(parsed.out, "benchmarks", config, resume=False)
    console = table_console()
    console.print(device_line())
    columns = (TextColumn("{task.description:48}"), BarColumn(), TimeElapsedColumn())
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, transient=True))
        total = 1 + 4 * (len(_entries(config)) - 1)
        task = progress.add_task("compiling", total=total)
        measured = [measure(config)]
        if parsed.peer is not None:
            peer = stack.enter_context(Peer(parsed.peer, "_torch_shampoo_peer.py"))
            measured.append(measure_peers(peer, config))
        for row in itertools.chain(*measured):
            rows.append(row)
            write_rows(folder.path / "shampoo.csv", rows)
            progress.update(task, advance=1, description=f"{row.entry}: {row.work}")
    count = sum(int(np.prod(shape)) for shape in shapes(config.network))
    print_rows(console, f"{config.network}: {count:,} parameters", rows)
    print(f"shampoo.csv: in {folder.path}")
    return 0
