"""What became of each run: a row per method, function and learning rate."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.configs.p2.trajectories import NEAR
from experiments.trajectories._paths import Paths

FAR = 50.0
"""Distance from the start beyond which a run has diverged."""

SETTLED = 0.1
"""Distance from its end that the last tenth of a settled path stays within."""

SAME = 1e-6
"""Largest difference of two paths that are called the same."""

OUTCOMES = {
    "minimum": f"ends within {NEAR:g} of a global minimum",
    "elsewhere": f"at rest, to within {SETTLED:g} in its last tenth, at another place",
    "under way": "neither: still moving",
    "diverged": f"overflowed, ends over {FAR:g} from the start or above its value",
}
"""The kinds of end, and how they are told."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One run; None stands for what there is not, or is not finite.

    Attributes:
      method: registry name, or a variant's.
      function: ``beale`` or ``schubert``.
      learning_rate: its rate.
      arguments: those of the call that differ from the registry's.
      x: first coordinate of the last iterate.
      y: the second.
      value: the function there.
      distance: from there to the nearest global minimum.
      outcome: one of ``OUTCOMES``.
      diverged: whether that is ``diverged``.
      average_x: first coordinate of the average's end, of methods that keep one.
      average_y: the second.
      average_value: the function there.
      average_distance: from there to the nearest global minimum.
      phase: of a method that switches to SGD, 0 before and 1 after the switch.
      switch_step: the update after which it switched, 0 if it never did.
      same_as: the first method whose paths are these at all rates of both functions.
      state: the other scalars that the optimiser reports at the end.
    """

    method: str
    function: str
    learning_rate: float
    arguments: str
    x: float | None
    y: float | None
    value: float | None
    distance: float | None
    outcome: str
    diverged: bool
    average_x: float | None
    average_y: float | None
    average_value: float | None
    average_distance: float | None
    phase: int | None
    switch_step: int | None
    same_as: str
    state: str


def _finite(value: Any) -> float | None:
    """The number to six digits, or None: an overflow is said in words."""
    return float(f"{value:.6g}") if np.isfinite(value) else None


def outcomes(paths: Paths) -> list[str]:
    """How each run of a method ended.

    Args:
      paths: its runs.

    Returns:
      A key of ``OUTCOMES`` per learning rate.
    """
    found = []
    last_tenth = max(1, (paths.points.shape[1] - 1) // 10)
    for points, values in zip(paths.points, paths.values, strict=True):
        end = points[-1]
        if (
            not np.isfinite(points).all()
            or not np.isfinite(values).all()
            or np.linalg.norm(end - points[0]) > FAR
            or values[-1] > values[0]
        ):
            found.append("diverged")
        elif paths.problem.distance(end) <= NEAR:
            found.append("minimum")
        else:
            moved = np.linalg.norm(points[-1 - last_tenth : -1] - end, axis=-1)
            found.append("elsewhere" if moved.max() <= SETTLED else "under way")
    return found


def _coincide(one: Paths, other: Paths) -> bool:
    """Whether two methods take the same paths; those that diverge do not count."""
    if one.rates != other.rates:
        return False
    kept = [outcome != "diverged" for outcome in outcomes(one)]
    if not any(kept):
        return False
    difference = np.abs(one.points[kept] - other.points[kept])
    return bool((difference <= SAME).all())  # false where one is not finite


def same_paths(runs: Sequence[tuple[Paths, ...]]) -> dict[str, str]:
    """Methods that do what an earlier one does.

    Args:
      runs: per method its paths on every function, in the order of the page.

    Returns:
      Method to the first method with the same paths on all functions.
    """
    found: dict[str, str] = {}
    for place, paths in enumerate(runs):
        for earlier in runs[:place]:
            if all(map(_coincide, paths, earlier)):
                found[paths[0].method] = earlier[0].method
                break
    return found


def make_rows(paths: Paths, same_as: str = "") -> list[Row]:
    """The rows of one method on one function.

    Args:
      paths: its runs.
      same_as: a method that takes the same paths.

    Returns:
      One per learning rate.
    """
    rows = []
    distance = paths.problem.distance(paths.points[:, -1])
    for i, outcome in enumerate(outcomes(paths)):
        state = {name: value[i].item() for name, value in paths.state.items()}
        state.pop("learning_rate", None)
        phase, switch_step = state.pop("phase", None), state.pop("switch_step", None)
        average = dict.fromkeys(("x", "y", "value", "distance"))
        if paths.averages is not None and paths.average_values is not None:
            average["x"], average["y"] = map(_finite, paths.averages[i])
            average["value"] = _finite(paths.average_values[i])
            average["distance"] = _finite(paths.problem.distance(paths.averages[i]))
        rows.append(
            Row(
                method=paths.method,
                function=paths.problem.name,
                learning_rate=paths.rates[i],
                arguments=paths.arguments,
                x=_finite(paths.points[i, -1, 0]),
                y=_finite(paths.points[i, -1, 1]),
                value=_finite(paths.values[i, -1]),
                distance=_finite(distance[i]),
                outcome=outcome,
                diverged=outcome == "diverged",
                **{f"average_{name}": value for name, value in average.items()},
                phase=phase,
                switch_step=switch_step,
                same_as=same_as,
                state=", ".join(f"{name} {v:.4g}" for name, v in state.items()),
            )
        )
    return rows
