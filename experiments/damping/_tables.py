"""The grid as numbers and sentences."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from experiments.configs.p1.damping import DampingConfig
from experiments.damping._runs import METHODS, Cell, cells

Row = dict[str, Any]

HEADER = (
    "method",
    "rate",
    "damping",
    "spectral norm",
    "training\nerror (%)",
    "validation\nerror (%)",
    "test error\n(%)",
)


def _values(rows: Sequence[Row], cell: Cell, name: str) -> np.ndarray:
    """A column over the seeds of a cell, NaN where there is no number."""
    found = [
        row[name]
        for row in rows
        if (row["method"], row["learning_rate"], row["damping"])
        == (cell.method, cell.learning_rate, cell.damping)
    ]
    return np.array(found, np.float64)


def summarise(rows: Sequence[Row], cell: Cell, name: str) -> tuple[float, float]:
    """Mean and deviation over the seeds of a cell.

    Args:
      rows: those of ``results.csv``.
      cell: which.
      name: ``spectral_norm``, or a split, whose error in percent it is.

    Returns:
      Both; the deviation is 0 for a single seed, and both are NaN if any run of the
      cell is not finite.
    """
    if name == "spectral_norm":
        values = _values(rows, cell, name)
    else:
        values = 100 * (1 - _values(rows, cell, f"{name}_accuracy"))
        broken = np.isnan(_values(rows, cell, f"{name}_loss"))
        values = np.where(broken, np.nan, values)
    spread = values.std(ddof=1) if len(values) > 1 else 0 * values.sum()
    return values.mean().item(), float(spread)


def grid(
    rows: Sequence[Row], config: DampingConfig, method: str, name: str
) -> np.ndarray:
    """The means of one method.

    Args:
      rows: those of ``results.csv``.
      config: the comparison.
      method: a registry name.
      name: as :func:`summarise` has it.

    Returns:
      Shape ``(dampings, learning rates)``.
    """
    means = [
        summarise(rows, cell, name)[0]
        for cell in cells(config)
        if cell.method == method
    ]
    shape = (len(config.learning_rates), len(config.dampings))
    return np.reshape(means, shape).T


def _spread(values: tuple[float, float], form: str, seeds: int) -> str:
    mean, deviation = values
    if np.isnan(mean):
        return "diverged"
    return f"{mean:{form}}" + (f" ± {deviation:{form}}" if seeds > 1 else "")


def table(rows: Sequence[Row], config: DampingConfig) -> list[tuple[str, ...]]:
    """A line per cell.

    Args:
      rows: those of ``results.csv``.
      config: the comparison.

    Returns:
      Cells as :data:`HEADER`.
    """
    seeds = len(config.seeds)
    return [
        (
            METHODS[cell.method],
            f"{cell.learning_rate:g}",
            f"{cell.damping:g}",
            _spread(summarise(rows, cell, "spectral_norm"), ".3g", seeds),
            *(
                _spread(summarise(rows, cell, split), ".2f", seeds)
                for split in ("train", "validation", "test")
            ),
        )
        for cell in cells(config)
    ]


def _one_method(rows: Sequence[Row], config: DampingConfig, method: str) -> str:
    """Whether the norm falls with the damping, and which cell is best."""
    norms = grid(rows, config, method, "spectral_norm")
    errors = grid(rows, config, method, "test")
    changes = np.diff(norms, axis=0)
    known = np.isfinite(changes)
    texts = [
        f"{METHODS[method]}: from one damping to the next larger, the spectral norm "
        f"falls in {int((changes[known] < 0).sum())} of {int(known.sum())} cases (P1: "
        "always)."
    ]
    for column, rate in enumerate(config.learning_rates):
        norm, error = norms[:, column], errors[:, column]
        finite = np.isfinite(norm) & np.isfinite(error)
        if not finite.any():
            texts.append(f"At rate {rate:g} every cell diverged.")
            continue
        best = np.nanargmin(np.where(finite, error, np.nan))
        first = np.flatnonzero(finite)[0]
        texts.append(
            f"At rate {rate:g} the damping {config.dampings[best]:g} ends with the "
            f"least test error, {error[best]:.2f} %, and norm {norm[best]:.3g}"
            + (
                "."
                if best == first
                else f"; {config.dampings[first]:g} with {error[first]:.2f} % and "
                f"{norm[first]:.3g}."
            )
        )
    return " ".join(texts)


def finding(rows: Sequence[Row], config: DampingConfig, test_images: int) -> list[str]:
    """What came out, in sentences.

    Args:
      rows: those of ``results.csv``.
      config: the comparison.
      test_images: how many there are.

    Returns:
      A paragraph per method, and one on norm and error together.
    """
    texts = [_one_method(rows, config, method) for method in METHODS]
    parts = []
    for method, name in METHODS.items():
        norm = grid(rows, config, method, "spectral_norm").ravel()
        error = grid(rows, config, method, "test").ravel()
        finite = np.isfinite(norm) & np.isfinite(error)
        if len(set(norm[finite])) < 3 or len(set(error[finite])) < 3:
            continue
        rank: Any = spearmanr(norm[finite], error[finite])
        parts.append(f"{rank.statistic:+.2f} for {name}")
    rank_text = ""
    if parts:
        rank_text = (
            "Over the cells, the rank correlation of spectral norm and test error is "
            f"{' and '.join(parts)}. "
        )
    texts.append(
        f"{rank_text}One of the {test_images} test images is {100 / test_images:.2f} "
        f"points; seeds: {len(config.seeds)}."
    )
    return texts
