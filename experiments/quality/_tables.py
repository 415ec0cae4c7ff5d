"""Correlations of Q with test accuracy and gap, and the grid as a table."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from experiments.configs.p4.quality import QualityConfig

Row = dict[str, Any]

MEASURES = {
    "test_accuracy": "test accuracy",
    "accuracy_gap": "gap of accuracies, training - test",
    "loss_gap": "gap of losses, test - training",
}
"""What Q is compared with."""


@dataclasses.dataclass(frozen=True)
class Correlation:
    """Two correlations of Q with a measure over some runs.

    Attributes:
      count: number of runs.
      pearson: P4's PLCC; NaN where one of the two does not vary.
      interval: its 95 % interval by Fisher's transformation, as if runs were
        independent.
      spearman: P4's ROCC, of ranks.
    """

    count: int
    pearson: float
    interval: tuple[float, float]
    spearman: float


def correlate(rows: Sequence[Row], measure: str) -> Correlation:
    """Correlates Q with a measure.

    Args:
      rows: those of ``results.csv``; runs that diverged, or whose layers are all noise,
        are left out.
      measure: one of :data:`MEASURES`.

    Returns:
      The correlations.
    """
    known = [row for row in rows if None not in (row["quality"], row[measure])]
    quality = np.array([row["quality"] for row in known], float)
    values = np.array([row[measure] for row in known], float)
    if len(known) < 3 or np.ptp(quality) == 0 or np.ptp(values) == 0:
        return Correlation(len(known), np.nan, (np.nan, np.nan), np.nan)
    pearson: Any = stats.pearsonr(quality, values)
    low, high = np.nan, np.nan
    if len(known) > 3:
        low, high = pearson.confidence_interval()
    spearman: Any = stats.spearmanr(quality, values)
    return Correlation(
        len(known),
        float(pearson.statistic),
        (float(low), float(high)),
        float(spearman.statistic),
    )


HEADER = ("Q against", "networks", "runs", "PLCC", "95 % interval", "ROCC")


def table(rows: Sequence[Row], config: QualityConfig) -> list[tuple[str, ...]]:
    """Correlations over all runs, and over those of one width.

    Args:
      rows: those of ``results.csv``.
      config: the grid.

    Returns:
      Lines, by :data:`HEADER`.
    """
    lines = []
    for measure, name in MEASURES.items():
        groups = {"all": list(rows)} | {
            f"width {width}": [row for row in rows if row["width"] == width]
            for width in config.widths
        }
        for label, group in groups.items():
            found = correlate(group, measure)
            low, high = found.interval
            lines.append(
                (
                    name,
                    label,
                    str(found.count),
                    _number(found.pearson),
                    f"[{_number(low)}, {_number(high)}]",
                    _number(found.spearman),
                )
            )
    return lines


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:+.2f}"


GRID_HEADER = (
    "optimiser",
    "width",
    "seeds",
    "Q",
    "test\naccuracy (%)",
    "gap\n(points)",
    "s/run",
)


def grid(rows: Sequence[Row], config: QualityConfig) -> list[tuple[str, ...]]:
    """Means and deviations over seeds, cell by cell.

    Args:
      rows: those of ``results.csv``.
      config: the grid.

    Returns:
      Lines, by :data:`GRID_HEADER`.
    """
    lines = []
    for name in config.optimizers:
        for width in config.widths:
            own = [r for r in rows if (r["optimizer"], r["width"]) == (name, width)]
            lines.append(
                (
                    name,
                    str(width),
                    str(len(own)),
                    _spread([row["quality"] for row in own]),
                    _spread([100 * row["test_accuracy"] for row in own]),
                    _spread([100 * row["accuracy_gap"] for row in own]),
                    f"{np.mean([row['seconds'] for row in own]):.1f}",
                )
            )
    return lines


def _spread(values: Sequence[float | None]) -> str:
    known = np.array([value for value in values if value is not None], float)
    if not known.size:
        return "–"
    if known.size == 1:
        return f"{known[0]:.2f}"
    return f"{known.mean():.2f} ± {known.std(ddof=1):.2f}"


def rises(layers: Sequence[Row], optimizer: str) -> tuple[int, int]:
    """How often a layer's stable rank grows from one epoch to the next.

    Args:
      layers: the rows of ``layers.csv``.
      optimizer: whose.

    Returns:
      The number of pairs of epochs in which it did not fall, and that of all pairs
      (P4, theorem 1, says that it grows).
    """
    series: dict[Any, list[float]] = {}
    for row in layers:
        if row["optimizer"] == optimizer:
            rank = row["stable_rank"]
            place = row["width"], row["seed"], row["layer"]
            series.setdefault(place, []).append(np.nan if rank is None else rank)
    steps = np.concatenate([np.diff(ranks) for ranks in series.values()] or [[]])
    steps = steps[np.isfinite(steps)]
    return int((steps >= 0).sum()), len(steps)


def finding(
    rows: Sequence[Row], layers: Sequence[Row], config: QualityConfig
) -> list[str]:
    """What came out, in sentences.

    Args:
      rows: those of ``results.csv``.
      layers: those of ``layers.csv``.
      config: the grid.

    Returns:
      One sentence for each measure, and one for theorem 1.
    """
    said = []
    for measure, name in MEASURES.items():
        found = correlate(rows, measure)
        if np.isnan(found.pearson):
            said.append(f"Q and {name}: too few runs that differ to correlate.")
            continue
        low, high = found.interval
        said.append(
            f"Q and {name}: PLCC {found.pearson:+.2f} [{low:+.2f}, {high:+.2f}], ROCC "
            f"{found.spearman:+.2f} over {found.count} runs."
        )
    for name in [name for name in ("rmsgd", "sgd") if name in config.optimizers]:
        grew, total = rises(layers, name)
        if total:
            said.append(
                f"With {name} a layer's stable rank did not fall from one epoch to the "
                f"next in {grew} of {total} cases ({100 * grew / total:.0f} %)."
            )
    return said
