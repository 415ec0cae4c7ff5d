"""The figures of an analysis that are not landscapes, as PNG files."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from experiments.analyse._sharpness import Sharpness
from experiments.report._axes import plain_axes, png
from optax_ia.explain import Diversity

# Okabe and Ito's colours, told apart by every common kind of colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_STYLE: Any = {  # matplotlib types the keys as literals
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.frameon": False,
}
_FLOOR = 1e-6  # of a density: a share of 1e-6 of the peak is no eigenvalue's


def _finish(figure: Any) -> bytes:
    content = png(figure)
    plt.close(figure)
    return content


def spectrum(found: Mapping[str, Sharpness]) -> bytes:
    """Densities with the raw nodes below them, a column for each point.

    Args:
      found: what was measured, by title.

    Returns:
      A PNG file.
    """
    with plt.rc_context(_STYLE):
        figure, grid = plt.subplots(
            2,
            len(found),
            figsize=(4.2 * len(found), 4.6),
            sharex="col",
            sharey="row",
            squeeze=False,
            layout="constrained",
        )
        for column, (name, sharpness) in enumerate(found.items()):
            upper, lower = grid[:, column]
            density = sharpness.density
            heights = np.asarray(density.density)
            shown = heights > _FLOOR * heights.max()
            upper.plot(density.grid, np.where(shown, heights, np.nan), _COLOURS[0])
            upper.set_yscale("log")
            nodes = np.asarray(density.nodes).ravel()
            weights = np.asarray(density.weights).ravel() / len(density.nodes)
            beyond = nodes > -sharpness.smallest
            for chosen, colour, label in (
                (~beyond, _COLOURS[0], "up to −λ_P"),
                (beyond, _COLOURS[1], "above −λ_P"),
            ):
                shown = chosen & (weights > 1e-12)
                lower.vlines(
                    nodes[shown], 1e-12, weights[shown], colour, linewidth=0.9,
                    label=label,
                )  # fmt: skip
            lower.set_yscale("log")
            lower.set_ylim(1e-12, 2)
            for axes in (upper, lower):
                plain_axes(axes)
                for edge in (sharpness.smallest, -sharpness.smallest):
                    axes.axvline(edge, color="0.3", linewidth=0.8, linestyle=":")
            upper.set_title(name)
            lower.set_xlabel("eigenvalue of the Hessian")
        grid[0, 0].set_ylabel("density")
        grid[1, 0].set_ylabel("weights of the nodes")
        handles, labels = grid[1, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
        return _finish(figure)


def diversity(found: Mapping[str, Diversity], epochs: Sequence[int]) -> bytes:
    """The pairwise differences of the iterates, a panel for each measure.

    Args:
      found: the differences, by title.
      epochs: of the iterates.

    Returns:
      A PNG file.
    """
    ticks = np.unique(np.linspace(0, len(epochs) - 1, 6).astype(int))
    labels = [str(epochs[tick]) for tick in ticks]
    with plt.rc_context(_STYLE):
        figure, grid = plt.subplots(
            1,
            len(found),
            figsize=(4.2 * len(found), 3.4),
            squeeze=False,
            layout="constrained",
        )
        for axes, (name, measured) in zip(grid.flat, found.items(), strict=True):
            pairs = np.array(measured.pairwise, float)
            np.fill_diagonal(pairs, np.nan)  # zero by definition
            shown = axes.imshow(pairs, cmap="viridis", origin="lower", vmin=0)
            figure.colorbar(shown, ax=axes, shrink=0.85)
            axes.set_xticks(ticks, labels)
            axes.set_yticks(ticks, labels)
            axes.set_xlabel("end of epoch")
            axes.set_title(f"{name}, mean {float(measured.mean):.3g}")
        grid[0, 0].set_ylabel("end of epoch")
        return _finish(figure)


def effective_rates(
    found: Mapping[str, Sequence[float | None]], average_from: int | None
) -> bytes:
    """Effective learning rates over epochs, a curve for each layer.

    Args:
      found: the rates by path.
      average_from: the first epoch that is averaged, which is marked.

    Returns:
      A PNG file.
    """
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
        for index, (name, values) in enumerate(found.items()):
            heights = np.array(values, float)
            axes.plot(
                np.arange(1, len(heights) + 1),
                heights,
                color=_COLOURS[index % len(_COLOURS)],
                linestyle=("-", "--", ":")[index // len(_COLOURS) % 3],
                marker="o" if len(heights) == 1 else None,
                label=name,
            )
        plain_axes(axes)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.3g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if average_from is not None:
            axes.axvline(average_from, color="0.3", linewidth=0.8, linestyle=":")
        axes.set_xlabel("epoch; dotted: averaging begins")
        axes.set_ylabel("α / ‖w‖²")
        figure.legend(loc="outside right upper")
        return _finish(figure)
