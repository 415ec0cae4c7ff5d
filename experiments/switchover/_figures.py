"""Error curves of the methods, and the estimated SGD rate step by step."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from experiments.configs.p3.switchover import SwitchoverConfig
from experiments.report._axes import log_percent, plain_axes, png, stacked
from experiments.switchover._methods import (
    MOMENTUM,
    SWATS,
    SWATS_PRINTED,
    Method,
    steps_of,
)

Row = dict[str, Any]

# Okabe and Ito's colours, told apart by every common kind of colour vision.
_COLOURS = {
    "sgd": "#000000",
    "adam": "#0072B2",
    SWATS_PRINTED: "#56B4E9",
    SWATS: "#D55E00",
    "clip_above": "#009E73",
    "clip_below": "#CC79A7",
}
_FIXED = ("#E69F00", "#009E73", "#CC79A7")
_SEEDS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def error_curves(
    rows: Sequence[Row], methods: Sequence[Method], config: SwitchoverConfig
) -> bytes:
    """Validation and test error over epochs: mean over seeds, band of a deviation.

    Args:
      rows: those of ``metrics.jsonl``.
      methods: those to draw, in order.
      config: the comparison, for the drops of the rate.

    Returns:
      A PNG file.
    """
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    floor = np.inf
    fixed = iter(_FIXED)
    colours = {m.name: _COLOURS.get(m.name) or next(fixed) for m in methods}
    for axes, split in zip(panels, ("validation", "test"), strict=True):
        for method in methods:
            own = [row for row in rows if row["method"] == method.name]
            errors = 100 * (1 - stacked(own, f"{split}_accuracy"))
            epochs = np.arange(1, errors.shape[1] + 1)
            mean = errors.mean(axis=0)
            spread = errors.std(axis=0, ddof=1) if len(errors) > 1 else 0 * mean
            floor = min(floor, mean[mean > 0].min(initial=np.inf))
            colour = colours[method.name]
            style = "--" if method.name == SWATS_PRINTED else "-"
            axes.plot(epochs, mean, style, color=colour, lw=1.5, label=method.label)
            low = np.maximum(mean - spread, 0.01)  # a log axis has no zero
            axes.fill_between(epochs, low, mean + spread, color=colour, alpha=0.1, lw=0)
        for drop in config.drops:
            axes.axvline(drop * config.epochs, color="0.6", ls=":", lw=0.8)
        plain_axes(axes)
        log_percent(axes)
        axes.set(title=f"{split} error (%)", xlabel="epoch")
    panels[0].set_ylim(bottom=0.6 * floor)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=min(4, len(labels)),
        frameon=False,
    )
    return png(figure)


def _draw_run(axes: Axes, rows: Sequence[Row], colour: str) -> None:
    """Gamma as dots and its average as a line; from a switch on, the rate of SGD."""
    adaptive = [row for row in rows if not row["phase"]]
    if len(adaptive) < len(rows):  # gamma of the step that decided is still Adam's
        adaptive.append(rows[len(adaptive)])
    x = np.array([row["step"] for row in adaptive])
    gamma = np.array([row["gamma"] or np.nan for row in adaptive], np.float64)
    average = np.array([row["lambda_hat"] or np.nan for row in adaptive], np.float64)
    positive = gamma > 0
    axes.plot(x[positive], gamma[positive], ".", color=colour, ms=2.5, alpha=0.3)
    axes.plot(x, np.where(average > 0, average, np.nan), color=colour, lw=1.6)
    if rows[-1]["phase"]:
        found = rows[-1]["sgd_learning_rate"]
        axes.axvline(x[-1], color=colour, ls="--", lw=0.9)
        axes.plot(x[-1], found, "o", color=colour, mec="white", ms=7, zorder=3)
        after = rows[len(adaptive) - 1 :]  # SGD follows the schedule of Adam
        rate = [
            found * row["learning_rate"] / after[0]["learning_rate"] for row in after
        ]
        axes.step([row["step"] for row in after], rate, color=colour, lw=0.9, ls="--")


def estimated_rate(
    steps: Sequence[Row], config: SwitchoverConfig, methods: Sequence[Method]
) -> bytes:
    """Gamma and its corrected average over the steps of every seed, as P3, fig. 7.

    Args:
      steps: rows of ``steps.csv``.
      config: the comparison.
      methods: SWATS with either tolerance, a panel each.

    Returns:
      A PNG file.
    """
    figure = Figure(figsize=(9, 7.6), layout="constrained")
    panels = figure.subplots(len(methods), 1, sharex=True, sharey=True, squeeze=False)
    for axes, method in zip(panels.flat, methods, strict=True):
        own = [row for row in steps if row["method"] == method.name]
        last = max(row["step"] for row in own)
        switched = 0
        for number, seed in enumerate(config.seeds):
            run = [row for row in own if row["seed"] == seed]
            switched += bool(run[-1]["phase"])
            _draw_run(axes, run, _SEEDS[number % len(_SEEDS)])
        axes.axhline(config.sgd / (1 - MOMENTUM), color="black", ls="-.", lw=1)
        for drop in config.drops:
            where = steps_of(drop, config, last // config.epochs)
            axes.axvline(where, color="0.5", ls=":", lw=0.8)
        asked = [row for row in own if not row["phase"]]
        gamma, average = (
            sum((row[name] or 0) < 0 for row in asked)
            for name in ("gamma", "lambda_hat")
        )
        axes.set(xscale="log", yscale="log", xlim=(1, 1.03 * last))
        axes.set_title(
            f"{method.label}: {switched} of {len(config.seeds)} runs switched; "
            rf"not drawn: $\gamma_k<0$ at {gamma}, $\hat\lambda_k<0$ at {average} "
            f"of {len(asked)} steps",
            fontsize=10,
        )
        axes.set_ylabel("estimated rate of SGD")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        plain_axes(axes)
    panels[-1, 0].set_xlabel(f"step ({last // config.epochs} an epoch)")
    shown: Row = {"color": "0.3", "ls": ""}
    handles = [
        Line2D([], [], marker=".", label=r"$\gamma_k$", **shown),
        Line2D([], [], color="0.3", label=r"$\hat\lambda_k$"),
        Line2D([], [], marker="o", label=r"switch, at $\Lambda$", **shown),
        Line2D(
            [],
            [],
            color="black",
            ls="-.",
            label=r"tuned SGD(M) rate / $(1-\beta_1)$",
        ),
        Line2D([], [], color="0.5", ls=":", label="rate of Adam falls to a tenth"),
    ]
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=5,
        fontsize=9,
        frameon=False,
    )
    return png(figure)
