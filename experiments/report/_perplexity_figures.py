"""The figures of a language run: perplexity over epochs, and at the end."""

import math
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from experiments.report._axes import plain_axes, png
from experiments.report._curves import Curve, curves, mean_curve
from experiments.statistics import Summary

Row = dict[str, Any]

ITERATE, AVERAGE = "#0072B2", "#D55E00"
"""Two of Okabe and Ito's colours, told apart by every common kind of colour vision."""

_MAX_COLUMNS = 3
_HIGHEST = 8.0
"""A curve is drawn up to so many times the least perplexity of the picture."""


def _log_axis(axis: Any, low: float, high: float) -> None:
    """A log axis with plain numbers, dense enough for less than a decade."""
    wide = high / low > 20
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 4, 6)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(LogLocator(subs=()))


def _draw(axes: Axes, runs: list[Curve], colour: str, label: str) -> None:
    """Every seed thin, their mean on top."""
    for run in runs:
        axes.plot(run.epochs, run.values, color=colour, alpha=0.3, linewidth=0.7)
    if runs:
        mean = mean_curve(runs)
        marker = "o" if np.isfinite(mean.values).sum() == 1 else None
        style = {"color": colour, "linewidth": 1.8, "label": label, "marker": marker}
        axes.plot(mean.epochs, mean.values, **style)


def validation_perplexity(rows: list[Row]) -> bytes | None:
    """Validation perplexity of iterate and average, one panel per optimiser.

    Args:
      rows: those of ``metrics.jsonl``.

    Returns:
      A PNG file; None if no perplexity was finite.
    """
    kinds = (
        ("validation_perplexity", ITERATE, "iterate"),
        ("average_validation_perplexity", AVERAGE, "average"),
    )
    values = [row[name] for row in rows for name, _, _ in kinds if row[name]]
    if not values:
        return None
    names = list(dict.fromkeys(row["optimizer"] for row in rows))
    epochs = sorted({row["epoch"] for row in rows})
    low = min(values) / 1.05
    high = min(max(values), _HIGHEST * min(values)) * 1.05
    columns = min(len(names), _MAX_COLUMNS)
    lines = math.ceil(len(names) / columns)
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(max(2.8 * columns, 4.2), 2.2 * lines + 0.5),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    shown: dict[str, Any] = {}
    for axes, name in zip(grid.flat, names, strict=False):
        for entry, colour, label in kinds:
            _draw(axes, curves(rows, name, entry), colour, label)
        plain_axes(axes)
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        _log_axis(axes.yaxis, low, high)
        axes.set_title(name, fontsize=10)
        if len(epochs) == 1:  # the locator would mark parts of an epoch
            axes.set_xticks(epochs)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(text, handle)
    for place, axes in enumerate(grid.flat):
        axes.set_visible(place < len(names))
        if place + columns >= len(names):
            axes.set_xlabel("epoch")
            axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel("validation perplexity")
    figure.legend(
        list(shown.values()),
        list(shown),
        loc="outside upper center",
        ncols=2,
        frameon=False,
    )
    made = png(figure)
    plt.close(figure)
    return made


def final_perplexity(
    results: list[Row], summaries: list[tuple[str, Summary | None, Summary | None]]
) -> bytes | None:
    """Test perplexity, seed by seed, with mean and interval, one line per optimiser.

    Args:
      results: rows of ``results.csv``.
      summaries: optimiser, iterate and average over the seeds.

    Returns:
      A PNG file; None if no perplexity was finite.
    """
    kinds = (
        ("test_perplexity", "last iterate", ITERATE, "o", 0.14, 1),
        ("average_test_perplexity", "average", AVERAGE, "s", -0.14, 2),
    )
    if not any(row[entry] for row in results for entry, *_ in kinds):
        return None
    figure, axes = plt.subplots(
        figsize=(6, 0.5 * len(summaries) + 1.3), layout="constrained"
    )
    for entry, label, colour, marker, shift, place in kinds:
        for height, line in enumerate(reversed(summaries)):
            summary: Any = line[place]
            if summary is None:
                continue
            own = [row[entry] for row in results if row["optimizer"] == line[0]]
            seeds = [value for value in own if value is not None]
            at = height + shift
            axes.scatter(seeds, [at] * len(seeds), color=colour, alpha=0.35, s=12)
            below = max(summary.mean - summary.low, 0.0)
            above = max(summary.high - summary.mean, 0.0)
            axes.errorbar(
                summary.mean,
                at,
                xerr=[[below], [above]],
                color=colour,
                marker=marker,
                capsize=3,
                label=label,
            )
            label = "_"  # one entry in the legend for all of a kind
    plain_axes(axes)
    axes.grid(axis="y", visible=False)
    axes.set_yticks(range(len(summaries)), [line[0] for line in reversed(summaries)])
    axes.set_ylim(-0.5, len(summaries) - 0.5)
    axes.set_xlabel("test perplexity; dots: seeds, bars: 95 % of bootstrap means")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    made = png(figure)
    plt.close(figure)
    return made
