"""``python -m experiments.benchmarks curvature``: Hessian products, Lanczos steps.

Everything is in units of a gradient of the same network, timed just before and just
after. Spreads are over repetitions.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from experiments.benchmarks._convnet import Network, build, loss_fn
from experiments.benchmarks._measure import Spread
from experiments.benchmarks._report import device_line
from experiments.benchmarks._rows import with_quartiles, write_rows
from experiments.cli import parse
from experiments.console import table_console
from experiments.errors import ExperimentError
from experiments.run_folder import RunFolder
from optax_ia import curvature

BARS = {("Hessian product", None): 2.3, ("Lanczos step", 50): 2.5}
"""Most gradients that one may take, on the two large networks."""


@dataclasses.dataclass(frozen=True)
class CurvatureConfig:
    """What to measure."""

    networks: tuple[Network, ...] = ("100k", "1m")
    """Convolutional networks by their number of parameters; toy: for trying it out."""
    steps: tuple[int, ...] = (50, 100)
    """Lengths of the Lanczos iteration."""
    batch_size: int = 256
    """Images of 16 x 16 x 3 in the one batch."""
    repeats: int = 3
    """Timed blocks of products, and iterations of each length."""
    block_seconds: float = 1.0
    """Least duration of a timed block of gradients, within 100 of them."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Hessian products and Lanczos steps in units of a gradient."""

    config: tyro.conf.OmitArgPrefixes[CurvatureConfig]
    out: Path | None = None
    """Folder for the table; by default a new one under runs/benchmarks."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What one kind of work costs on one network.

    Attributes:
      network: its name.
      parameters: their number.
      work: a gradient, a Hessian product, the arithmetic of a Lanczos step without the
        product, or such a step with it.
      steps: length of the iteration; None for a gradient or a product.
      milliseconds: for each.
      gradients: the same, in gradients timed before and after.
      compile_seconds: of tracing and compiling what it runs, products not included in
        a Lanczos step's.
      bar: most gradients allowed, if there is such a bar.
    """

    network: str
    parameters: int
    work: str
    steps: int | None
    milliseconds: Spread
    gradients: Spread
    compile_seconds: float | None
    bar: float | None

    @property
    def passed(self) -> bool | None:
        """Whether the median is within the bar; None without one."""
        return None if self.bar is None else self.gradients.median <= self.bar


def _check(config: CurvatureConfig) -> None:
    for name in ("repeats", "batch_size"):
        if getattr(config, name) < 1:
            flag = name.replace("_", "-")
            raise ExperimentError(f"{flag} must be >= 1, got {getattr(config, name)}")
    if not config.block_seconds > 0:
        raise ExperimentError(f"block-seconds must be > 0, got {config.block_seconds}")
    if not config.networks:
        raise ExperimentError("networks is empty; name at least one")
    if not config.steps or min(config.steps) < 1:
        raise ExperimentError(f"steps must be >= 1, got {config.steps}")


def _seconds(work: Callable[[], Any], times: int = 1) -> float:
    """Seconds that one call takes, the mean of several."""
    began = time.perf_counter()
    for _ in range(times):
        jax.block_until_ready(work())
    return (time.perf_counter() - began) / times


def _first_and_again(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that the first call takes beyond the second, and those of the second."""
    first, again = _seconds(work), _seconds(work)
    return max(first - again, 0.0), again


def measure(network: Network, config: CurvatureConfig) -> Iterator[Row]:
    """Times everything on one network.

    Args:
      network: its name.
      config: how long.

    Yields:
      A row for each kind of work, as soon as it is known.
    """
    params, batch = build(network, config.batch_size, jax.random.key(0))
    vector = build(network, 1, jax.random.key(1))[0]
    operator = curvature.hessian_operator(loss_fn, params, batch)
    stretch = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size) / 7.0), params)
    stretch = jax.tree.map(
        lambda s, x: s.reshape(x.shape).astype(x.dtype), stretch, params
    )
    diagonal = functools.partial(
        jax.jit(lambda s, v: jax.tree.map(jnp.multiply, s, v)), stretch
    )
    gradient_program = jax.jit(jax.grad(loss_fn))

    def gradient():
        return gradient_program(params, batch)

    def iterate(product, num_steps):
        return curvature.lanczos(product, vector, num_steps).alpha

    jax.clear_caches()
    compiling, once = _first_and_again(gradient)
    calls = min(max(math.ceil(config.block_seconds / once), 1), 100)
    row = functools.partial(_row, network, operator.dimension)
    timed = functools.partial(_beside, gradient, calls, config.repeats)
    yield row("gradient", None, timed(gradient, calls), 1, compiling)
    compiling, _ = _first_and_again(lambda: operator(vector))
    products = timed(lambda: operator(vector), calls)
    yield row("Hessian product", None, products, 1, compiling)
    for steps in config.steps:
        steps = min(steps, operator.dimension)
        work = functools.partial(iterate, diagonal, steps)
        compiling, _ = _first_and_again(work)
        yield row("Lanczos step without it", steps, timed(work), steps, compiling)
        work = functools.partial(iterate, operator, steps)
        yield row("Lanczos step", steps, timed(work), steps, None)


def _beside(
    gradient: Callable[[], Any],
    calls: int,
    repeats: int,
    work: Callable[[], Any],
    times: int = 1,
) -> list[tuple[float, float]]:
    """Seconds of a piece of work and of a gradient around it, for each repetition."""
    pairs = []
    before = _seconds(gradient, calls)
    for _ in range(repeats):
        own = _seconds(work, times)
        after = _seconds(gradient, calls)
        pairs.append((own, (before + after) / 2))
        before = after
    return pairs


def _row(
    network: Network,
    parameters: int,
    work: str,
    steps: int | None,
    pairs: list[tuple[float, float]],
    each: int,
    compile_seconds: float | None,
) -> Row:
    own, gradient = np.asarray(pairs).T
    return Row(
        network=network,
        parameters=parameters,
        work=work,
        steps=steps,
        milliseconds=Spread.of(1e3 * own / each),
        gradients=Spread.of(own / each / gradient),
        compile_seconds=compile_seconds,
        bar=None if network == "toy" else BARS.get((work, steps)),
    )


def print_rows(console: Console, rows: list[Row]) -> None:
    """Prints the rows of one network; medians with their quartiles."""
    table = Table(
        title=f"{rows[0].network}: {rows[0].parameters:,} parameters",
        caption="medians, quartiles in brackets; compile s: without the product's",
    )
    table.add_column("work")
    for column in ("steps", "ms", "gradients", "compile s", "bar", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        verdict = {None: "", True: "[green]pass[/]", False: "[red]miss[/]"}
        table.add_row(
            row.work,
            "" if row.steps is None else str(row.steps),
            f"{row.milliseconds.median:.3g}",
            with_quartiles(row.gradients),
            "" if row.compile_seconds is None else f"{row.compile_seconds:.2f}",
            "" if row.bar is None else f"{row.bar:.1f}",
            verdict[row.passed],
        )
    console.print(table)


def main(arguments: list[str]) -> int:
    """Runs the command; see :class:`Arguments`."""
    parsed = parse(Arguments, arguments, command="benchmarks curvature")
    config = parsed.config
    _check(config)
    folder = RunFolder.prepare(parsed.out, "benchmarks", config, resume=False)
    console = table_console()
    console.print(device_line())
    columns = (TextColumn("{task.description:32}"), BarColumn(), TimeElapsedColumn())
    rows: list[Row] = []
    for network in config.networks:
        own: list[Row] = []
        with Progress(*columns, transient=True) as progress:
            task = progress.add_task(network, total=2 + 2 * len(config.steps))
            for row in measure(network, config):
                own.append(row)
                write_rows(folder.path / "curvature.csv", rows + own)
                done = f"{network}: {row.work} done"
                progress.update(task, advance=1, description=done)
        rows += own
        print_rows(console, own)
    print(f"curvature.csv: in {folder.path}")
    return 0
