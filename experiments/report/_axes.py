"""What the figures of one panel or two have in common."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

Row = dict[str, Any]


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    with io.BytesIO() as buffer:
        figure.savefig(buffer, format="png", dpi=150)
        return buffer.getvalue()


def plain_axes(axes: Axes) -> None:
    """A grid, and no box around the panel."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def log_percent(axes: Axes) -> None:
    """A log axis with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def stacked(rows: Sequence[Row], name: str) -> np.ndarray:
    """A quantity over epochs, ``(seeds, epochs)``; NaN where it is not finite."""
    seeds = dict.fromkeys(row["seed"] for row in rows)
    values = [[row[name] for row in rows if row["seed"] == seed] for seed in seeds]
    return np.array(values, np.float64)
