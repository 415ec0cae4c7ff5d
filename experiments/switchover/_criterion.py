"""The criterion read off a run: where it came closest, where it would have fired."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Switch:
    """A switch from Adam to SGD.

    Attributes:
      step: the update after which SGD takes over.
      rate: Lambda.
    """

    step: int
    rate: float


def differences(steps: Sequence[Row]) -> np.ndarray:
    """How far the criterion is from zero at each step at which it may fire.

    Args:
      steps: the rows of a run, from its first step on.

    Returns:
      float32 ``(steps,)``: the absolute difference of gamma and its corrected average;
      infinite at the first step, where the average is not positive, and from the
      switch on.
    """
    gamma, average = (
        np.array(
            [np.nan if row[name] is None else row[name] for row in steps], np.float32
        )
        for name in ("gamma", "lambda_hat")
    )
    difference = np.abs(average - gamma)
    phase = np.array([row["phase"] for row in steps])
    allowed = (average > 0) & ~np.isnan(difference)
    allowed[0] = False
    allowed[1:] &= phase[:-1] == 0  # the step that decides is still Adam's
    return np.where(allowed, difference, np.float32(np.inf))


def first_switch(steps: Sequence[Row], tol: float) -> Switch | None:
    """Where a tolerance would have switched a run that goes on with Adam.

    Until its first switch a run is Adam whatever the tolerance, so one run without a
    switch answers for every tolerance.

    Args:
      steps: the rows of the run.
      tol: the tolerance.

    Returns:
      The switch, or None if the criterion was never met.
    """
    below = np.flatnonzero(differences(steps) < np.float32(tol))
    if not below.size:
        return None
    row = steps[int(below[0])]
    return Switch(row["step"], row["lambda_hat"])


@dataclasses.dataclass(frozen=True)
class Reach:
    """How near runs came to the criterion.

    Attributes:
      steps: at how many steps it was asked.
      within: at how many of them the difference was below ``width``.
      width: a difference that is small but often undercut.
      closest: the least difference.
    """

    steps: int
    within: int
    width: float
    closest: float

    def wait(self, tol: float) -> float | None:
        """Steps until a tolerance fires, if near zero all differences are as likely.

        Args:
          tol: a tolerance below ``width``.

        Returns:
          Their expected number; None if nothing came within ``width``.
        """
        return self.steps / self.within * self.width / tol if self.within else None


def reach(runs: Sequence[Sequence[Row]], width: float) -> Reach:
    """How near some runs came to the criterion.

    Args:
      runs: the rows of each.
      width: see :class:`Reach`.

    Returns:
      The count over all of them.
    """
    found = np.concatenate([differences(steps) for steps in runs])
    return Reach(
        steps=int(np.isfinite(found).sum()),
        within=int((found < width).sum()),
        width=width,
        closest=float(found.min()),
    )
