"""Figure, table and page of the comparison of draws."""

import inspect
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.configs.p2 import sampling as lab_note
from experiments.configs.p2.sampling import SamplingConfig
from experiments.files import write_atomically
from experiments.report import _page
from experiments.report._axes import plain_axes, png, stacked
from experiments.run_folder import RunFolder
from experiments.sampling._study import MEASURES, differences, shows, values
from experiments.statistics import Summary

Row = dict[str, Any]

HEADER = (
    "measure",
    "without\nreplacement",
    "with\nreplacement",
    "paired difference,\n95 % interval",
    "shows",
)
_COLOURS = {"without": "#0072B2", "with": "#D55E00"}
_LABELS = {"without": "without replacement", "with": "with replacement"}


def curves(rows: Sequence[Row]) -> bytes:
    """Training loss and test accuracy over epochs: mean, and band of a deviation.

    Args:
      rows: those of ``metrics.jsonl``.

    Returns:
      A PNG file.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    low = 100.0
    for draw, colour in _COLOURS.items():
        own = [row for row in rows if row["draw"] == draw]
        logs = np.log10(stacked(own, "fitted_loss"))
        accuracy = 100 * stacked(own, "test_accuracy")
        epochs = np.arange(1, logs.shape[1] + 1)
        low = min(low, accuracy[:, min(4, len(epochs) - 1)].mean())
        for axes, sample, log in ((losses, logs, True), (accuracies, accuracy, False)):
            mean = sample.mean(axis=0)
            spread = sample.std(axis=0, ddof=1) if len(sample) > 1 else 0 * mean
            middle, below, above = (
                10**values if log else values
                for values in (mean, mean - spread, mean + spread)
            )
            axes.plot(epochs, middle, color=colour, label=_LABELS[draw])
            axes.fill_between(epochs, below, above, color=colour, alpha=0.15, lw=0)
    losses.set(title="training loss, all images", xlabel="epoch", yscale="log")
    accuracies.set(title="test accuracy (%)", xlabel="epoch")
    # the first epochs, far below, would press the rest together
    accuracies.set_ylim(low - 5, 100)
    for axes in (losses, accuracies):
        plain_axes(axes)
    handles, labels = losses.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return png(figure)


def table(results: Sequence[Row]) -> list[tuple[str, ...]]:
    """Each measure with both draws, and their paired difference.

    Args:
      results: rows of ``results.csv``.

    Returns:
      Cells as :data:`HEADER`.
    """
    lines = []
    for measure, difference in differences(results).items():
        cells = []
        for draw in _COLOURS:
            sample = np.array(values(results, draw, measure))
            spread = sample.std(ddof=1) if len(sample) > 1 else 0.0
            cells.append(f"{sample.mean():.4g} ± {spread:.2g}")
        lines.append(
            (
                MEASURES[measure],
                *cells,
                f"{difference.mean:+.3g}\n"
                f"[{difference.low:+.3g}, {difference.high:+.3g}]",
                "yes" if shows(difference) else "no",
            )
        )
    return lines


def finding(results: Sequence[Row], config: SamplingConfig) -> list[str]:
    """Whether a difference shows, in sentences.

    Args:
      results: rows of ``results.csv``.
      config: the comparison.

    Returns:
      A paragraph on the test accuracy and one on the training loss.
    """
    found = differences(results)
    count = len(config.seeds)
    texts = []
    for kind, names, unit in (
        ("test accuracy", ("final_test_accuracy", "mean_test_accuracy"), " points"),
        ("training loss", ("final_train_loss", "mean_log_train_loss"), ""),
    ):
        seen = [name for name in names if shows(found[name])]
        verdict = "shows" if seen else "does not show"
        details = "; ".join(
            f"{MEASURES[name]}: {_signed(found[name], unit)}" for name in names
        )
        texts.append(
            f"On {config.dataset} a difference in {kind} {verdict}. Without minus with "
            f"replacement, paired over {count} seeds: {details}."
        )
    return texts


def _signed(difference: Summary, unit: str) -> str:
    return (
        f"{difference.mean:+.3g}{unit}, 95 % bootstrap interval "
        f"[{difference.low:+.3g}, {difference.high:+.3g}]"
    )


_ABOUT = (
    "Mean ± sample deviation over seeds. The difference is taken seed by seed, both "
    "runs of a pair starting from the same parameters; its interval resamples seeds "
    "and holds the test set fixed. It shows if the interval leaves 0 out; four such "
    "intervals are looked at, so one of them is wrong more often than one time in "
    "twenty. Mean over epochs weighs the whole curve, the last epoch its end alone."
)


def write(
    folder: RunFolder, config: SamplingConfig, results: Sequence[Row]
) -> list[str]:
    """Writes the figure, ``table.md`` and ``report.html``.

    Args:
      folder: where to; ``metrics.jsonl`` is read from it.
      config: the comparison.
      results: rows of ``results.csv``.

    Returns:
      What came out, in sentences.
    """
    figure, lines = curves(folder.rows()), table(results)
    said = finding(results, config)
    write_atomically(folder.path / "curves.png", figure)
    write_atomically(folder.path / "table.md", _page.markdown(HEADER, lines))
    page = _page.make_page(
        title=f"sampling: {config.model} on {config.dataset}",
        finding=said,
        sections=[
            (
                "Training loss and test accuracy (P2, fig. 6)",
                _page.picture("loss and accuracy over epochs", figure)
                + _page.paragraph(
                    "Mean over seeds (of the logarithm of the loss), band of one "
                    "deviation."
                ),
            ),
            (
                "Paired differences",
                _page.make_table(HEADER, lines) + _page.paragraph(_ABOUT),
            ),
        ],
        description=json.loads((folder.path / "config.json").read_text()),
        note=inspect.getdoc(lab_note) or "",
    )
    write_atomically(folder.path / "report.html", page)
    return said
