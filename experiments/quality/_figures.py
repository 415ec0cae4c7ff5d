"""Q against how networks generalise: a point for each run."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.configs.p4.quality import QualityConfig
from experiments.quality._tables import MEASURES, correlate
from experiments.report._axes import plain_axes, png

Row = dict[str, Any]

_MARKERS = "osD^vPX*<>"
_PERCENT = ("test_accuracy", "accuracy_gap")


def scatter(rows: Sequence[Row], config: QualityConfig) -> bytes:
    """A panel for each measure: colours are optimisers, markers widths (P4, fig. 2a).

    Args:
      rows: those of ``results.csv``.
      config: the grid.

    Returns:
      A PNG file.
    """
    figure = Figure(figsize=(13, 5), layout="constrained")
    panels = figure.subplots(1, len(MEASURES))
    # ten colours that differ, again from the first if there are more optimisers
    colours = mpl.colormaps["tab10"](np.arange(len(config.optimizers)) % 10)
    for axes, (measure, name) in zip(panels, MEASURES.items(), strict=True):
        scale = 100 if measure in _PERCENT else 1
        for colour, optimizer in zip(colours, config.optimizers, strict=True):
            for number, width in enumerate(config.widths):
                own = [
                    row
                    for row in rows
                    if (row["optimizer"], row["width"]) == (optimizer, width)
                    and None not in (row["quality"], row[measure])
                ]
                axes.plot(
                    [row["quality"] for row in own],
                    [scale * row[measure] for row in own],
                    _MARKERS[number % len(_MARKERS)],
                    color=colour,
                    alpha=0.75,
                    ms=6,
                    mew=0,
                )
        found = correlate(rows, measure)
        if not np.isnan(found.pearson):
            text = f"PLCC {found.pearson:+.2f}, ROCC {found.spearman:+.2f}"
            axes.set_title(text, fontsize=11)
        unit = " (%)" if scale == 100 else ""
        axes.set(xlabel="Q of the last weights", ylabel=f"{name}{unit}")
        plain_axes(axes)
    handles = [
        Line2D([], [], marker="o", ls="", color=colour, label=optimizer)
        for colour, optimizer in zip(colours, config.optimizers, strict=True)
    ] + [
        Line2D(
            [],
            [],
            marker=_MARKERS[number % len(_MARKERS)],
            ls="",
            color="grey",
            label=f"width {width}",
        )
        for number, width in enumerate(config.widths)
    ]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=7, frameon=False, fontsize=10
    )
    return png(figure)
