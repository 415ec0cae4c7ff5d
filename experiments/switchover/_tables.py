"""Table 1 with ours beside it, the errors, and what the runs say, in sentences."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.configs.p3.switchover import PRINTED_TOL, REPORTED, SwitchoverConfig
from experiments.report._table import interval, plus_minus
from experiments.statistics import summarise
from experiments.switchover._criterion import first_switch, reach
from experiments.switchover._methods import MOMENTUM, SWATS, SWATS_PRINTED, Method

Row = dict[str, Any]
Table = list[tuple[str, ...]]

TABLE_1_HEADER = (
    "model",
    "data",
    "SGDM",
    "Adam",
    "SWATS",
    "Λ",
    "(1−β1)Λ",
    "switch,\nepochs",
    "of",
    "test %: SGDM,\nAdam, SWATS",
)
ERRORS_HEADER = (
    "method",
    "rate",
    "switch, epochs",
    "rate after it",
    "validation error %",
    "test error %",
    "train loss",
    "s/run",
)
TOLERANCES_HEADER = ("tolerance", "switched", "epochs", "Λ")

_BOOTSTRAP_SEED = 0
_TOLERANCES = (PRINTED_TOL, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_WIDTH = 1e-2


def _number(value: float | None, digits: int = 3) -> str:
    return "never" if value is None else f"{value:.{digits}g}"


def table_1(results: Sequence[Row], config: SwitchoverConfig) -> Table:
    """The paper's rows, and below them one per seed and tolerance of ours.

    Args:
      results: rows of ``results.csv``.
      config: the comparison.

    Returns:
      Cells as :data:`TABLE_1_HEADER`.
    """
    table: Table = []
    for model, data, sgd, adam, swats, rate, epoch in REPORTED:
        corrected = f"{(1 - MOMENTUM) * float(rate):.3g}"
        row = (
            model,
            data,
            sgd,
            adam,
            swats,
            rate,
            corrected,
            epoch,
            "300",
            "–",
        )
        table.append(row)
    for row in sorted(results, key=lambda row: row["tol"] or 0):
        if row["tol"] is None:
            continue
        shown = ("sgd", "adam", row["method"])
        accuracies = [100 * _test_accuracy(results, n, row["seed"]) for n in shown]
        table.append(
            (
                f"{row['model']}, tol {row['tol']:g}",
                f"{row['dataset']}, seed {row['seed']}",
                f"{config.sgd:g}",
                f"{config.adam:g}",
                f"{config.swats:g}",
                _number(row["Lambda"]) if row["Lambda"] else "–",
                _number(row["rate_after_switch"]) if row["Lambda"] else "–",
                _number(row["switch_epoch"]),
                str(config.epochs),
                ", ".join(f"{value:.1f}" for value in accuracies),
            )
        )
    return table


def _test_accuracy(results: Sequence[Row], method: str, seed: int) -> float:
    (found,) = (r for r in results if (r["method"], r["seed"]) == (method, seed))
    return found["test_accuracy"]


def errors(results: Sequence[Row], methods: Sequence[Method]) -> Table:
    """Final errors of every method, over its seeds.

    Args:
      results: rows of ``results.csv``.
      methods: in the order of the table.

    Returns:
      Cells as :data:`ERRORS_HEADER`; the interval stands after a line break.
    """
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    table: Table = []
    for method in methods:
        own = [row for row in results if row["method"] == method.name]
        cells = []
        for split in ("validation", "test"):
            percent = [100 * (1 - row[f"{split}_accuracy"]) for row in own]
            summary = summarise(percent, rng)
            cells.append(f"{plus_minus(summary)}\n{interval(summary)}".strip())
        losses = [np.nan if v is None else v for v in (r["train_loss"] for r in own)]
        table.append(
            (
                method.label,
                f"{method.learning_rate:g}",
                _range([row["switch_epoch"] for row in own]) or "–",
                _range([row["rate_after_switch"] for row in own]) or "–",
                *cells,
                f"{np.mean(losses):.4f}",
                f"{np.mean([row['seconds'] for row in own]):.1f}",
            )
        )
    return table


def _range(values: Sequence[float | None]) -> str:
    """Least and largest of those that are there."""
    present = [value for value in values if value is not None]
    if not present:
        return ""
    low, high = (f"{end:.3g}" for end in (min(present), max(present)))
    return low if low == high else f"{low} to {high}"


def _runs(steps: Sequence[Row], name: str) -> list[list[Row]]:
    own = [row for row in steps if row["method"] == name]
    seeds = dict.fromkeys(row["seed"] for row in own)
    return [[row for row in own if row["seed"] == seed] for seed in seeds]


def tolerances(steps: Sequence[Row], steps_per_epoch: int) -> Table:
    """Where each tolerance would have switched the runs of the printed one.

    Args:
      steps: rows of ``steps.csv``.
      steps_per_epoch: steps an epoch has.

    Returns:
      Cells as :data:`TOLERANCES_HEADER`.
    """
    runs = _runs(steps, SWATS_PRINTED)
    table: Table = []
    for tol in _TOLERANCES:
        found = [first_switch(run, tol) for run in runs]
        switches = [switch for switch in found if switch is not None]
        table.append(
            (
                f"{tol:g}",
                f"{len(switches)} of {len(runs)}",
                _range([s.step / steps_per_epoch for s in switches]) or "never",
                _range([s.rate for s in switches]) or "–",
            )
        )
    return table


def findings(
    results: Sequence[Row], steps: Sequence[Row], config: SwitchoverConfig
) -> list[str]:
    """Which runs switched and which never did, and what it is worth.

    Args:
      results: rows of ``results.csv``.
      steps: rows of ``steps.csv``.
      config: the comparison.

    Returns:
      A paragraph for each tolerance and one on the errors.
    """
    near = reach(_runs(steps, SWATS_PRINTED), _WIDTH)
    said = []
    for name in (SWATS_PRINTED, SWATS):
        own = [row for row in results if row["method"] == name]
        tol = own[0]["tol"]
        switched = [row for row in own if row["switch_step"] is not None]
        if switched:
            epochs, rates, after = (
                _range([row[column] for row in switched])
                for column in ("switch_epoch", "Lambda", "rate_after_switch")
            )
            text = (
                f"With tol {tol:g}, {len(switched)} of {len(own)} runs switched, at "
                f"epoch {epochs} of {config.epochs}, with Λ {rates}; (1−β1)Λ, the rate "
                f"that SGD then has, is {after}, where SGD(M) was tuned to "
                f"{config.sgd:g}."
            )
        else:
            text = (
                f"With tol {tol:g}, none of {len(own)} runs ever switched: they are "
                f"Adam to the end."
            )
        if name == SWATS_PRINTED:
            text += (
                f" The difference was below {near.width:g} at {near.within} of "
                f"{near.steps} steps and {near.closest:.2g} at its least."
            )
            wait = near.wait(tol)
            if wait is not None:
                text += (
                    f" If near zero all differences are as likely, {tol:g} fires once "
                    f"in {wait:.1g} steps."
                )
        said.append(text)
    return [*said, _on_errors(results)]


def _on_errors(results: Sequence[Row]) -> str:
    """Paired over seeds: is SWATS better than its parts, and any pair apart?"""
    rng = np.random.default_rng(_BOOTSTRAP_SEED)

    def accuracy(name: str) -> np.ndarray:
        own = [row["test_accuracy"] for row in results if row["method"] == name]
        return np.array(own)

    parts = []
    for other in ("adam", "sgd"):
        gain = summarise((100 * (accuracy(SWATS) - accuracy(other))).tolist(), rng)
        sure = "contains 0" if gain.low <= 0 <= gain.high else "leaves 0 out"
        parts.append(
            f"{gain.mean:+.2f} points against {'Adam' if other == 'adam' else 'SGD(M)'}"
            f" (95 % bootstrap interval [{gain.low:+.2f}, {gain.high:+.2f}], which "
            f"{sure})"
        )
    names = list(dict.fromkeys(row["method"] for row in results))
    gaps = [
        summarise((100 * (accuracy(one) - accuracy(other))).tolist(), rng)
        for one, other in itertools.combinations(names, 2)
    ]
    apart = sum(not gap.low <= 0 <= gap.high for gap in gaps)
    count = len(accuracy(SWATS))
    return (
        f"Test accuracy of SWATS that switched, paired over {count} seeds: "
        f"{parts[0]}; {parts[1]}. One test digit is 0.22 points. Of all "
        f"{len(gaps)} pairs of methods {apart} have an interval without 0; from "
        f"{count} seeds such intervals are too narrow, and some do so by chance."
    )
