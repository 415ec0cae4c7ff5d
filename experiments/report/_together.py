"""All optimisers in one picture: errors over the epochs and over the seconds."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from experiments.report._axes import log_percent, plain_axes, png
from experiments.report._curves import curves, mean_curve
from experiments.report._table import Line

Row = dict[str, Any]

# Okabe and Ito's, told apart by every common kind of colour vision; the palest last.
_COLOURS = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73"),
    *("#D55E00", "#0072B2", "#CC79A7", "#F0E442"),
)


def _percent(accuracy: np.ndarray, floor: float) -> np.ndarray:
    return np.maximum(100 * (1 - accuracy), floor)


def _panel(axes: Axes, label: str) -> None:
    plain_axes(axes)
    log_percent(axes)
    axes.set_xlabel(label)


def error_over_time(rows: list[Row], lines: list[Line]) -> bytes | None:
    """Validation error of the iterates, over epochs and over seconds of training.

    The seconds are an optimiser's steps over the median of its steps per second, which
    counts neither compilation nor evaluation.

    Args:
      rows: those of ``metrics.jsonl``.
      lines: the table's, for the speeds.

    Returns:
      A PNG file; None for more optimisers than one picture can hold, for one alone, or
      while no run is finished.
    """
    timed = [line for line in lines if line.steps_per_second]
    if not 2 <= len(timed) <= len(_COLOURS):
        return None
    present = [error for row in rows if (error := 1 - row["validation_accuracy"]) > 0]
    # A log axis has no zero: faultless epochs are drawn at half the least error.
    floor = 50 * min(present, default=0.01)
    figure = Figure(figsize=(9, 4), layout="constrained")
    by_epoch, by_second = figure.subplots(1, 2, sharey=True)
    for line, colour in zip(timed, _COLOURS, strict=False):
        runs = curves(rows, line.optimizer, "validation_accuracy")
        if not runs:
            continue
        mean = mean_curve(runs)
        errors = _percent(mean.values, floor)
        last = [row for row in rows if row["optimizer"] == line.optimizer][-1]
        epoch_seconds = last["step"] / last["epoch"] / (line.steps_per_second or 1)
        seconds = mean.epochs * epoch_seconds
        style: dict[str, Any] = {"color": colour, "lw": 1.5, "label": line.optimizer}
        by_epoch.plot(mean.epochs, errors, **style)
        by_second.plot(seconds, errors, **style)
    _panel(by_epoch, "epoch")
    by_epoch.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _panel(by_second, "seconds of training, without compilation and evaluation")
    by_second.set_xscale("log")  # methods differ tenfold in what a step costs
    by_second.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    by_second.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    by_second.xaxis.set_minor_formatter(NullFormatter())
    by_epoch.set_ylabel("validation error (%)")
    handles, labels = by_epoch.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), frameon=False
    )
    return png(figure)
