"""What is compared: found in the columns of the results, summarised over seeds."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from experiments.errors import ExperimentError, unknown
from experiments.statistics import Summary, summarise
from experiments.sweep._config import Setting, SweepConfig
from experiments.sweep._folder import Result

Mode = Literal["min", "max"]
_BOOTSTRAP_SEED = 0

_MODES: dict[str, Mode] = {
    "perplexity": "min",
    "accuracy": "max",
    "precision": "max",
    "f1": "max",
    "distance": "min",
    "error": "min",
    "loss": "min",
}
"""By the last word of a score's name; the first that there is, is compared."""


@dataclasses.dataclass(frozen=True)
class Score:
    """What is compared.

    Attributes:
      name: without what it was measured on, such as ``"accuracy"``.
      mode: whether less or more is better.
      splits: whether it is measured on validation and test; else, as for samples of a
        generator, once.
    """

    name: str
    mode: Mode
    splits: bool = True

    @property
    def chosen_by(self) -> str:
        """What rows are chosen by, in words."""
        words = self.name.replace("_", " ")
        return f"validation {words}" if self.splits else words

    @property
    def percent(self) -> bool:
        """Whether it is shown in percent."""
        return self.name.endswith("accuracy")

    def text(self, value: float, beside: float | None = None) -> str:
        """A value as it is shown, without a unit.

        Args:
          value: the value.
          beside: what it stands next to, with as many decimals.

        Returns:
          In percent with two decimals; else two from 10 on, and four below.
        """
        if self.percent:
            return f"{100 * value:.2f}"
        few = abs(value if beside is None else beside) >= 10
        return f"{value:.{2 if few else 4}f}"


@dataclasses.dataclass(frozen=True)
class Scored:
    """The scores of one run.

    Attributes:
      validation: what rows are chosen by, None if it is not finite.
      test: what is reported, None if there is none.
      average: whether they are those of an averaged model.
    """

    validation: float | None
    test: float | None
    average: bool


@dataclasses.dataclass(frozen=True)
class Line:
    """One setting with one optimiser, over seeds.

    Attributes:
      setting: the setting.
      optimizer: registry name.
      planned: number of seeds asked for.
      finished: how many of the runs are finished.
      diverged: how many ended because their loss was not finite.
      model: what was evaluated: ``"last iterate"``, ``"average"`` or both.
      validation: over the finished runs whose score is finite.
      test: the same.
      seconds: mean of the finished runs, None if there is none.
    """

    setting: Setting
    optimizer: str
    planned: int
    finished: int
    diverged: int
    model: str
    validation: Summary | None
    test: Summary | None
    seconds: float | None

    @property
    def complete(self) -> bool:
        """Whether every seed has a finite validation score."""
        return self.validation is not None and self.validation.count == self.planned


def find_score(columns: Sequence[str], config: SweepConfig) -> Score:
    """What to compare.

    Args:
      columns: those of the results.
      config: the sweep, which may name it.

    Returns:
      The score.

    Raises:
      ExperimentError: if there is no such column, or its direction is not known.
    """
    names = [
        match[1]
        for column in columns
        if (match := re.fullmatch(r"validation_(.+)", column))
    ]
    splits = bool(names)
    if not splits:  # of samples: measured on no split, and of the average too
        names = [column for column in columns if f"average_{column}" in columns]
    if config.score is not None:
        if config.score not in names:
            raise unknown(f"{config.source}: score", config.score, names)
        mode = config.mode or _MODES.get(_last_word(config.score))
        if mode is None:
            raise ExperimentError(
                f'{config.source}: say mode = "min" or "max" for {config.score}'
            )
        return Score(config.score, mode, splits)
    for word, mode in _MODES.items():
        for name in names:
            if _last_word(name) == word:
                return Score(name, config.mode or mode, splits)
    raise ExperimentError(
        f"{config.source}: say which score is compared, and whether "
        f'mode = "min" or "max"; there are: {", ".join(names) or "none"}'
    )


def _last_word(name: str) -> str:
    return name.rpartition("_")[2]


def score_run(result: Result, score: Score) -> Scored:
    """The scores of a finished run: of its average, if it makes one.

    Args:
      result: its row.
      score: what is compared.

    Returns:
      Validation and test.
    """
    split = "validation_" if score.splits else ""
    average = _number(result.get(f"average_{split}{score.name}"))
    if average is None:
        iterate = _number(result.get(f"{split}{score.name}"))
        return Scored(iterate, _number(result.get(f"test_{score.name}")), False)
    return Scored(average, _number(result.get(f"average_test_{score.name}")), True)


def _number(cell: str | None) -> float | None:
    if not cell:
        return None
    value = float(cell)
    return value if math.isfinite(value) else None


def make_line(
    setting: Setting,
    optimizer: str,
    results: Sequence[Result | None],
    score: Score | None,
    *,
    diverged: int = 0,
) -> Line:
    """Summarises the runs of one setting and optimiser.

    Args:
      setting: the setting.
      optimizer: registry name.
      results: of each seed, None where it is not finished.
      score: what is compared, None as long as nothing is finished.
      diverged: how many of those without a result are over all the same.

    Returns:
      The line.
    """
    done = [result for result in results if result is not None]
    scored = [score_run(result, score) for result in done] if score else []
    kinds = {one.average for one in scored}
    names = {True: "average", False: "last iterate"}
    times = [value for row in done if (value := _number(row.get("seconds")))]
    return Line(
        setting=setting,
        optimizer=optimizer,
        planned=len(results),
        finished=len(done),
        diverged=diverged,
        model=", ".join(names[kind] for kind in sorted(kinds)),
        validation=_summary([one.validation for one in scored]),
        test=_summary([one.test for one in scored]),
        seconds=float(np.mean(times)) if times else None,
    )


def _summary(values: Sequence[float | None]) -> Summary | None:
    finite = [value for value in values if value is not None]
    if not finite:
        return None
    return summarise(finite, np.random.default_rng(_BOOTSTRAP_SEED))


def best(lines: Sequence[Line], score: Score) -> Line | None:
    """The line with the best mean on validation, of those that are complete.

    Args:
      lines: to choose from.
      score: which says what is better.

    Returns:
      The first of the best, None if no line is complete.
    """
    sign = 1 if score.mode == "max" else -1
    complete = [line for line in lines if line.complete]

    def quality(line: Line) -> float:
        return sign * line.validation.mean if line.validation else -math.inf

    return max(complete, key=quality, default=None)
