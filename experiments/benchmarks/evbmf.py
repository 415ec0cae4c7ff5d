"""``python -m experiments.benchmarks evbmf``: the layers' metrics beside NumPy's route.

What an epoch of RMSGD adds: the low-rank part of every unfolding of a ResNet's kernels,
by Gram matrices or singular values, in units of the thin SVDs that the released code
computes, timed in the same round. Each way's errors are those against float64 SVDs.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from experiments.benchmarks import _evbmf_routes as routes
from experiments.benchmarks._evbmf_routes import Network, Spectrum
from experiments.benchmarks._measure import Spread
from experiments.benchmarks._report import device_line
from experiments.benchmarks._rows import with_quartiles, write_rows
from experiments.cli import parse
from experiments.console import table_console
from experiments.errors import ExperimentError
from experiments.run_folder import RunFolder

RELEASED = "thin SVDs in NumPy"
BARRED = "gram, float32"
"""The default of :func:`optax_ia.explain.layer_metrics`, which the bars are for."""

SPEEDUP_BAR = 8.0
COMPILE_BAR = 15.0
SECONDS_BARS = {"resnet50": 1.0}


@dataclasses.dataclass(frozen=True)
class EvbmfConfig:
    """What to measure."""

    networks: tuple[Network, ...] = ("resnet18", "resnet34", "resnet50", "resnet101")
    """Whose kernels, low rank and noise; toy: for trying it out."""
    repeats: int = 3
    """Rounds; in each, every way measures all layers once."""
    seed: int = 0
    """Of the kernels."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Time of the layers' metrics, as speed-ups over the released code's route."""

    config: tyro.conf.OmitArgPrefixes[EvbmfConfig]
    out: Path | None = None
    """Folder for the table; by default a new one under runs/benchmarks."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What one way to measure the layers of one network costs, and how exact it is.

    Attributes:
      network: its name.
      matrices: its distinct unfoldings.
      route: the way.
      seconds: for all layers.
      speedup: how many times faster than the released route in the same round.
      compile_seconds: that the first call takes beyond the second; None for NumPy.
      rank_differences: matrices whose rank is another than by float64 SVDs.
      sigma2_error: largest relative error of a noise variance, ranks being equal.
      value_error: likewise of a singular value that is kept.
      speedup_bar: least speed-up, if there is such a bar.
      seconds_bar: most seconds, likewise.
      compile_bar: likewise of compiling.
    """

    network: str
    matrices: int
    route: str
    seconds: Spread
    speedup: Spread
    compile_seconds: float | None
    rank_differences: int
    sigma2_error: float
    value_error: float
    speedup_bar: float | None = None
    seconds_bar: float | None = None
    compile_bar: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the medians are within all bars; None without one."""
        verdicts = []
        if self.speedup_bar is not None:
            verdicts.append(self.speedup.median >= self.speedup_bar)
        if self.seconds_bar is not None:
            verdicts.append(self.seconds.median < self.seconds_bar)
        if self.compile_bar is not None and self.compile_seconds is not None:
            verdicts.append(self.compile_seconds < self.compile_bar)
        return all(verdicts) if verdicts else None


def _check(config: EvbmfConfig) -> None:
    if config.repeats < 1:
        raise ExperimentError(f"repeats must be >= 1, got {config.repeats}")
    if not config.networks:
        raise ExperimentError("networks is empty; name at least one")


def _precision(dtype: Any) -> contextlib.AbstractContextManager[Any]:
    return jax.enable_x64(np.dtype(dtype).itemsize == 8)


def _errors(
    found: Sequence[Spectrum], exact: Sequence[Spectrum]
) -> tuple[int, float, float]:
    """Rank differences, and the largest errors of variances and of kept values."""
    same = [
        (one, want)
        for one, want in zip(found, exact, strict=True)
        if len(one.values) == len(want.values)
    ]
    sigma2 = [abs(one.sigma2 / want.sigma2 - 1) for one, want in same]
    values = [
        np.max(np.abs(one.values / want.values - 1), initial=0) for one, want in same
    ]
    worst = max(sigma2, default=0.0), float(max(values, default=0.0))
    return len(exact) - len(same), *worst


def _work(route: routes.Route, kernels: routes.Kernels) -> Callable[[], Any]:
    """A call that measures all layers, as a user makes it after an epoch."""
    with _precision(route.dtype):
        arrays = {p: jnp.asarray(k, route.dtype) for p, k in kernels.items()}

    def work():
        with _precision(route.dtype):
            jax.block_until_ready(route.metrics(arrays))

    return work


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(
    network: Network, config: EvbmfConfig, tell: Callable[[str], None]
) -> Iterator[Row]:
    """Times every way on one network.

    Args:
      network: its name.
      config: how often.
      tell: called with what is begun.

    Yields:
      A row for each way, the released one first.
    """
    kernels = routes.build(network, config.seed)
    programs, compiling = {}, {}
    jax.clear_caches()
    for route in routes.ROUTES:
        tell(f"compile {route.name}")
        work = programs[route.name] = _work(route, kernels)
        first, again = _seconds(work), _seconds(work)
        compiling[route.name] = max(first - again, 0.0)
    works = {RELEASED: lambda: routes.released(kernels), **programs}
    rounds = []
    for number in range(config.repeats):
        tell(f"round {number + 1} of {config.repeats}")
        rounds.append([_seconds(work) for work in works.values()])
    seconds = dict(zip(works, np.asarray(rounds).T, strict=True))
    tell("float64 SVDs")
    exact = _found(routes.EXACT, kernels)
    found = {RELEASED: routes.released(kernels)}
    for route in routes.ROUTES:
        tell(f"errors of {route.name}")
        found[route.name] = _found(route, kernels)
    for name, own in seconds.items():
        barred = name == BARRED and network != "toy"
        differences, sigma2_error, value_error = _errors(found[name], exact)
        yield Row(
            network=network,
            matrices=len(exact),
            route=name,
            seconds=Spread.of(own),
            speedup=Spread.of(seconds[RELEASED] / own),
            compile_seconds=compiling.get(name),
            rank_differences=differences,
            sigma2_error=sigma2_error,
            value_error=value_error,
            speedup_bar=SPEEDUP_BAR if barred else None,
            seconds_bar=SECONDS_BARS.get(network) if barred else None,
            compile_bar=COMPILE_BAR if barred else None,
        )


def _found(route: routes.Route, kernels: routes.Kernels) -> list[Spectrum]:
    with _precision(route.dtype):
        return route.spectra({p: k.astype(route.dtype) for p, k in kernels.items()})


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """Prints the rows of one network; medians with their quartiles."""
    table = Table(
        title=f"{rows[0].network}: {rows[0].matrices} matrices",
        caption="medians, quartiles in brackets; errors against float64 SVDs; bars: "
        f"{SPEEDUP_BAR:g} times faster, compiled in {COMPILE_BAR:g} s, ResNet-50 in "
        f"{SECONDS_BARS['resnet50']:g} s",
    )
    table.add_column("route")
    for column in ("s", "times faster", "compile s", "ranks off", "sigma2", "values"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("bars")
    verdict = {None: "", True: "[green]pass[/]", False: "[red]miss[/]"}
    for row in rows:
        table.add_row(
            row.route,
            with_quartiles(row.seconds),
            with_quartiles(row.speedup),
            "" if row.compile_seconds is None else f"{row.compile_seconds:.1f}",
            str(row.rank_differences),
            f"{row.sigma2_error:.0e}",
            f"{row.value_error:.0e}",
            verdict[row.passed],
        )
    console.print(table)


def main(arguments: list[str]) -> int:
    """Runs the command; see :class:`Arguments`."""
    parsed = parse(Arguments, arguments, command="benchmarks evbmf")
    config = parsed.config
    _check(config)
    folder = RunFolder.prepare(parsed.out, "benchmarks", config, resume=False)
    console = table_console()
    console.print(device_line())
    columns = (TextColumn("{task.description:32}"), BarColumn(), TimeElapsedColumn())
    rows: list[Row] = []
    for network in config.networks:
        with Progress(*columns, transient=True) as progress:
            task = progress.add_task(network, total=None)

            def tell(what: str, network=network, progress=progress, task=task) -> None:
                progress.update(task, description=f"{network}: {what}")

            own = list(measure(network, config, tell))
        rows += own
        write_rows(folder.path / "evbmf.csv", rows)
        print_rows(console, own)
    print(f"evbmf.csv: in {folder.path}")
    return 0
