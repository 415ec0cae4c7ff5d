"""What was measured of a run, as a table and in sentences."""

import dataclasses
import math
from collections.abc import Sequence

import jax

from experiments.analyse._network import AVERAGE, ITERATE
from experiments.analyse._run import Trained
from experiments.analyse._sharpness import Damping, Sharpness, ratio
from experiments.analyse._solutions import Ensemble
from experiments.configs.p0.analyse import AnalyseConfig
from optax_ia.landscape import Line, Surface

_RATIO = (
    "R_est-curv = 1 + (λ₁ − λ_P) / δ, a negative λ_P counting as 0. With the Hessian's "
    "eigenvalues it says what this damping would do to a second-order method that "
    "knew the loss as it is; the optimiser itself divides by its own estimate."
)


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Everything that was measured.

    Attributes:
      trained: the run.
      config: how closely it was looked at.
      scores: losses and accuracies by point: of ``train`` and ``validation``.
      sharpness: by point.
      damping: the optimiser's, None without any.
      lines: training loss and validation error between the points.
      surfaces: around each point.
      ensemble: the collected iterates.
      rates: effective learning rates by layer.
    """

    trained: Trained
    config: AnalyseConfig
    scores: dict[str, dict[str, float]]
    sharpness: dict[str, Sharpness]
    damping: Damping | None
    lines: dict[str, Line]
    surfaces: dict[str, Surface]
    ensemble: Ensemble
    rates: dict[str, list[float | None]]


HEADER = ("", ITERATE, AVERAGE)


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _estimate(mean: float, error: float) -> str:
    return f"{mean:.4g}" + (f" ± {error:.2g}" if math.isfinite(error) else "")


def rows_of(found: Analysis) -> list[tuple[str, ...]]:
    """The table: a row for each quantity, a column for each point."""
    scores = [found.scores[name] for name in (ITERATE, AVERAGE)]
    sharp = [found.sharpness[name] for name in (ITERATE, AVERAGE)]
    result = found.trained.result
    tested = [result["test_accuracy"], result["average_test_accuracy"]]

    def row(label, cells):
        return label, *cells

    rows = [
        row("training loss", (_plain(s["train_loss"]) for s in scores)),
        row("training error, %", (_plain(100 * s["train_error"]) for s in scores)),
        row("validation loss", (_plain(s["validation_loss"]) for s in scores)),
        row(
            "validation error, %",
            (_plain(100 * s["validation_error"]) for s in scores),
        ),
        row(
            "test error, %, from the run",
            (_plain(None if t is None else 100 * (1 - t)) for t in tested),
        ),
        row(
            "spectral norm (residual)",
            (f"{s.spectral_norm:.4g} ({s.residual:.1g})" for s in sharp),
        ),
        row("λ₁, largest eigenvalue", (_plain(s.largest) for s in sharp)),
        row("λ_P, smallest eigenvalue", (_plain(s.smallest) for s in sharp)),
        row("‖H‖_F", (_estimate(*map(float, s.frobenius)) for s in sharp)),
        row("tr H", (_estimate(*map(float, s.trace)) for s in sharp)),
        row("‖H‖_F² / P", (_plain(s.mean_square) for s in sharp)),
        row("tr H / P", (_plain(s.mean_eigenvalue) for s in sharp)),
        row("eigenvalues above −λ_P", (f"{s.num_beyond:.0f}" for s in sharp)),
        row(
            "fitted semicircle",
            (f"{s.bulk.lower:.3g} to {s.bulk.upper:.3g}" for s in sharp),
        ),
        row("eigenvalues outside of it", (f"{s.num_outside:.0f}" for s in sharp)),
        row("distance of the distributions", (f"{s.bulk.distance:.2f}" for s in sharp)),
    ]
    if found.damping is not None:
        delta = found.damping.value
        rows.append(
            row(
                f"R_est-curv, δ = {delta:g}",
                (f"{ratio(s.largest, s.smallest, delta):.3g}" for s in sharp),
            )
        )
    return rows


def about_ratio(found: Analysis) -> str:
    """What R_est-curv says here, and that of the optimiser's own estimate."""
    if found.damping is None:
        return (
            "The optimiser has no damping: R_est-curv, 1 + (λ₁ − λ_P) / δ, is 1 for "
            "gradient descent."
        )
    if found.damping.own is None:
        return _RATIO
    largest, smallest = found.damping.own
    own = ratio(largest, smallest, found.damping.value)
    return (
        f"{_RATIO} Its eigenvalues, the roots of Adam's corrected second moment, reach "
        f"from {smallest:.3g} to {largest:.3g} at the end: R_est-curv = {own:.3g}."
    )


def _epochs_text(epochs: Sequence[int]) -> str:
    if not epochs:
        return "no epoch"
    if len(epochs) == 1:
        return f"epoch {epochs[0]}"
    return f"epochs {epochs[0]} to {epochs[-1]}"


def findings(found: Analysis) -> list[str]:
    """What came out, in sentences."""
    trained, iterate, average = found.trained, *found.sharpness.values()
    epochs = _epochs_text(trained.collected)
    if trained.averages:
        source = f"The average is the optimiser's own; it collected in {epochs}."
    else:
        source = (
            "The optimiser has made no average: this one was made here, the mean of "
            f"the iterates at the ends of {epochs}."
        )
    what = "weights" if trained.from_checkpoint else "validation loss"
    held = "checkpoint" if trained.from_checkpoint else "results"
    if trained.largest_difference == 0:
        again = f"Trained again, the run ends at the very {what} of the {held}."
    else:
        again = (
            f"Trained again, the run's {what} differs from the {held} by up to "
            f"{trained.largest_difference:.2g}: other versions, or another machine."
        )
    pairs = [
        (name, getattr(iterate, field), getattr(average, field))
        for name, field in (
            ("spectral norm", "spectral_norm"),
            ("mean squared eigenvalue", "mean_square"),
            ("mean eigenvalue", "mean_eigenvalue"),
        )
    ]
    sharper = ", ".join(f"{name} {a:.3g} and {b:.3g}" for name, a, b in pairs)
    errors = [
        f"{100 * found.scores[name]['validation_error']:.2f} %"
        for name in (ITERATE, AVERAGE)
    ]
    return [
        f"Last iterate and average: {sharper}; validation error {errors[0]} and "
        f"{errors[1]}.{_fresh(found)}",
        f"{source} {again}",
    ]


def _fresh(found: Analysis) -> str:
    """What the last iterate gives with statistics as the average has them."""
    estimated = found.config.statistics == "estimated"
    if not (estimated and jax.tree.leaves(found.trained.state.batch_stats)):
        return ""
    here = list(map(float, found.lines["training loss"].coordinates)).index(0.0)
    loss, error = (
        float(found.lines[name].losses[here])
        for name in ("training loss", "validation error")
    )
    running = found.scores[ITERATE]["train_loss"]
    return (
        f" With statistics estimated anew, as the average has them, the last iterate "
        f"has {100 * error:.2f} % and a training loss of {loss:.3g} instead of "
        f"{running:.3g}: that part of the difference is not averaging's."
    )
