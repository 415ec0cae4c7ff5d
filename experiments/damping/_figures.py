"""The figures: curves over epochs, the diagonal, the maps of the grid."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from experiments.configs.p1.damping import DampingConfig
from experiments.damping._cells import METHODS, REFERENCE, methods
from experiments.damping._tables import diagonal, grid
from experiments.report._axes import log_percent, plain_axes, png, stacked

Row = dict[str, Any]

FLOOR = 0.1
"""Percent that stands for no error at all on the log axis."""

_SPLITS = ("train", "validation")


def _errors(epochs: Sequence[Row], split: str, *place: Any) -> np.ndarray:
    """Errors in percent over the epochs, mean over the seeds of a cell."""
    own = [
        row
        for row in epochs
        if (row["method"], row["learning_rate"], row["damping"]) == place
    ]
    errors = 100 * (1 - stacked(own, f"{split}_accuracy")).mean(axis=0)
    return np.maximum(errors, FLOOR)


def _draw(axes: Axes, errors: np.ndarray, label: str, **style: Any) -> None:
    axes.plot(np.arange(1, len(errors) + 1), errors, label=label, **style)


def _shades(number: int) -> list[str]:
    return [to_hex(c) for c in mpl.colormaps["viridis"](np.linspace(0, 0.85, number))]


def _finish(figure: Figure, panels: np.ndarray) -> bytes:
    """Axes, names and one legend for all panels."""
    for axes in panels.flat:
        plain_axes(axes)
        log_percent(axes)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    handles: dict[str, Any] = {}
    for axes in panels.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside upper center",
        ncols=min(6, len(handles)),
        frameon=False,
    )
    return png(figure)


def _reference(axes: Axes, epochs: Sequence[Row], split: str, rate: float) -> None:
    errors = _errors(epochs, split, REFERENCE, rate, None)
    label = f"{METHODS[REFERENCE]}, α = {rate:g}"
    _draw(axes, errors, label, color="black", lw=1.2, ls="--")


def error_curves(epochs: Sequence[Row], config: DampingConfig) -> bytes:
    """Errors over epochs: a column per method and rate (figs 4, 5 and 7).

    Args:
      epochs: those of ``metrics.jsonl``.
      config: the comparison.

    Returns:
      A PNG file.
    """
    colours = dict(
        zip(config.all_dampings, _shades(len(config.all_dampings)), strict=True)
    )
    columns = [(m, rate) for m in methods(config) for rate in config.learning_rates]
    figure = Figure(figsize=(1.5 + 2.5 * len(columns), 6), layout="constrained")
    panels = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
    for line, split in zip(panels, _SPLITS, strict=True):
        for axes, (method, rate) in zip(line, columns, strict=True):
            for damping in config.dampings_at(rate):
                errors = _errors(epochs, split, method, rate, damping)
                label = f"δ = {damping:g}"
                _draw(axes, errors, label, color=colours[damping], lw=1.4)
            if config.sgd_rate is not None:
                _reference(axes, epochs, split, config.sgd_rate)
            if split == "train":
                axes.set_title(f"{METHODS[method]}, α = {rate:g}", fontsize=11)
        line[0].set_ylabel(f"{'training' if split == 'train' else split} error (%)")
    return _finish(figure, panels)


def diagonal_curves(epochs: Sequence[Row], config: DampingConfig) -> bytes | None:
    """Errors over epochs where rate and damping fall together (fig. 4).

    Args:
      epochs: those of ``metrics.jsonl``.
      config: the comparison.

    Returns:
      A PNG file; None if the grid has no such cells.
    """
    chosen = diagonal(config)
    if not chosen:
        return None
    names = methods(config)
    figure = Figure(figsize=(9, 0.8 + 3.2 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), 2, sharex=True, squeeze=False)
    colours = _shades(len(chosen))
    for line, method in zip(panels, names, strict=True):
        for axes, split in zip(line, _SPLITS, strict=True):
            for (rate, damping), colour in zip(chosen, colours, strict=True):
                errors = _errors(epochs, split, method, rate, damping)
                label = f"α = {rate:g}, δ = {damping:g}"
                _draw(axes, errors, label, color=colour, lw=1.6)
            if config.sgd_rate is not None:
                _reference(axes, epochs, split, config.sgd_rate)
            kind = "training" if split == "train" else split
            axes.set_title(f"{METHODS[method]}: {kind} error (%)", fontsize=11)
    return _finish(figure, panels)


def _map(
    axes: Axes, values: np.ndarray, norm: LogNorm, form: str, config: DampingConfig
) -> Any:
    """One map, a number in each cell that was run."""
    image = axes.imshow(
        np.ma.masked_invalid(values), cmap="Blues", norm=norm, aspect="auto"
    )
    rates, dampings = config.learning_rates, config.all_dampings
    for (row, column), value in np.ndenumerate(values):
        known = np.isfinite(value)
        if dampings[row] not in config.dampings_at(rates[column]):
            continue
        axes.text(
            column,
            row,
            format(value, form) if known else "diverged",
            ha="center",
            va="center",
            color="white" if known and norm(value) > 0.6 else "black",
        )
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_yticks(range(len(dampings)), [f"{damping:g}" for damping in dampings])
    axes.tick_params(length=0)
    axes.set_xlabel(r"learning rate $\alpha$")
    return image


def maps(rows: Sequence[Row], config: DampingConfig) -> bytes:
    """Spectral norm and test error over damping and rate, method by method (table 2).

    Args:
      rows: those of ``results.csv``.
      config: the comparison.

    Returns:
      A PNG file.
    """
    names = methods(config)
    columns = max(len(config.learning_rates), 2)
    size = (2.2 + 1.1 * columns * 2 * len(names), 1.8 + 0.5 * len(config.all_dampings))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, 2 * len(names), sharey=True)
    quantities = (
        ("spectral_norm", "spectral norm", ".3g", panels[: len(names)]),
        ("test", "test error (%)", ".2f", panels[len(names) :]),
    )
    for name, title, form, pair in quantities:
        found = [grid(rows, config, method, name) for method in names]
        every = np.concatenate(found).ravel()
        every = every[np.isfinite(every) & (every > 0)]
        low, high = (every.min(), every.max()) if every.size else (1.0, 2.0)
        norm = LogNorm(vmin=low, vmax=max(high, 1.01 * low))
        image: Any = None
        for axes, values, method in zip(pair, found, names, strict=True):
            image = _map(axes, values, norm, form, config)
            axes.set_title(f"{METHODS[method]}: {title}", fontsize=10)
        bar = figure.colorbar(image, ax=list(pair), fraction=0.06)
        ticks = LogLocator(subs=(1.0, 2.0, 5.0)) if high > 3 * low else MaxNLocator(4)
        bar.ax.yaxis.set_major_locator(ticks)
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.ax.tick_params(labelsize=8)
    panels[0].set_ylabel(r"damping $\delta$")
    return png(figure)
