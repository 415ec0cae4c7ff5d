"""The grid as numbers and sentences."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from experiments.configs.p1.damping import DampingConfig
from experiments.damping._cells import METHODS, REFERENCE, Cell, cells, methods
from optax_ia.curvature import curvature_ratio

Row = dict[str, Any]

HEADER = (
    "method",
    "rate",
    "damping",
    "damping\n/ rate",
    "spectral norm",
    "training\nerror (%)",
    "validation\nerror (%)",
    "test error\n(%)",
)


_TRAINED = 20.0
"""Training error in percent below which a cell counts as trained."""


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
      name: ``spectral_norm``, ``train_loss``, or a split, whose error in percent it is.

    Returns:
      Both; the deviation is 0 for a single seed, and both are NaN if any run of the
      cell is not finite.
    """
    if name in ("spectral_norm", "train_loss"):
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
      Shape ``(dampings, learning rates)``, of all dampings; NaN where a run is not
      finite, and where there is none.
    """
    shape = (len(config.all_dampings), len(config.learning_rates))
    found = np.full(shape, np.nan)
    for cell in cells(config):
        if cell.method == method and cell.damping is not None:
            row = config.all_dampings.index(cell.damping)
            column = config.learning_rates.index(cell.learning_rate)
            found[row, column] = summarise(rows, cell, name)[0]
    return found


def diagonal(config: DampingConfig) -> list[tuple[float, float]]:
    """The cells at which the damping is ``kappa`` times the rate.

    Args:
      config: the comparison.

    Returns:
      Rates and dampings, from the largest rate down; none without a ``kappa``.
    """
    return [
        (rate, damping)
        for rate in reversed(config.learning_rates)
        for damping in config.dampings_at(rate)
        if config.kappa is not None and np.isclose(damping, config.kappa * rate)
    ]


def _spread(values: tuple[float, float], form: str, seeds: int) -> str:
    mean, deviation = values
    if np.isnan(mean):
        return "diverged"
    return f"{mean:{form}}" + (f" ± {deviation:{form}}" if seeds > 1 else "")


def _dampings(cell: Cell) -> tuple[str, str]:
    if cell.damping is None:
        return "–", "–"
    return f"{cell.damping:g}", f"{cell.damping / cell.learning_rate:.3g}"


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
            *_dampings(cell),
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
    dampings = config.all_dampings
    for column, rate in enumerate(config.learning_rates):
        norm, error = norms[:, column], errors[:, column]
        finite = np.isfinite(norm) & np.isfinite(error)
        if not finite.any():
            texts.append(f"At rate {rate:g} every cell diverged.")
            continue
        best = np.nanargmin(np.where(finite, error, np.nan))
        first = np.flatnonzero(finite)[0]
        texts.append(
            f"At rate {rate:g} the damping {dampings[best]:g} ends with the "
            f"least test error, {error[best]:.2f} %, and norm {norm[best]:.3g}"
            + (
                "."
                if best == first
                else f"; {dampings[first]:g} with {error[first]:.2f} % and "
                f"{norm[first]:.3g}."
            )
        )
    return " ".join(texts)


def _along_the_diagonal(rows: Sequence[Row], config: DampingConfig, method: str) -> str:
    """What the errors and the norm do while rate and damping fall together."""
    found = diagonal(config)
    chosen = [Cell(method, *place, 0.0) for place in found]
    rates = [f"{rate:g}" for rate, _ in found]
    means = {
        name: [summarise(rows, cell, name)[0] for cell in chosen]
        for name in ("train", "test", "spectral_norm")
    }
    ratios = [
        curvature_ratio(norm, 0.0, damping)
        for norm, (_, damping) in zip(means["spectral_norm"], found, strict=True)
    ]

    def listed(values, form):
        return ", ".join(
            f"{value:{form}}" if np.isfinite(value) else "diverged" for value in values
        )

    return (
        f"{METHODS[method]} with the damping {config.kappa:g} times the rate, at rates "
        f"{', '.join(rates)}: training error {listed(means['train'], '.2f')} %, test "
        f"error {listed(means['test'], '.2f')} %, spectral norm "
        f"{listed(means['spectral_norm'], '.3g')}, and 1 + norm / damping "
        f"{listed(ratios, '.3g')} (P1, K-FAC: training hardly changes, the validation "
        "error rises from 35 to 37.8 %, the norm from 6.7 to 48)."
    )


def _ranks(rows: Sequence[Row], config: DampingConfig, name: str) -> list[str]:
    """The rank correlation of the spectral norm with a quantity, by method.

    Over the cells that trained: a network whose units are dead has no curvature.
    """
    parts = []
    for method in methods(config):
        norm = grid(rows, config, method, "spectral_norm").ravel()
        other = grid(rows, config, method, name).ravel()
        trained = grid(rows, config, method, "train").ravel() < _TRAINED
        finite = np.isfinite(norm) & np.isfinite(other) & trained
        if len(set(norm[finite])) < 3 or len(set(other[finite])) < 3:
            continue
        rank: Any = spearmanr(norm[finite], other[finite])
        parts.append(f"{rank.statistic:+.2f} for {METHODS[method]}")
    return parts


def finding(rows: Sequence[Row], config: DampingConfig, test_images: int) -> list[str]:
    """What came out, in sentences.

    Args:
      rows: those of ``results.csv``.
      config: the comparison.
      test_images: how many there are.

    Returns:
      A paragraph per method, one on the diagonal if there is one, and one on norm and
      error together.
    """
    texts = [_one_method(rows, config, method) for method in methods(config)]
    if diagonal(config):
        texts += [_along_the_diagonal(rows, config, name) for name in methods(config)]
    last = []
    for name, called in (("test", "test error"), ("train_loss", "training loss")):
        parts = _ranks(rows, config, name)
        if parts:
            last.append(
                f"Over the cells with a training error below {_TRAINED:g} %, the rank "
                f"correlation of spectral norm and {called} is {' and '.join(parts)}."
            )
    for cell in cells(config):
        if cell.method == REFERENCE:
            error = _spread(summarise(rows, cell, "test"), ".2f", 1)
            norm = _spread(summarise(rows, cell, "spectral_norm"), ".3g", 1)
            last.append(
                f"{METHODS[REFERENCE]} at rate {cell.learning_rate:g}: test error (%) "
                f"{error}, norm {norm}."
            )
    last.append(
        f"One of the {test_images} test images is {100 / test_images:.2f} points; "
        f"seeds: {len(config.seeds)}."
    )
    return [*texts, " ".join(last)]
