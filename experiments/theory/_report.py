"""The tables and the plot of the check."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from rich.console import Console
from rich.table import Table

from experiments.run_folder import write_csv
from experiments.theory._formulas import derived_square, printed_square
from experiments.theory._quadratic import POINTS, Quadratic
from experiments.theory._study import BASE, SWEEPS, NormRow, RegretRow, SlopeRow

_SYMBOLS = {
    "parameters": "P",
    "batch_size": "B",
    "steps": "n",
    "learning_rate": "alpha",
    "independent": "alpha lambda = 1",
}
_NAMES = {"last": "last iterate", "tail": "tail mean", "ema": "EMA"}
_COLOURS = {"last": "#4c4c4c", "tail": "#0072b2", "ema": "#d55e00"}


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """Writes dataclass rows as CSV.

    Args:
      path: where to.
      rows: at least one, all of one class.
    """
    columns = tuple(field.name for field in dataclasses.fields(rows[0]))
    write_csv(path, columns, [dataclasses.asdict(row) for row in rows])


def _ratio(value: float) -> str:
    """A ratio, marked where it is more than a tenth off."""
    if np.isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value - 1) < 0.1 else f"[yellow]{value:.3f}[/]"


def print_norms(console: Console, rows: Sequence[NormRow]) -> None:
    """Prints measured norms beside the printed and the derived ones."""
    base = ", ".join(f"{_SYMBOLS[name]} = {getattr(BASE, name):g}" for name in SWEEPS)
    table = Table(
        title="Norms on the noisy quadratic (P0, theorem 1 and eq. 7)",
        caption=f"{base} but for what is varied; rho = {BASE.decay:g}. z: distance of "
        "the squared norm from the derived one in standard errors.",
    )
    table.add_column("varied")
    table.add_column("point", no_wrap=True)
    for column in ("measured", "±", "printed", "ratio", "derived", "ratio", "z"):
        table.add_column(column, justify="right")
    for row in rows:
        varied = _SYMBOLS[row.sweep]
        if row.sweep in SWEEPS:
            varied += f" = {getattr(row, row.sweep):g}"
        table.add_row(
            varied if row.point == POINTS[0] else "",
            _NAMES[row.point],
            f"{row.measured:.4f}",
            f"{row.error:.4f}",
            f"{row.printed:.4f}",
            _ratio(row.measured_over_printed),
            f"{row.derived:.4f}",
            _ratio(row.measured_over_derived),
            f"{row.z:+.1f}",
            end_section=row.point == POINTS[-1],
        )
    console.print(table)


def print_slopes(console: Console, rows: Sequence[SlopeRow]) -> None:
    """Prints how the noise depends on each quantity."""
    table = Table(title="Noise (variance over seeds) as a power of what is varied")
    table.add_column("varied")
    table.add_column("point", no_wrap=True)
    for column in ("measured", "printed", "derived"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            _SYMBOLS[row.sweep] if row.point == POINTS[0] else "",
            _NAMES[row.point],
            *(f"{v:+.2f}" for v in (row.measured, row.printed, row.derived)),
            end_section=row.point == POINTS[-1],
        )
    console.print(table)


def print_regrets(console: Console, rows: Sequence[RegretRow]) -> None:
    """Prints expected losses beside the bounds of table 1 and eq. 9."""
    table = Table(
        title="Expected loss and its bounds (P0, table 1 and eq. 9)",
        caption="Preconditioner C. Table 1 is for n to infinity: shown from w_0 = 0, "
        "yellow where it is exceeded. 'holds': eq. 9 for the average, and for the last "
        "iterate C - alpha/2 H in place of C.",
    )
    for column in ("C", "w_0", "point"):
        table.add_column(column, no_wrap=True)
    columns = ["measured", "±", "table 1", "ratio", "holds", "ratio", "exact", "ratio"]
    for column in columns:
        table.add_column(column, justify="right")
    names = {0.0: "I", 0.5: "H^1/2", 1.0: "H"}
    for row in rows:
        beyond = row.measured_over_printed > 1 + 3 * row.error / row.measured
        ratio = f"{row.measured_over_printed:.3f}"
        if beyond:
            ratio = f"[yellow]{ratio}[/]"
        table.add_row(
            names.get(row.preconditioner, f"H^{row.preconditioner:g}"),
            f"{row.initial:g}",
            _NAMES[row.point],
            f"{row.measured:.4f}",
            f"{row.error:.4f}",
            "-" if np.isnan(row.printed) else f"{row.printed:.4f}",
            "-" if np.isnan(row.printed) else ratio,
            f"{row.corrected:.4f}",
            f"{row.measured_over_corrected:.3f}",
            f"{row.derived:.4f}",
            _ratio(row.measured_over_derived),
            end_section=row.point == "tail",
        )
    console.print(table)


def _predictions(sweep: str) -> tuple[list[float], list[Quadratic]]:
    """A finer grid between the ends of a sweep, for its curves."""
    ends = [getattr(problem, sweep) for problem in SWEEPS[sweep]]
    kind = type(ends[0])
    values = [kind(round(v, 6)) for v in np.geomspace(ends[0], ends[-1], 25).tolist()]
    return values, [dataclasses.replace(BASE, **{sweep: value}) for value in values]


def plot_norms(path: Path, rows: Sequence[NormRow]) -> None:
    """Draws the norms over P, B, n and alpha.

    Args:
      path: the PNG to write.
      rows: those of the table.
    """
    figure = Figure(figsize=(11, 8), layout="constrained")
    grid = figure.subplots(2, 2).flat
    for axes, sweep in zip(grid, SWEEPS, strict=True):
        values, problems = _predictions(sweep)
        for point in POINTS:
            colour, name = _COLOURS[point], _NAMES[point]
            for predict, style, label in (
                (derived_square, "-", name),
                (printed_square, ":", None),
            ):
                norms = [np.sqrt(predict(problem, point)) for problem in problems]
                axes.plot(values, norms, style, color=colour, label=label)
            own = [row for row in rows if row.sweep == sweep and row.point == point]
            axes.errorbar(
                [getattr(row, sweep) for row in own],
                [row.measured for row in own],
                [2 * row.error for row in own],
                color=colour,
                fmt="o",
                capsize=3,
            )
        axes.set(xscale="log", yscale="log", xlabel=_SYMBOLS[sweep], ylabel="norm")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.grid(alpha=0.3, which="both")
    axes.plot([], [], "ko", label="measured, ± 2 standard errors")
    axes.plot([], [], "k-", label="derived")
    axes.plot([], [], "k:", label="as printed")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6)
    figure.suptitle("Noisy quadratic: norms over P, B, n and the learning rate")
    figure.savefig(path, dpi=130)
