"""Mean, deviation and bootstrap interval over seeds."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Summary:
    """A measurement over seeds.

    Attributes:
      count: number of seeds.
      mean: their mean.
      std: their sample deviation (n - 1); 0 for one seed.
      low: lower end of the interval for the mean.
      high: upper end.
    """

    count: int
    mean: float
    std: float
    low: float
    high: float


def summarise(
    values: Sequence[float],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = 2000,
) -> Summary:
    """Mean, sample deviation and percentile bootstrap interval of the mean.

    The interval resamples seeds only. It says how much another draw of seeds would
    move the mean, with the test set held fixed; for few seeds it is too narrow.

    Args:
      values: one per seed, at least one.
      rng: the generator the resamples are drawn from.
      level: the interval's coverage.
      resamples: number of bootstrap samples.

    Returns:
      The summary.
    """
    sample = np.asarray(values, np.float64)
    drawn = rng.choice(sample, (resamples, len(sample)))
    tail = (1 - level) / 2
    low, high = np.quantile(drawn.mean(axis=1), (tail, 1 - tail))
    std = sample.std(ddof=1) if len(sample) > 1 else 0.0
    return Summary(
        len(sample), sample.mean().item(), float(std), low.item(), high.item()
    )
