"""``python -m experiments theory``: P0's noisy quadratic, measured and predicted.

The quadratic of theorem 1 is run with the library's own averages, and the norms of the
last iterate, the tail mean and the exponential moving average are set beside the
formulas over P, B, n and the learning rate; then the expected losses beside the bounds
of table 1. Where the printed formulas do not hold, what they differ in is said in the
notes of :func:`printed_square` and :func:`printed_regret`.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import tyro
from rich.console import Console

from experiments.cli import parse
from experiments.console import table_console
from experiments.errors import ExperimentError
from experiments.run_folder import RunFolder
from experiments.theory import _report
from experiments.theory._formulas import corrected_regret as corrected_regret
from experiments.theory._formulas import derived_loss as derived_loss
from experiments.theory._formulas import derived_square as derived_square
from experiments.theory._formulas import limit_variance as limit_variance
from experiments.theory._formulas import moments as moments
from experiments.theory._formulas import printed_regret as printed_regret
from experiments.theory._formulas import printed_square as printed_square
from experiments.theory._quadratic import POINTS as POINTS
from experiments.theory._quadratic import Quadratic as Quadratic
from experiments.theory._quadratic import simulate as simulate
from experiments.theory._study import INDEPENDENT as INDEPENDENT
from experiments.theory._study import REGRETS as REGRETS
from experiments.theory._study import SWEEPS as SWEEPS
from experiments.theory._study import NormRow as NormRow
from experiments.theory._study import RegretRow as RegretRow
from experiments.theory._study import SlopeRow as SlopeRow
from experiments.theory._study import norm_rows as norm_rows
from experiments.theory._study import regret_rows as regret_rows
from experiments.theory._study import slope_rows as slope_rows


@dataclasses.dataclass(frozen=True)
class TheoryConfig:
    """What a check depends on."""

    seeds: int = 64
    """Independent runs per setting; the errors shrink as one over their root."""
    seed: int = 0
    """Of the random generator."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Check P0's noisy quadratic against its formulas; write tables and a plot."""

    config: tyro.conf.OmitArgPrefixes[TheoryConfig]
    out: Path | None = None
    """Folder to write to; by default a new one under runs/theory."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see :class:`Arguments`."""
    parsed = parse(Arguments, arguments, command="theory")
    config = parsed.config
    if config.seeds < 2:
        raise ExperimentError(f"seeds must be >= 2, got {config.seeds}")
    folder = RunFolder.prepare(parsed.out, "theory", config, resume=False)
    console = table_console()
    grid = [(name, problem) for name in SWEEPS for problem in SWEEPS[name]]
    grid.append(("independent", INDEPENDENT))
    keys = iter(jax.random.split(jax.random.key(config.seed), len(grid) + len(REGRETS)))
    norms: list[NormRow] = []
    regrets: list[RegretRow] = []
    with Console().status("simulating the quadratic"):
        for sweep, problem in grid:
            norms += norm_rows(sweep, problem, next(keys), seeds=config.seeds)
        for problem in REGRETS:
            regrets += regret_rows(problem, next(keys), seeds=config.seeds)
    slopes = slope_rows(norms)
    _report.print_norms(console, norms)
    _report.print_slopes(console, slopes)
    _report.print_regrets(console, regrets)
    for name, rows in {"norms": norms, "slopes": slopes, "regrets": regrets}.items():
        _report.write_rows(folder.path / f"{name}.csv", rows)
    _report.plot_norms(folder.path / "norms.png", norms)
    print(f"norms.csv, slopes.csv, regrets.csv and norms.png are in {folder.path}")
    return 0
