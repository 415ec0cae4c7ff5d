"""The curves, the maps of the grid and the page."""

import inspect
import json
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from experiments.configs.p1 import damping as lab_note
from experiments.configs.p1.damping import REPORTED, DampingConfig
from experiments.damping._runs import METHODS
from experiments.damping._tables import HEADER, finding, grid, table
from experiments.data import Dataset
from experiments.files import write_atomically
from experiments.report import _page
from experiments.report._axes import log_percent, plain_axes, png, stacked
from experiments.run_folder import RunFolder

Row = dict[str, Any]

_FLOOR = 0.1
"""Percent that stands for no error at all on the log axis."""
_REPORTED_HEADER = ("rate", "damping", "spectral norm", "validation\nerror (%)")


def error_curves(epochs: Sequence[Row], config: DampingConfig) -> bytes:
    """Errors over epochs, mean over seeds: a column per method and rate (figs 5, 7).

    Args:
      epochs: those of ``metrics.jsonl``.
      config: the comparison.

    Returns:
      A PNG file.
    """
    shades = np.linspace(0, 0.85, len(config.dampings))
    colours = [to_hex(c) for c in mpl.colormaps["viridis"](shades)]
    columns = [(m, rate) for m in METHODS for rate in config.learning_rates]
    figure = Figure(figsize=(1.5 + 2.5 * len(columns), 6), layout="constrained")
    panels = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
    for line, split in zip(panels, ("train", "validation"), strict=True):
        for axes, (method, rate) in zip(line, columns, strict=True):
            for damping, colour in zip(config.dampings, colours, strict=True):
                place = (method, rate, damping)
                own = [
                    row
                    for row in epochs
                    if (row["method"], row["learning_rate"], row["damping"]) == place
                ]
                errors = 100 * (1 - stacked(own, f"{split}_accuracy")).mean(axis=0)
                axes.plot(
                    np.arange(1, len(errors) + 1),
                    np.maximum(errors, _FLOOR),
                    color=colour,
                    lw=1.4,
                    label=f"δ = {damping:g}",
                )
            plain_axes(axes)
            log_percent(axes)
            if split == "train":
                axes.set_title(f"{METHODS[method]}, α = {rate:g}", fontsize=11)
            else:
                axes.set_xlabel("epoch")
                axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        line[0].set_ylabel(f"{'training' if split == 'train' else split} error (%)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=min(6, len(labels)),
        frameon=False,
    )
    return png(figure)


def _map(
    axes: Axes, values: np.ndarray, norm: LogNorm, form: str, config: DampingConfig
) -> Any:
    """One map, a number in each cell."""
    image = axes.imshow(
        np.ma.masked_invalid(values), cmap="Blues", norm=norm, aspect="auto"
    )
    for (row, column), value in np.ndenumerate(values):
        known = np.isfinite(value)
        axes.text(
            column,
            row,
            format(value, form) if known else "diverged",
            ha="center",
            va="center",
            color="white" if known and norm(value) > 0.6 else "black",
        )
    rates, dampings = config.learning_rates, config.dampings
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
    height = 1.8 + 0.5 * len(config.dampings)
    figure = Figure(figsize=(11, height), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    quantities = (
        ("spectral_norm", "spectral norm", ".3g", panels[:2]),
        ("test", "test error (%)", ".2f", panels[2:]),
    )
    for name, title, form, pair in quantities:
        found = [grid(rows, config, method, name) for method in METHODS]
        every = np.concatenate(found).ravel()
        every = every[np.isfinite(every) & (every > 0)]
        low, high = (every.min(), every.max()) if every.size else (1.0, 2.0)
        norm = LogNorm(vmin=low, vmax=max(high, 1.01 * low))
        image: Any = None
        for axes, values, method in zip(pair, found, METHODS, strict=True):
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


def write(
    folder: RunFolder,
    config: DampingConfig,
    data: Dataset,
    rows: Sequence[Row],
    epochs: Sequence[Row],
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Writes the figures, ``table.md`` and ``report.html``.

    Args:
      folder: where to.
      config: the comparison.
      data: what was trained on.
      rows: those of ``results.csv``.
      epochs: those of ``metrics.jsonl``.

    Returns:
      The table's lines, and what came out in sentences.
    """
    curves, picture = error_curves(epochs, config), maps(rows, config)
    lines, said = table(rows, config), finding(rows, config, len(data.test))
    write_atomically(folder.path / "errors.png", curves)
    write_atomically(folder.path / "maps.png", picture)
    write_atomically(folder.path / "table.md", _page.markdown(HEADER, lines))
    reported = [
        (f"{rate:g}", f"{damping:g}", f"{norm:g}", f"{100 - accuracy:.1f}")
        for rate, damping, norm, accuracy in REPORTED
    ]
    about = (
        "The spectral norm is the eigenvalue of largest magnitude of the Hessian of "
        "the training loss at the last weights, over all training images without "
        f"augmentation, by {config.num_steps} steps of Lanczos; batch normalisation "
        "keeps its running statistics. Mean ± deviation over seeds."
    )
    page = _page.make_page(
        title=f"damping of Adam and AdamW: {config.model} on {config.dataset}",
        finding=said,
        sections=[
            (
                "Errors over the epochs (P1, figs 5 and 7)",
                _page.picture("training and validation errors over the epochs", curves)
                + _page.paragraph(
                    "Mean over seeds. The training error is the mean over the epoch's "
                    f"steps, of augmented images; less than {_FLOOR:g} % is drawn as "
                    "that."
                ),
            ),
            (
                "Spectral norm and test error (P1, table 2)",
                _page.picture("spectral norms and test errors of the grid", picture),
            ),
            ("Numbers", _page.make_table(HEADER, lines) + _page.paragraph(about)),
            (
                "What P1 reports: Adam, VGG-16 on CIFAR-100",
                _page.make_table(_REPORTED_HEADER, reported),
            ),
        ],
        description=json.loads((folder.path / "config.json").read_text()),
        note=inspect.getdoc(lab_note) or "",
    )
    write_atomically(folder.path / "report.html", page)
    return lines, said
