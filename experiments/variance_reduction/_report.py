"""The gaps as numbers, sentences, figure and page."""

import dataclasses
import inspect
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.configs.p2 import variance_reduction as lab_note
from experiments.configs.p2.variance_reduction import VarianceReductionConfig
from experiments.files import write_atomically
from experiments.report import _page
from experiments.report._axes import plain_axes, png, stacked
from experiments.run_folder import RunFolder
from experiments.variance_reduction._problem import Minimum
from experiments.variance_reduction._runs import Method

Row = dict[str, Any]

HEADER = (
    "method",
    "passes\nper epoch",
    "gap at the end,\nmedian [least, largest]",
    "passes\nto 1e-6",
    "factor\nper snapshot",
)

# Okabe and Ito's colours, told apart by every common kind of colour vision.
_COLOURS = {
    "sgd": "#000000",
    "sgd_decay": "#E69F00",
    "svrg": "#0072B2",
    "svrg_large": "#D55E00",
    "svrg_large_often": "#009E73",
}
_SMALL = 1e-6
_FITTED = (1e-12, 1e-3)
"""Gaps between which the fall is fitted: near the minimum, far above rounding."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a method's runs came to.

    Attributes:
      method: the method.
      epochs: of each run.
      ends: per seed the median gap over the last tenth of the epochs; NaN after
        divergence.
      passes: until the median over seeds is below 1e-6, or None.
      factor: by which the gap is multiplied from one snapshot to the next, or None
        for a method that takes none or stalls.
    """

    method: Method
    epochs: int
    ends: np.ndarray
    passes: float | None
    factor: float | None

    @property
    def end(self) -> float:
        """The median over seeds."""
        return np.median(self.ends).item()


def _gaps(rows: Sequence[Row], method: Method) -> np.ndarray:
    """Gaps ``(seeds, epochs + 1)``, NaN after divergence."""
    return stacked([row for row in rows if row["method"] == method.name], "gap")


def fitted_factor(gaps: np.ndarray) -> float | None:
    """By what an epoch multiplies a gap that falls linearly, fitted in logarithms.

    Args:
      gaps: after each epoch.

    Returns:
      The factor between the first epochs below 1e-3 and below 1e-12; None for a gap
      that does not get there or takes fewer than three epochs.
    """
    low, high = _FITTED
    if not (gaps < low).any():
        return None
    first, last = int(np.argmax(gaps < high)), int(np.argmax(gaps < low))
    if last - first < 3:
        return None
    slope = np.polyfit(np.arange(first, last), np.log(gaps[first:last]), 1)[0]
    return float(np.exp(slope))


def summarise(rows: Sequence[Row], method: Method) -> Summary:
    """Sums a method's runs up.

    Args:
      rows: those of all methods.
      method: the one to sum up.

    Returns:
      Its summary.
    """
    gaps = _gaps(rows, method)
    epochs = gaps.shape[1] - 1
    middle = np.median(gaps, axis=0)
    factor = fitted_factor(middle) if method.snapshot_every else None
    return Summary(
        method,
        epochs,
        ends=np.median(gaps[:, -max(1, epochs // 10) :], axis=1),
        passes=method.passes(int(np.argmax(middle < _SMALL)))
        if (middle < _SMALL).any()
        else None,
        factor=factor and factor ** (method.snapshot_every / method.steps),
    )


def _number(gap: float, rounding: float) -> str:
    if np.isnan(gap):
        return "diverged"
    return f"{gap:.1e}" if gap > 10 * rounding else "rounding"


def table(summaries: Sequence[Summary], minimum: Minimum) -> list[tuple[str, ...]]:
    """A line per method.

    Args:
      summaries: those of the methods.
      minimum: for the rounding of its value.

    Returns:
      Cells as :data:`HEADER`.
    """
    rounding = np.spacing(minimum.value).item()
    lines = []
    for one in summaries:
        end, least, largest = (
            _number(gap, rounding)
            for gap in (one.end, one.ends.min().item(), one.ends.max().item())
        )
        spread = "" if least == largest else f" [{least}, {largest}]"
        lines.append(
            (
                one.method.label,
                f"{one.method.passes(one.epochs) / one.epochs:.2f}",
                end + spread,
                "–" if one.passes is None else f"{one.passes:.0f}",
                "–" if one.factor is None else f"{one.factor:.3f}",
            )
        )
    return lines


def finding(
    summaries: Sequence[Summary], config: VarianceReductionConfig, minimum: Minimum
) -> list[str]:
    """What came out, in sentences.

    Args:
      summaries: those of the methods.
      config: the comparison.
      minimum: of the loss.

    Returns:
      A paragraph on the full gradient and one on the large batch.
    """
    by_name = {one.method.name: one for one in summaries}
    rounding = np.spacing(minimum.value).item()
    sgd, svrg = by_name["sgd"], by_name["svrg"]
    fall = "does not fall linearly to 1e-12"
    if svrg.factor is not None:
        steps = svrg.method.snapshot_every
        descent = (1 - config.learning_rate * minimum.smallest) ** (2 * steps)
        fall = (
            f"falls by the factor {svrg.factor:.3f} from snapshot to snapshot (as many "
            f"steps of gradient descent, at the smallest eigenvalue: {descent:.3f})"
        )
    texts = [
        f"The gap of SVRG with the full gradient {fall}; at the end: "
        f"{_number(svrg.end, rounding)}. SGD at the same rate ends at "
        f"{_number(sgd.end, rounding)}, with a decaying rate at "
        f"{_number(by_name['sgd_decay'].end, rounding)}."
    ]
    parts = []
    for name in ("svrg_large", "svrg_large_often"):
        one = by_name[name]
        ratio = one.end / sgd.end
        word = "above" if ratio > 1 else "below"
        times = max(ratio, 1 / ratio)
        end = _number(one.end, rounding)
        parts.append(
            f"snapshots every {one.method.snapshot_every} steps end at {end}"
            + ("" if np.isnan(ratio) else f", {times:.1f} times {word} SGD")
        )
    share = f"{config.large_batch:.0%}"
    texts.append(f"With {share} of the data for a snapshot: {'; '.join(parts)}.")
    return texts


def figure(rows: Sequence[Row], methods: Sequence[Method], minimum: Minimum) -> bytes:
    """Gaps over passes: every seed thin, their median thick.

    Args:
      rows: those of all methods.
      methods: those to draw.
      minimum: for the rounding of its value.

    Returns:
      A PNG file.
    """
    rounding = np.spacing(minimum.value).item()
    panel = Figure(figsize=(8, 5.2), layout="constrained")
    axes = panel.subplots()
    for method in methods:
        gaps = _gaps(rows, method)
        passes = [method.passes(epoch) for epoch in range(gaps.shape[1])]
        # a log axis has no zero, and below rounding there is nothing to see
        gaps = np.maximum(gaps, rounding)
        colour = _COLOURS[method.name]
        axes.plot(passes, gaps.T, color=colour, alpha=0.25, lw=0.6)
        middle = np.median(gaps, axis=0)
        axes.plot(passes, middle, color=colour, lw=1.8, label=method.label)
    axes.axhline(rounding, color="0.5", ls=":", lw=1, label="rounding of f*")
    axes.set(yscale="log", xlabel="passes over the data", ylabel="f(w) - f*")
    axes.margins(x=0.01)
    plain_axes(axes)
    panel.legend(loc="outside upper center", ncols=3, frameon=False)
    return png(panel)


def write(
    folder: RunFolder,
    config: VarianceReductionConfig,
    minimum: Minimum,
    rows: Sequence[Row],
    methods: Sequence[Method],
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Writes the figure, ``table.md`` and ``report.html``.

    Args:
      folder: where to.
      config: the comparison.
      minimum: of the loss.
      rows: those of all methods.
      methods: what was run.

    Returns:
      The table's lines, and what came out in sentences.
    """
    summaries = [summarise(rows, method) for method in methods]
    picture = figure(rows, methods, minimum)
    lines, said = table(summaries, minimum), finding(summaries, config, minimum)
    write_atomically(folder.path / "gaps.png", picture)
    write_atomically(folder.path / "table.md", _page.markdown(HEADER, lines))
    about = (
        f"Minimum f* = {minimum.value:.15g}, where the gradient's norm is "
        f"{minimum.gradient_norm:.1e} and the Hessian's eigenvalues lie between "
        f"{minimum.smallest:.3g} and {minimum.largest:.3g}. A gap at the end is the "
        "median over the last tenth of a run's epochs. The factor is fitted between "
        "gaps of 1e-3 and 1e-12; SGD takes no snapshots, and what stalls has none."
    )
    page = _page.make_page(
        title="variance reduction: logistic regression on digits",
        finding=said,
        sections=[
            (
                "Gap to the minimum (P2, 4.3.1)",
                _page.picture("gap to the minimum over passes", picture)
                + _page.paragraph(
                    "Thin: a seed. Thick: the median over seeds. A pass is as many "
                    "gradients of single examples as there are examples; a step of "
                    "SVRG takes two per example."
                ),
            ),
            ("Numbers", _page.make_table(HEADER, lines) + _page.paragraph(about)),
        ],
        description=json.loads((folder.path / "config.json").read_text()),
        note=inspect.getdoc(lab_note) or "",
    )
    write_atomically(folder.path / "report.html", page)
    return lines, said
