"""The picture of a method: its paths over the contours of both functions."""

import io
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from experiments.trajectories._paths import Paths
from experiments.trajectories._problems import Problem
from experiments.trajectories._rows import outcomes

# Four of Okabe and Ito's colours, told apart by every common kind of colour vision.
_COLOURS = ("#E69F00", "#009E73", "#0072B2", "#D55E00")
_GRID = 241
_BEYOND = 1e3
"""Coordinates that are drawn; further out only the direction is left to see."""


def _contours(axes: Axes, problem: Problem) -> None:
    """Filled grey levels, light where the function is low."""
    line = np.linspace(*problem.window, _GRID)
    x, y = np.meshgrid(line, line)
    height = np.asarray(problem.function(np.stack([x, y], axis=-1)))
    levels = problem.levels
    greys = plt.get_cmap("Greys")(np.linspace(0.0, 0.55, len(levels) - 1))
    axes.contourf(x, y, height, levels=levels, colors=greys)


def _drawable(points: np.ndarray) -> np.ndarray:
    """The path up to where it overflows, with what is far off brought near."""
    lost = ~np.isfinite(points).all(axis=-1)
    if lost.any():
        points = points[: int(np.argmax(lost))]
    return np.clip(points, -_BEYOND, _BEYOND)


def _inside(points: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Which points lie in the window."""
    return np.all((points >= window[0]) & (points <= window[1]), axis=-1)


def _draw(axes: Axes, paths: Paths) -> None:
    problem = paths.problem
    _contours(axes, problem)
    runs = zip(paths.rates, paths.points, outcomes(paths), _COLOURS, strict=False)
    for i, (rate, points, outcome, colour) in enumerate(runs):
        seen = _drawable(points)
        size = 10 - 1.5 * i  # ends on one spot are all to be seen
        label = f"{rate:g}"
        if outcome == "diverged":
            label += ", diverged"
        elif not _inside(points[-1], problem.window):
            label += ", ends outside"
        axes.plot(
            seen[:, 0],
            seen[:, 1],
            color=colour,
            linewidth=1.3,
            marker=".",
            markersize=2.5,
            label=label,
            zorder=3,
        )
        if outcome == "diverged":  # where it was last seen
            inside = np.flatnonzero(_inside(seen, problem.window))
            end, marker = seen[inside[-1]], "X"
        else:
            end, marker = seen[-1], "s"
        axes.plot(*end, marker, color=colour, mec="k", ms=size, zorder=5)
        if paths.averages is not None and outcome != "diverged":
            average = paths.averages[i]
            axes.plot(
                *average, "D", mfc="w", mec=colour, mew=1.8, ms=size - 2, zorder=6
            )
    axes.plot(*problem.start, "o", mfc="w", mec="k", ms=7, zorder=4, linestyle="")
    minima = problem.visible_minimisers()
    axes.plot(minima[:, 0], minima[:, 1], "*", mfc="k", mec="w", ms=10, zorder=5.5)
    axes.set(
        xlim=problem.window,
        ylim=problem.window,
        aspect="equal",
        title=problem.name.capitalize(),
        xlabel="x",
        ylabel="y",
    )
    axes.legend(title="learning rate", fontsize=8, title_fontsize=8, framealpha=0.9)


def draw(paths: Sequence[Paths]) -> bytes:
    """Draws a method's paths, a panel per function.

    Args:
      paths: on each function.

    Returns:
      A PNG file.
    """
    averaged = any(run.averages is not None for run in paths)
    with plt.rc_context({"font.size": 9, "savefig.dpi": 100}):
        figure, panels = plt.subplots(
            1, len(paths), figsize=(5 * len(paths), 5.5), layout="constrained"
        )
        for axes, run in zip(np.atleast_1d(panels), paths, strict=True):
            _draw(axes, run)
        key = [
            ("o", "w", "k", "start"),
            ("s", "0.6", "k", "end"),
            ("*", "k", "w", "global minimum"),
        ]
        if any("diverged" in outcomes(run) for run in paths):
            key.append(("X", "0.6", "k", "last seen before it diverged"))
        if averaged:
            key.insert(2, ("D", "w", "0.4", "average's end"))
        handles = [
            Line2D([], [], linestyle="", marker=m, mfc=face, mec=edge, ms=9)
            for m, face, edge, _ in key
        ]
        figure.legend(
            handles,
            [text for *_, text in key],
            loc="outside lower center",
            ncols=len(key),
            frameon=False,
        )
        figure.suptitle(paths[0].method)
        with io.BytesIO() as buffer:
            figure.savefig(buffer, format="png")
            plt.close(figure)
            return buffer.getvalue()
