"""The figures of what layers learn over epochs, as PNG files (P4, figures 1b and 3)."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from experiments.report._axes import plain_axes, png
from optax_ia.adaptive._layer_order import natural_key
from optax_ia.explain import LayerMetrics, network_quality

Epochs = Sequence[Mapping[str, LayerMetrics]]
"""What :func:`optax_ia.explain.layer_metrics` gave after each epoch."""

# Five of Okabe and Ito's colours, told apart by every common kind of colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
_DASHES = ("-", "--", ":")
_MAP = "viridis"
_MOST_NAMES = 30
_STYLE: Any = {"font.size": 9, "axes.titlesize": 10}  # matplotlib types the keys


def _layers(epochs: Epochs) -> list[str]:
    """The layers by path, ``Conv_2`` before ``Conv_10``."""
    return sorted(epochs[0], key=natural_key)


def _of_layers(epochs: Epochs, name: str) -> np.ndarray:
    """A quantity, shape (layers, epochs): the mean of its unfoldings of some rank.

    NaN where neither has a rank.
    """
    values = np.full((len(epochs[0]), len(epochs)), np.nan)
    for row, path in enumerate(_layers(epochs)):
        for column, metrics in enumerate(epochs):
            layer = metrics[path]
            own = [float(getattr(one, name)) for one in layer if int(one.rank) > 0]
            if own:
                values[row, column] = np.mean(own)
    return values


def _flagged(epochs: Epochs) -> tuple[list[int], list[int]]:
    """Rows and columns where an unfolding has one singular value."""
    rows, columns = [], []
    for row, path in enumerate(_layers(epochs)):
        for column, metrics in enumerate(epochs):
            if any(int(one.rank) == 1 for one in metrics[path]):
                rows.append(row)
                columns.append(column)
    return rows, columns


def _check(histories: Mapping[str, Epochs]) -> None:
    empty = [name for name, epochs in histories.items() if not epochs or not epochs[0]]
    if not histories or empty:
        raise ValueError(f"no epoch to draw of {empty or 'anything'}.")


def _short(path: str) -> str:
    return path.removesuffix("/kernel")


def quality_map(histories: Mapping[str, Epochs]) -> bytes:
    """The quality of every layer over epochs, a panel for each run.

    The first layer is at the top. A layer without a rank is grey. A white dot says that
    an unfolding has rank 1, whose quality is the largest by definition.

    Args:
      histories: metrics after each epoch, by title; at least one of each.

    Returns:
      A PNG file.

    Raises:
      ValueError: if there is nothing to draw.
    """
    _check(histories)
    tallest = max(len(epochs[0]) for epochs in histories.values())
    height = min(max(2.4, 0.16 * tallest + 1), 7)
    norm = Normalize(0, np.pi / 2)
    with plt.rc_context(_STYLE):
        figure, panels = plt.subplots(
            1,
            len(histories),
            figsize=(2.6 * len(histories) + 2.2, height),
            squeeze=False,
            layout="constrained",
        )
        for axes, (name, epochs) in zip(panels[0], histories.items(), strict=True):
            values = np.ma.masked_invalid(_of_layers(epochs, "quality"))
            axes.set_facecolor("0.8")
            axes.imshow(
                values,
                norm=norm,
                cmap=_MAP,
                aspect="auto",
                interpolation="nearest",
                extent=(0.5, len(epochs) + 0.5, len(epochs[0]) - 0.5, -0.5),
            )
            rows, columns = _flagged(epochs)
            axes.plot(np.add(columns, 1), rows, ".", color="w", mec="k", mew=0.4, ms=5)
            axes.set_title(name)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            _name_rows(axes, _layers(epochs))
        same = {tuple(_layers(epochs)) for epochs in histories.values()}
        for axes in panels[0][1:] if len(same) == 1 else ():
            axes.set_yticklabels([])
        figure.colorbar(
            ScalarMappable(norm, _MAP), ax=list(panels[0]), label="quality q"
        )
        content = png(figure)
        plt.close(figure)
        return content


def _name_rows(axes: Axes, layers: list[str]) -> None:
    step = -(-len(layers) // _MOST_NAMES)
    places = range(0, len(layers), step)
    axes.set_yticks(list(places), [_short(layers[i]) for i in places], fontsize=7)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the layers that have a value; NaN if none has."""
    counted = np.isfinite(values).sum(0)
    total = np.nansum(values, axis=0)
    return np.where(counted > 0, total / np.maximum(counted, 1), np.nan)


def metrics_evolution(
    histories: Mapping[str, Epochs],
    rates: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
) -> bytes:
    """Stable rank, condition and quality over epochs, and the rates of layers.

    Stable rank and condition are means over the layers that have a rank; Q is that of
    the network. Rates are one line for each layer, later layers darker.

    Args:
      histories: metrics after each epoch, by label; at least one of each.
      rates: :func:`optax_ia.diagnostics` after each epoch of the runs whose layers have
        rates of their own, by the same labels; None leaves the panel out.

    Returns:
      A PNG file.

    Raises:
      ValueError: if there is nothing to draw, or ``rates`` has another label.
    """
    _check(histories)
    unknown = set(rates or ()) - set(histories)
    if unknown:
        raise ValueError(
            f"rates are of runs without metrics: {sorted(unknown)}; there are "
            f"{list(histories)}."
        )
    count = 4 if rates else 3
    with plt.rc_context(_STYLE):
        figure, panels = plt.subplots(
            1, count, figsize=(3 * count, 2.8), layout="constrained"
        )
        titles = ("stable rank s", r"condition $\kappa$", "quality Q", "learning rate")
        for axes, title in zip(panels, titles, strict=False):
            plain_axes(axes)
            axes.set_title(title)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for number, (name, epochs) in enumerate(histories.items()):
            drawn = {
                "color": _COLOURS[number % len(_COLOURS)],
                "linestyle": _DASHES[number // len(_COLOURS) % len(_DASHES)],
                "marker": "." if len(epochs) == 1 else None,
            }
            curves = (
                _mean(_of_layers(epochs, "stable_rank")),
                _mean(_of_layers(epochs, "condition")),
                np.array([float(network_quality(metrics)) for metrics in epochs]),
            )
            for axes, curve in zip(panels[:3], curves, strict=True):
                axes.plot(np.arange(1, len(curve) + 1), curve, label=name, **drawn)
        for name, epochs in (rates or {}).items():
            _draw_rates(panels[3], name, epochs, list(histories).index(name))
        for axes in panels:  # once all is drawn: it ends the automatic scale
            axes.set_ylim(bottom=0)
        if len(histories) > 1:
            panels[0].legend(frameon=False, fontsize=8)
        content = png(figure)
        plt.close(figure)
        return content


def _draw_rates(
    axes: Axes, name: str, epochs: Sequence[Mapping[str, float]], number: int
) -> None:
    """One line for each layer, or one for all where they share their rate."""
    prefix = "learning_rate/"
    paths = sorted((p for p in epochs[0] if p.startswith(prefix)), key=natural_key)
    colour = _COLOURS[number % len(_COLOURS)]
    for place, path in enumerate(paths or ["learning_rate"]):
        values = [float(epoch[path]) for epoch in epochs]
        depth = (place + 1) / max(len(paths), 1)
        axes.plot(
            np.arange(1, len(values) + 1),
            values,
            color=colour,
            alpha=0.2 + 0.8 * depth,
            linewidth=1,
            label=name if place == len(paths) - 1 or not paths else None,
        )
    axes.legend(frameon=False, fontsize=8)
