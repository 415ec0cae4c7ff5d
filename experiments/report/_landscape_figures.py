"""The figures of a loss along lines and on planes of weights, as PNG files."""

import math
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
)

from experiments.report._axes import plain_axes, png
from optax_ia.landscape import Line, Surface

Bounds = tuple[float, float] | None
"""The lowest and the highest loss that is drawn."""

# Five of Okabe and Ito's colours, told apart by every common kind of colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
_MAP = "viridis"
_MAX_COLUMNS = 3
_LEVELS = 16
_MAX_TICKS = 6
_STYLE: Any = {"font.size": 9, "axes.titlesize": 10}  # matplotlib types the keys


def _plain(value: float, _: Any = None) -> str:
    return f"{value:.3g}"


def _range(
    losses: list[np.ndarray], *, log: bool, bounds: Bounds
) -> tuple[float, float]:
    """The range of all finite losses that are drawn."""
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"bounds must be (low, high), low < high, got {bounds}.")
    every = np.concatenate([values.ravel() for values in losses])
    every = every[np.isfinite(every)]
    if bounds is not None:
        every = every[(every >= bounds[0]) & (every <= bounds[1])]
    if log:
        every = every[every > 0]  # a log scale has no zero
    if not every.size:
        raise ValueError(
            "no loss to draw: none is finite"
            + (", positive" if log else "")
            + (f" and within {bounds}." if bounds else ".")
        )
    low, high = float(every.min()), float(every.max())
    if bounds is not None:
        low = bounds[0] if not log or bounds[0] > 0 else low
        high = bounds[1]
    if low < high:
        return low, high
    return (low / 2, 2 * low) if log else (low - 0.5, low + 0.5)


def _log_ticks(axis: Any) -> None:
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_locator(NullLocator())


def _bar(figure: Figure, panels: list[Any], mapped: Any, label: str, log: bool) -> None:
    """The scale of colours that all panels share."""
    bar = figure.colorbar(mapped, ax=panels, label=label, shrink=0.8, pad=0.04)
    if log:
        _log_ticks(bar.ax.yaxis)
    else:
        bar.ax.yaxis.set_major_locator(MaxNLocator(6))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(_plain))


def _finish(figure: Figure) -> bytes:
    content = png(figure)
    plt.close(figure)
    return content


def line(
    lines: Mapping[str, Line],
    *,
    log: bool = False,
    bounds: Bounds = None,
    marks: Mapping[str, float] | None = None,
    label: str = "loss",
    coordinate: str = "coordinate",
) -> bytes:
    """Losses along lines, one curve each.

    Args:
      lines: what :func:`optax_ia.landscape.line` gave, by label; at least one.
      log: whether the losses' axis is logarithmic.
      bounds: the losses the axis shows; None shows all finite ones.
      marks: coordinates to mark, by name, such as the two ends of an interpolation.
      label: of the losses' axis.
      coordinate: label of the other axis.

    Returns:
      A PNG file.

    Raises:
      ValueError: if there is nothing to draw.
    """
    values = {name: np.asarray(found.losses, float) for name, found in lines.items()}
    limits = _range(list(values.values()), log=log, bounds=bounds)
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
        for index, (name, losses) in enumerate(values.items()):
            shown = np.where(np.isfinite(losses), losses, np.nan)
            if log:
                shown = np.where(shown > 0, shown, limits[0])
            axes.plot(
                np.asarray(lines[name].coordinates),
                shown,
                color=_COLOURS[index % len(_COLOURS)],
                linestyle="-" if index < len(_COLOURS) else "--",
                linewidth=1.6,
                label=name,
            )
        plain_axes(axes)
        if log:
            axes.set_yscale("log")
            _log_ticks(axes.yaxis)
        if bounds is not None:
            axes.set_ylim(*limits)
        for name, place in (marks or {}).items():
            axes.axvline(place, color="0.4", linewidth=0.8, linestyle=":")
            axes.annotate(
                name,
                (place, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                annotation_clip=False,
            )
        axes.set_xlabel(coordinate)
        axes.set_ylabel(label)
        if len(lines) > 1:
            axes.legend(frameon=False)
        return _finish(figure)


def _panels(count: int, size: float, **arguments: Any) -> tuple[Figure, list[Any]]:
    columns = min(count, _MAX_COLUMNS)
    rows = math.ceil(count / columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(size * columns + 0.9, size * rows),
        squeeze=False,
        layout="constrained",
        **arguments,
    )
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat[:count])


def _levels(limits: tuple[float, float], log: bool) -> np.ndarray:
    if log:
        return np.geomspace(*limits, _LEVELS)
    ticks = np.asarray(MaxNLocator(_LEVELS).tick_values(*limits))
    inside = ticks[(ticks > limits[0]) & (ticks < limits[1])]
    return np.array([limits[0], *inside, limits[1]])


def _draw_path(axes: Axes, points: Any) -> None:
    """Where the weights went: a line of dots to a square at the end."""
    x, y = np.asarray(points, float).T
    axes.plot(x, y, color="w", linewidth=2.4, zorder=3)
    axes.plot(x, y, color="#D55E00", linewidth=1.2, marker=".", ms=4, zorder=4)
    axes.plot(x[-1], y[-1], "s", color="#D55E00", mec="w", ms=6, zorder=5)


def contour(
    surfaces: Mapping[str, Surface],
    *,
    log: bool = False,
    bounds: Bounds = None,
    paths: Mapping[str, Any] | None = None,
    label: str = "loss",
) -> bytes:
    """Contours of losses on planes, a panel each, on one scale of colours.

    Losses beyond the bounds are left white, as are infinite and NaN ones; a cross is
    at the origin.

    Args:
      surfaces: what :func:`optax_ia.landscape.surface` gave, by title; at least one.
      log: whether the levels are spaced logarithmically.
      bounds: the losses that are drawn, as (0, 1); None draws all finite ones.
      paths: coordinates of iterates by a surface's title, shape (iterates, 2).
      label: of the scale.

    Returns:
      A PNG file.

    Raises:
      ValueError: if there is nothing to draw.
    """
    losses = [np.asarray(found.losses, float) for found in surfaces.values()]
    limits = _range(losses, log=log, bounds=bounds)
    levels = _levels(limits, log)
    norm = LogNorm(*limits) if log else Normalize(*limits)
    with plt.rc_context(_STYLE):
        figure, panels = _panels(len(surfaces), 3.2)
        filled: Any = None
        for axes, (name, found), values in zip(
            panels, surfaces.items(), losses, strict=True
        ):
            if log:  # a loss of 0 is the lowest there is
                values = np.where(values <= 0, limits[0], values)
            height = np.ma.masked_invalid(values)
            xs, ys = np.asarray(found.xs), np.asarray(found.ys)
            if height.count():  # matplotlib warns of what has nothing to draw
                filled = axes.contourf(xs, ys, height, levels, norm=norm, cmap=_MAP)
                crossed = levels[(levels > height.min()) & (levels < height.max())]
                if len(crossed):
                    axes.contour(
                        xs, ys, height, crossed, colors="k", linewidths=0.3, alpha=0.5
                    )
            axes.set(xlim=(xs.min(), xs.max()), ylim=(ys.min(), ys.max()))
            if xs.min() <= 0 <= xs.max() and ys.min() <= 0 <= ys.max():
                axes.plot(0, 0, "+", color="w", ms=9, mew=1.5)
            if paths is not None and name in paths:
                _draw_path(axes, paths[name])
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.set_title(name)
        _bar(figure, panels, filled, label, log)
        return _finish(figure)


def _sparse_log_ticks(limits: tuple[float, float]) -> np.ndarray:
    """Round losses for a short axis: few enough that their labels do not touch."""
    for subs in ((1.0, 2.0, 5.0), (1.0,)):
        ticks = np.asarray(LogLocator(subs=subs, numticks=30).tick_values(*limits))
        ticks = ticks[(ticks >= limits[0]) & (ticks <= limits[1])]
        if len(ticks) <= _MAX_TICKS:
            return ticks
    return ticks[:: -(-len(ticks) // _MAX_TICKS)]


def surface(
    surfaces: Mapping[str, Surface],
    *,
    log: bool = False,
    bounds: Bounds = None,
    label: str = "loss",
) -> bytes:
    """Losses on planes as surfaces in space, a panel each, of one height.

    Losses beyond the bounds are drawn at them; infinite and NaN ones at the top.

    Args:
      surfaces: what :func:`optax_ia.landscape.surface` gave, by title; at least one.
      log: whether the height is logarithmic.
      bounds: the losses that are drawn; None draws all finite ones.
      label: of the scale of colours.

    Returns:
      A PNG file.

    Raises:
      ValueError: if there is nothing to draw.
    """
    losses = [np.asarray(found.losses, float) for found in surfaces.values()]
    limits = _range(losses, log=log, bounds=bounds)
    low, high = np.log10(limits) if log else np.asarray(limits)
    with plt.rc_context(_STYLE):
        projection = {"projection": "3d"}
        figure, panels = _panels(len(surfaces), 3.8, subplot_kw=projection)
        for axes, (name, found), values in zip(
            panels, surfaces.items(), losses, strict=True
        ):
            values = np.clip(np.nan_to_num(values, nan=np.inf), *limits)
            height = np.log10(values) if log else values
            x, y = np.meshgrid(np.asarray(found.xs), np.asarray(found.ys))
            axes.plot_surface(
                x, y, height, cmap=_MAP, vmin=low, vmax=high, rcount=60, ccount=60,
                linewidth=0.2, edgecolor=(0, 0, 0, 0.25), antialiased=True,
            )  # fmt: skip
            axes.set_zlim(low, high)
            axes.xaxis.set_major_locator(MaxNLocator(3))
            axes.yaxis.set_major_locator(MaxNLocator(3))
            axes.zaxis.set_major_locator(MaxNLocator(4))
            if log:
                ticks = _sparse_log_ticks(limits)
                axes.set_zticks(np.log10(ticks), [_plain(tick) for tick in ticks])
            axes.set_title(name)
            axes.view_init(elev=32, azim=-55)
        norm = LogNorm(*limits) if log else Normalize(*limits)
        _bar(figure, panels, ScalarMappable(norm, _MAP), label, log)
        return _finish(figure)
