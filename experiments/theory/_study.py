"""The grid of the check, and what was measured beside what was predicted."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from experiments.theory import _formulas
from experiments.theory._quadratic import POINTS, Point, Quadratic, simulate

BASE = Quadratic()

SWEEPS: dict[str, tuple[Quadratic, ...]] = {
    name: tuple(dataclasses.replace(BASE, **{name: value}) for value in values)
    for name, values in {
        "parameters": (8, 32, 128, 512),
        "batch_size": (1, 8, 64, 512),
        "steps": (300, 1000, 3000, 10000),
        "learning_rate": (0.05, 0.15, 0.5, 1.5),
    }.items()
}
"""One quantity varied at a time around the base."""

INDEPENDENT = dataclasses.replace(BASE, learning_rate=1.0, lowest=1.0)
"""alpha * lambda = 1: every iterate forgets the one before."""

REGRETS = tuple(
    Quadratic(
        steps=4000, lowest=0.02, initial=initial, preconditioner=power, batch_size=8
    )
    for initial in (0.0, 1.0)
    for power in (0.0, 0.5, 1.0)
)
"""Table 1 from the minimum (its limit of large n), and eq. 9 from a distance."""


@dataclasses.dataclass(frozen=True)
class NormRow:
    """One point of one quadratic, measured and predicted.

    Attributes:
      sweep: what is varied.
      parameters: P.
      batch_size: B.
      steps: n.
      learning_rate: alpha.
      decay: rho.
      point: ``last``, ``tail`` or ``ema``.
      measured: root of the mean over seeds of the squared norm.
      error: its standard error.
      spread: deviation over seeds of the norm itself.
      printed: the norm as the paper has it.
      derived: the norm as derived here.
      measured_over_printed: a ratio of norms.
      measured_over_derived: a ratio of norms.
      noise: measured variance over seeds, all coordinates together.
      noise_derived: the same as derived.
      z: distance of the squared norm from the derived one, in standard errors.
    """

    sweep: str
    parameters: int
    batch_size: int
    steps: int
    learning_rate: float
    decay: float
    point: Point
    measured: float
    error: float
    spread: float
    printed: float
    derived: float
    measured_over_printed: float
    measured_over_derived: float
    noise: float
    noise_derived: float
    z: float


@dataclasses.dataclass(frozen=True)
class RegretRow:
    """The expected loss of a point, measured and bounded.

    Attributes:
      preconditioner: q of C = H^q.
      initial: every coordinate of w_0.
      point: ``last`` or ``tail``.
      measured: mean loss over seeds.
      error: its standard error.
      printed: table 1's bound (for n to infinity, so nan away from the minimum).
      corrected: the bound that holds.
      derived: the exact expectation.
      measured_over_printed: a ratio.
      measured_over_corrected: a ratio.
      measured_over_derived: a ratio.
      z: distance from the exact expectation in standard errors.
    """

    preconditioner: float
    initial: float
    point: Point
    measured: float
    error: float
    printed: float
    corrected: float
    derived: float
    measured_over_printed: float
    measured_over_corrected: float
    measured_over_derived: float
    z: float


@dataclasses.dataclass(frozen=True)
class SlopeRow:
    """How a point's noise depends on one quantity: a power, fitted in logarithms.

    Attributes:
      sweep: the quantity.
      point: ``last``, ``tail`` or ``ema``.
      measured: power of the variance over seeds.
      printed: power of the printed variance for large n.
      derived: power of the derived variance.
    """

    sweep: str
    point: Point
    measured: float
    printed: float
    derived: float


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean over seeds and its standard error."""
    return values.mean().item(), float(values.std(ddof=1) / np.sqrt(len(values)))


def norm_rows(
    sweep: str, problem: Quadratic, key: jax.Array, *, seeds: int
) -> Iterator[NormRow]:
    """Measures one quadratic.

    Args:
      sweep: what it is part of.
      problem: what to run.
      key: of the random generator.
      seeds: number of independent runs.

    Yields:
      A row per point.
    """
    points = simulate(problem, key, seeds=seeds)
    for point in POINTS:
        squares = np.sum(points[point] ** 2, axis=1)
        square, error = _mean_and_error(squares)
        printed = _formulas.printed_square(problem, point)
        derived = _formulas.derived_square(problem, point)
        yield NormRow(
            sweep=sweep,
            parameters=problem.parameters,
            batch_size=problem.batch_size,
            steps=problem.steps,
            learning_rate=problem.learning_rate,
            decay=problem.decay,
            point=point,
            measured=np.sqrt(square).item(),
            error=error / (2 * np.sqrt(square)).item(),
            spread=float(np.sqrt(squares).std(ddof=1)),
            printed=float(np.sqrt(printed)),
            derived=float(np.sqrt(derived)),
            measured_over_printed=float(np.sqrt(square / printed)),
            measured_over_derived=float(np.sqrt(square / derived)),
            noise=points[point].var(axis=0, ddof=1).sum().item(),
            noise_derived=_formulas.moments(problem, point)[1].sum().item(),
            z=(square - derived) / error,
        )


def regret_rows(
    problem: Quadratic, key: jax.Array, *, seeds: int
) -> Iterator[RegretRow]:
    """Measures the expected loss of one quadratic, whose minimum is 0.

    Args:
      problem: what to run.
      key: of the random generator.
      seeds: number of independent runs.

    Yields:
      A row for the last iterate and one for the tail mean.
    """
    points = simulate(problem, key, seeds=seeds)
    for point in POINTS[:2]:
        losses = np.sum(problem.eigenvalues * points[point] ** 2, axis=1) / 2
        loss, error = _mean_and_error(losses)
        # table 1 leaves the initial distance out
        at_minimum = problem.initial == 0
        printed = (
            _formulas.printed_regret(problem, point) if at_minimum else float("nan")
        )
        corrected = _formulas.corrected_regret(problem, point)
        derived = _formulas.derived_loss(problem, point)
        yield RegretRow(
            preconditioner=problem.preconditioner,
            initial=problem.initial,
            point=point,
            measured=loss,
            error=error,
            printed=printed,
            corrected=corrected,
            derived=derived,
            measured_over_printed=loss / printed,
            measured_over_corrected=loss / corrected,
            measured_over_derived=loss / derived,
            z=(loss - derived) / error,
        )


def slope_rows(rows: Sequence[NormRow]) -> list[SlopeRow]:
    """Fits how the noise depends on P, B, n and alpha.

    Args:
      rows: those of :func:`norm_rows` for all of :data:`SWEEPS`.

    Returns:
      A row per quantity and point.
    """

    def power(values, noises):
        return float(np.polyfit(np.log(values), np.log(noises), 1)[0])

    found = []
    for sweep, problems in SWEEPS.items():
        values = [getattr(problem, sweep) for problem in problems]
        for point in POINTS:
            own = [row for row in rows if row.sweep == sweep and row.point == point]
            # without initial distance the printed square is the printed variance
            still = [dataclasses.replace(problem, initial=0.0) for problem in problems]
            printed = [_formulas.printed_square(problem, point) for problem in still]
            found.append(
                SlopeRow(
                    sweep,
                    point,
                    measured=power(values, [row.noise for row in own]),
                    printed=power(values, printed),
                    derived=power(values, [row.noise_derived for row in own]),
                )
            )
    return found
