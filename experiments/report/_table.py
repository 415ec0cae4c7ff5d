"""The table of a comparison: one line per optimiser, over its seeds."""

import dataclasses
from typing import Any

import numpy as np

from experiments.configs.p0.digits import REPORTED
from experiments.configs.p2.second_order import REPORTED as P2_REPORTED
from experiments.configs.p4.digits import REPORTED as P4_REPORTED
from experiments.statistics import Summary, summarise

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Line:
    """What is reported of one optimiser.

    Attributes:
      optimizer: its name.
      learning_rate: its initial rate.
      weight_decay: its decay, None for the registry's.
      iterate: test accuracy of the last iterate in percent, over seeds.
      average: the same of the average, None if it makes none.
      seconds: mean time of a run, evaluation and compilation included.
      steps_per_second: median over the runs, of training alone.
      reported: what P0 reports for VGG-16 on CIFAR-10 and CIFAR-100, if it does.
    """

    optimizer: str
    learning_rate: float
    weight_decay: float | None
    iterate: Summary
    average: Summary | None
    seconds: float
    steps_per_second: float | None
    reported: tuple[str, str] | None


def make_lines(results: list[Row], rng: np.random.Generator) -> list[Line]:
    """Summarises finished runs, in the order in which the optimisers first appear.

    Args:
      results: rows of ``results.csv``.
      rng: for the bootstrap.

    Returns:
      A line per optimiser.
    """
    lines = []
    for name in dict.fromkeys(row["optimizer"] for row in results):
        rows = [row for row in results if row["optimizer"] == name]
        averages = [
            100 * row["average_test_accuracy"]
            for row in rows
            if row["average_test_accuracy"] is not None
        ]
        speeds = [
            row["steps_per_second"]
            for row in rows
            if row["steps_per_second"] is not None
        ]
        lines.append(
            Line(
                optimizer=name,
                learning_rate=rows[0]["learning_rate"],
                weight_decay=rows[0]["weight_decay"],
                iterate=summarise([100 * row["test_accuracy"] for row in rows], rng),
                average=summarise(averages, rng) if averages else None,
                seconds=float(np.mean([row["seconds"] for row in rows])),
                steps_per_second=float(np.median(speeds)) if speeds else None,
                reported=REPORTED.get(name),
            )
        )
    return lines


def plus_minus(summary: Summary | None) -> str:
    """Mean and deviation, as ``98.71 ± 0.25``; a dash for None."""
    if summary is None:
        return "–"
    if summary.count == 1:
        return f"{summary.mean:.2f}"
    return f"{summary.mean:.2f} ± {summary.std:.2f}"


def interval(summary: Summary | None) -> str:
    """The bootstrap interval, as ``[98.5, 98.9]``; nothing for None or one seed."""
    if summary is None or summary.count == 1:
        return ""
    return f"[{summary.low:.2f}, {summary.high:.2f}]"


HEADER = (
    "optimiser",
    "seeds",
    "rate",
    "decay",
    "last iterate,\ntest %",
    "average,\ntest %",
    "s/run",
    "steps/s",
    "P0,\nCIFAR-10",
    "P0,\nCIFAR-100",
    "P2,\nCIFAR-100",
    "P4,\nCIFAR-100",
)


def cells(line: Line) -> tuple[str, ...]:
    """A line as text, column by column as :data:`HEADER`.

    Args:
      line: the line.

    Returns:
      The cells; the accuracies have their interval after a line break.
    """
    decay = line.weight_decay
    speed = line.steps_per_second
    return (
        line.optimizer,
        str(line.iterate.count),
        f"{line.learning_rate:g}",
        "default" if decay is None else f"{decay:g}",
        f"{plus_minus(line.iterate)}\n{interval(line.iterate)}".strip(),
        f"{plus_minus(line.average)}\n{interval(line.average)}".strip(),
        f"{line.seconds:.1f}",
        "–" if speed is None else f"{speed:.0f}",
        *(line.reported or ("–", "–")),
        P2_REPORTED.get(line.optimizer, "–"),
        P4_REPORTED.get(line.optimizer, "–"),
    )
