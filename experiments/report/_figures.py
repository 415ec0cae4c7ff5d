"""The figures of a run folder, as PNG files."""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

from experiments.report._curves import Curve, curves, mean_curve
from experiments.report._table import Line

Row = dict[str, Any]

# Two of Okabe and Ito's colours, told apart by every common kind of colour vision.
_ITERATE, _AVERAGE = "#0072B2", "#D55E00"
_STYLE: Any = {  # matplotlib types the keys as literals
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
_MAX_COLUMNS = 3


def _png(figure: Figure) -> bytes:
    with io.BytesIO() as buffer:
        figure.savefig(buffer, format="png")
        plt.close(figure)
        return buffer.getvalue()


def _panels(
    names: Sequence[str],
    draw: Callable[[Axes, str], None],
    *,
    label: str,
    same_scale: bool = True,
) -> Figure:
    """A panel per optimiser, one below and beside the other, under one legend."""
    columns = min(len(names), _MAX_COLUMNS)
    lines = math.ceil(len(names) / columns)
    size = (max(2.6 * columns, 4.2), 2.1 * lines + 0.6)
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=size,
        sharex=True,
        sharey=same_scale,
        squeeze=False,
        layout="constrained",
    )
    for axes, name in zip(grid.flat, names, strict=False):
        draw(axes, name)
        axes.set_title(name)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for column in range(columns):
        # The lowest visible panel of a column carries the axis.
        used = [row for row in range(lines) if row * columns + column < len(names)]
        grid[used[-1], column].set_xlabel("epoch")
        grid[used[-1], column].tick_params(labelbottom=True)
    for row in range(lines):
        grid[row, 0].set_ylabel(label)
    handles: dict[str, Any] = {}
    for axes in grid.flat:
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(text, handle)
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside upper center",
        ncols=len(handles) or 1,
    )
    return figure


def _draw_runs(axes: Axes, runs: list[Curve], colour: str, label: str) -> None:
    """Every seed thin, their mean on top."""
    if not runs:
        return
    for run in runs:
        axes.plot(run.epochs, run.values, color=colour, alpha=0.25, linewidth=0.7)
    mean = mean_curve(runs)
    axes.plot(
        mean.epochs,
        mean.values,
        color=colour,
        linewidth=1.8,
        label=label,
        marker="o" if len(mean.epochs) == 1 else None,
    )


def _scaled(runs: list[Curve], change: Callable[[np.ndarray], np.ndarray]):
    return [Curve(run.epochs, change(run.values)) for run in runs]


def validation_error(rows: list[Row]) -> bytes:
    """Validation error of iterate and average over epochs, one panel per optimiser.

    Args:
      rows: those of ``metrics.jsonl``, at least one.

    Returns:
      A PNG file.
    """
    names = list(dict.fromkeys(row["optimizer"] for row in rows))
    present = [error for row in rows if (error := 1 - row["validation_accuracy"]) > 0]
    # A log axis has no zero: faultless epochs are drawn at half the least error.
    floor = 50 * min(present, default=0.01)

    def percent(accuracy: np.ndarray) -> np.ndarray:
        return np.where(
            np.isnan(accuracy), np.nan, np.maximum(100 * (1 - accuracy), floor)
        )

    def draw(axes: Axes, name: str) -> None:
        iterates = _scaled(curves(rows, name, "validation_accuracy"), percent)
        averages = _scaled(curves(rows, name, "average_validation_accuracy"), percent)
        _draw_runs(axes, iterates, _ITERATE, "iterate")
        _draw_runs(axes, averages, _AVERAGE, "average, statistics re-estimated")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())

    with plt.rc_context(_STYLE):
        return _png(_panels(names, draw, label="validation error (%)"))


def learning_rate(rows: list[Row]) -> bytes:
    """The learning rate over epochs, one panel per optimiser.

    Args:
      rows: those of ``metrics.jsonl``, at least one.

    Returns:
      A PNG file.
    """
    names = list(dict.fromkeys(row["optimizer"] for row in rows))

    def draw(axes: Axes, name: str) -> None:
        _draw_runs(axes, curves(rows, name, "learning_rate"), _ITERATE, "learning rate")
        axes.set_yscale("log")

    with plt.rc_context(_STYLE):
        return _png(_panels(names, draw, label="learning rate"))


def num_averaged(rows: list[Row]) -> bytes | None:
    """How many iterates are in the average, for the optimisers that make one.

    Args:
      rows: those of ``metrics.jsonl``.

    Returns:
      A PNG file, or None if nothing averages.
    """
    names = [
        name
        for name in dict.fromkeys(row["optimizer"] for row in rows)
        if curves(rows, name, "num_averaged")
    ]
    if not names:
        return None

    def draw(axes: Axes, name: str) -> None:
        runs = curves(rows, name, "num_averaged")
        _draw_runs(axes, runs, _AVERAGE, "iterates in the average")
        most = max(np.nanmax(run.values) for run in runs)
        axes.set_ylim(0, 1.05 * max(most, 1))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))

    with plt.rc_context(_STYLE):
        # A scale each: an EMA collects every step, the others once an epoch.
        return _png(_panels(names, draw, label="number averaged", same_scale=False))


def final_accuracy(results: list[Row], lines: list[Line]) -> bytes:
    """Test accuracy of every seed, with mean and interval, one line per optimiser.

    Args:
      results: rows of ``results.csv``, at least one.
      lines: their summaries.

    Returns:
      A PNG file.
    """
    kinds = (
        ("last iterate", "test_accuracy", "iterate", _ITERATE, "o", 0.15),
        ("average", "average_test_accuracy", "average", _AVERAGE, "s", -0.15),
    )
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            figsize=(6, 0.5 * len(lines) + 1.4), layout="constrained"
        )
        for label, column, field, colour, marker, shift in kinds:
            shown = label
            for place, line in enumerate(reversed(lines)):
                summary = getattr(line, field)
                if summary is None:
                    continue
                seeds = [
                    100 * row[column]
                    for row in results
                    if row["optimizer"] == line.optimizer and row[column] is not None
                ]
                height = place + shift
                axes.scatter(
                    seeds, [height] * len(seeds), color=colour, alpha=0.3, s=12
                )
                below, above = summary.mean - summary.low, summary.high - summary.mean
                axes.errorbar(
                    summary.mean,
                    height,
                    xerr=[[max(below, 0.0)], [max(above, 0.0)]],
                    color=colour,
                    marker=marker,
                    capsize=3,
                    label=shown,
                )
                shown = "_"  # one entry in the legend for all of a kind
        axes.set_yticks(range(len(lines)), [line.optimizer for line in reversed(lines)])
        axes.set_ylim(-0.5, len(lines) - 0.5)
        axes.set_xlabel("test accuracy (%); dots: seeds, bars: 95 % of bootstrap means")
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside upper center", ncols=2)
        return _png(figure)
