"""The two functions, where their minima are and what part of the plane is drawn."""

import dataclasses
import math
from collections.abc import Callable

import jax
import numpy as np

from experiments.configs.p2.trajectories import STARTS
from optax_ia import landscape


@dataclasses.dataclass(frozen=True)
class Problem:
    """A function of the plane.

    Attributes:
      name: as the configuration calls it.
      function: points of shape (..., 2) to values of shape (...).
      start: where every method begins.
      minimisers: the global minima, those of one period if it is periodic.
      minimum: the value there.
      window: the square that is drawn, the same range for both coordinates.
      levels: of the contours, values of the function.
      period: of both coordinates, or None.
    """

    name: str
    function: Callable[[jax.typing.ArrayLike], jax.Array]
    start: tuple[float, float]
    minimisers: tuple[tuple[float, float], ...]
    minimum: float
    window: tuple[float, float]
    levels: tuple[float, ...]
    period: float | None = None

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Distance to the nearest global minimum.

        Args:
          points: of shape (..., 2); may hold non-finite ones.

        Returns:
          Shape (...), infinite where a point is not finite.
        """
        finite = np.asarray(np.isfinite(points).all(axis=-1))
        away = np.where(finite[..., None], points, 0.0)[..., None, :]
        away = away - np.asarray(self.minimisers)
        if self.period is not None:
            away -= self.period * np.round(away / self.period)
        nearest = np.linalg.norm(away, axis=-1).min(axis=-1)
        return np.where(finite, nearest, np.inf)

    def visible_minimisers(self) -> np.ndarray:
        """The global minima inside the window, shape (number, 2)."""
        shifts = [0.0]
        if self.period is not None:
            shifts += [-self.period, self.period]
        low, high = self.window
        found = [
            (x + a, y + b)
            for x, y in self.minimisers
            for a in shifts
            for b in shifts
            if low <= x + a <= high and low <= y + b <= high
        ]
        return np.array(found).reshape(-1, 2)


_HIGHEST, _LOWEST = -0.7782119590110459, -1.471368938279414

PROBLEMS = {
    "beale": Problem(
        name="beale",
        function=landscape.beale,
        start=STARTS["beale"],
        minimisers=((3.0, 0.5),),
        minimum=0.0,
        window=(-4.5, 4.5),
        levels=(0, 0.1, 0.5, 1, 2, 4, 8, 16, 50, 200, 1e3, 5e3, 2e4, 1e5, 2e5),
    ),
    "schubert": Problem(
        name="schubert",
        function=landscape.schubert,
        start=STARTS["schubert"],
        minimisers=((_HIGHEST, _LOWEST), (_LOWEST, _HIGHEST)),
        minimum=-18.095565070008413,
        window=(-3.1, 0.9),
        period=2 * math.pi,
        levels=(-18.1, -15, -11, -7, -4, -2, -1, -0.4, 0.4, 1, 2, 4, 8, 15, 22.4),
    ),
}
"""By name; the minima are those that the functions' docstrings state."""
