"""The curves, the heat maps and the page."""

import inspect
import json
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.colors import PowerNorm, to_hex
from matplotlib.figure import Figure

from experiments.configs.p1 import lanczos as lab_note
from experiments.configs.p1.lanczos import LanczosConfig
from experiments.files import write_atomically
from experiments.lanczos._runs import Run, Task
from experiments.lanczos._tables import HEADER, differences, finding, label, table
from experiments.report import _page
from experiments.report._axes import log_percent, plain_axes, png
from experiments.run_folder import RunFolder

_FLOOR = 0.05
"""Percent that stands for no error at all on the log axis: half a training image."""
_SPLITS = {"train": "training", "test": "test"}
_NAMES = {
    "digits": "scikit-learn's digits",
    "fashion_mnist": "Fashion-MNIST",
    "mnist": "MNIST",
}


def _colours(config: LanczosConfig) -> dict[float, str]:
    """A colour for each damping, the darkest for the smallest."""
    shades = np.linspace(0, 0.85, len(config.dampings))
    colours = mpl.colormaps["viridis"](shades)
    names = [to_hex(colour) for colour in colours]
    return dict(zip(config.dampings, names, strict=True))


def error_curves(runs: Sequence[Run], config: LanczosConfig) -> bytes:
    """Both errors over the updates: a column per sharp scale (P1, fig. 2).

    Args:
      runs: the runs.
      config: the comparison.

    Returns:
      A PNG file.
    """
    colours, scales = _colours(config), config.sharp_scales
    figure = Figure(figsize=(1.5 + 3 * len(scales), 6), layout="constrained")
    panels = figure.subplots(2, len(scales), sharex=True, sharey="row", squeeze=False)
    updates = np.arange(config.updates + 1)
    for line, (split, word) in zip(panels, _SPLITS.items(), strict=True):
        for axes, scale in zip(line, scales, strict=True):
            for run in runs:
                damping, own = run.row["damping"], run.row["sharp_scale"]
                if own not in (None, scale):
                    continue
                name, colour, style = "gradient descent", "black", "--"
                if damping is not None:
                    name, colour, style = f"δ = {damping:g}", colours[damping], "-"
                errors = np.maximum(100 * run.curves[f"{split}_error"], _FLOOR)
                axes.plot(updates, errors, style, color=colour, lw=1.3, label=name)
            plain_axes(axes)
            log_percent(axes)
            axes.margins(x=0.01)
            if split == "train":
                axes.set_title(rf"LOPT, $\eta$ = {scale:g}", fontsize=11)
            else:
                axes.set_xlabel("update")
        line[0].set_ylabel(f"{word} error (%)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=min(1 + 2 * len(scales), len(labels)),
        frameon=False,
    )
    return png(figure)


def heat_maps(runs: Sequence[Run], config: LanczosConfig) -> bytes:
    """Errors above the best run's, over damping and sharp scale (P1, fig. 3).

    Args:
      runs: the runs.
      config: the comparison.

    Returns:
      A PNG file.
    """
    found = [differences(runs, config, split) for split in _SPLITS]
    every = np.concatenate(found).ravel()
    every = every[np.isfinite(every)]
    top = max(float(every.max(initial=0)), 1e-9)
    # one map for both panels; the root keeps small differences apart beside large
    norm = PowerNorm(0.5, vmin=0, vmax=top)
    height = 1.6 + 0.5 * len(config.dampings)
    figure = Figure(figsize=(8, height), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    image = None
    for axes, points, word in zip(panels, found, _SPLITS.values(), strict=True):
        shown = np.ma.masked_invalid(points)
        image = axes.imshow(shown, cmap="Blues", norm=norm, aspect="auto")
        for (row, column), value in np.ndenumerate(points):
            known = np.isfinite(value)
            dark = known and norm(value) > 0.6
            axes.text(
                column,
                row,
                f"{value:.1f}" if known else "diverged",
                ha="center",
                va="center",
                color="white" if dark else "black",
            )
        scales, dampings = config.sharp_scales, config.dampings
        axes.set_xticks(range(len(scales)), [f"{scale:g}" for scale in scales])
        axes.set_yticks(range(len(dampings)), [f"{damping:g}" for damping in dampings])
        axes.set(xlabel=r"sharp scale $\eta$", title=f"{word} error")
        axes.tick_params(length=0)
    panels[0].set_ylabel(r"damping $\delta$")
    if image is not None:
        bar = figure.colorbar(image, ax=panels, fraction=0.04)
        bar.set_label("points above the best run")
    return png(figure)


def write(
    folder: RunFolder, config: LanczosConfig, task: Task, runs: Sequence[Run]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Writes the figures, ``table.md`` and ``report.html``.

    Args:
      folder: where to.
      config: the comparison.
      task: what was fitted.
      runs: the runs.

    Returns:
      The table's lines, and what came out in sentences.
    """
    curves, maps = error_curves(runs, config), heat_maps(runs, config)
    lines, said = table(runs), finding(runs, config, task)
    write_atomically(folder.path / "errors.png", curves)
    write_atomically(folder.path / "maps.png", maps)
    write_atomically(folder.path / "table.md", _page.markdown(HEADER, lines))
    where, paper = _NAMES[config.dataset], ""
    if config.dataset != "mnist":
        paper = ", where P1 has 1000 and 10000 images of MNIST and 7850 parameters"
    about = (
        f"{len(task.train)} training and {len(task.test)} test images of {where}, "
        f"{task.train.start.size} parameters{paper}. {config.updates} updates over all "
        "training images, without a penalty, in float64, from zero; seed "
        f"{config.seed}."
    )
    names = ", ".join(dict.fromkeys(label(run) for run in runs))
    ratios = (
        "R_est-curv = 1 + η (λ_1 - λ_P) / δ, with the extreme Ritz values of the first "
        "and of the last update; the factor belongs there because the step divides by "
        "η λ + δ. For gradient descent it is 1. All errors are those of the last "
        f"update but the last column, the least of any update. Methods: {names}."
    )
    floor = f"What has no error at all is drawn at {_FLOOR:g} %."
    page = _page.make_page(
        title=f"LanczosOPT: logistic regression on {config.dataset}",
        finding=said,
        sections=[
            ("What was fitted", _page.paragraph(about)),
            (
                "Errors over the updates (P1, fig. 2)",
                _page.picture("training and test errors over the updates", curves)
                + _page.paragraph(floor),
            ),
            (
                "Errors above the best run (P1, fig. 3)",
                _page.picture("differences from the best error", maps)
                + _page.paragraph(
                    "Percentage points at the last update, above the least error of "
                    "any run of LanczosOPT. Darker is worse; a run whose loss ends "
                    "above that of the start has diverged."
                ),
            ),
            ("Numbers", _page.make_table(HEADER, lines) + _page.paragraph(ratios)),
        ],
        description=json.loads((folder.path / "config.json").read_text()),
        note=inspect.getdoc(lab_note) or "",
    )
    write_atomically(folder.path / "report.html", page)
    return lines, said
