"""What the curves show, as arrays: runs of an optimiser by seed."""

import dataclasses
from typing import Any

import numpy as np

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Curve:
    """One quantity of one run over epochs.

    Attributes:
      epochs: counted from 1.
      values: the quantity, NaN where there is none.
    """

    epochs: np.ndarray
    values: np.ndarray


def curves(rows: list[Row], optimizer: str, name: str) -> list[Curve]:
    """A quantity of every run of an optimiser.

    Args:
      rows: those of ``metrics.jsonl``.
      optimizer: whose.
      name: the quantity's name in the rows.

    Returns:
      A curve per seed, without those that hold no value at all.
    """
    own = [row for row in rows if row["optimizer"] == optimizer]
    found = []
    for seed in dict.fromkeys(row["seed"] for row in own):
        run = [row for row in own if row["seed"] == seed]
        values = [row.get(name) for row in run]
        array = np.array([np.nan if v is None else v for v in values], np.float64)
        if not np.isnan(array).all():
            found.append(Curve(np.array([row["epoch"] for row in run]), array))
    return found


def mean_curve(runs: list[Curve]) -> Curve:
    """The mean over seeds, at each epoch over the runs that have a value there.

    Runs that are not finished, stopped by themselves or began to average at another
    epoch so neither hide the others nor count as zero.

    Args:
      runs: at least one.

    Returns:
      The mean; NaN where no run has a value.
    """
    epochs = np.unique(np.concatenate([curve.epochs for curve in runs]))
    stacked = np.full((len(runs), len(epochs)), np.nan)
    for line, curve in zip(stacked, runs, strict=True):
        line[np.searchsorted(epochs, curve.epochs)] = curve.values
    count = (~np.isnan(stacked)).sum(axis=0)
    total = np.nansum(stacked, axis=0)
    return Curve(epochs, np.where(count > 0, total / np.maximum(count, 1), np.nan))
