"""Logistic regression on digits, and a run of it by LanczosOPT or gradient descent."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from rich.console import Console

import optax_ia
from experiments.configs.p1.lanczos import LanczosConfig
from experiments.data import Split, load_dataset
from experiments.variance_reduction import Problem
from optax_ia import curvature

Row = dict[str, Any]

COLUMNS = (
    "method",
    "damping",
    "sharp_scale",
    "learning_rate",
    "num_steps",
    "updates",
    "largest_eigenvalue",
    "smallest_eigenvalue",
    "curvature_ratio",
    "last_largest_eigenvalue",
    "last_curvature_ratio",
    "train_loss",
    "test_loss",
    "train_error",
    "test_error",
    "best_test_error",
    "seconds",
)
CURVE_COLUMNS = (
    "method",
    "damping",
    "sharp_scale",
    "update",
    "train_error",
    "test_error",
)
CURVES = ("train_loss", "test_loss", "train_error", "test_error")

LANCZOS = "lanczos"
DESCENT = "gd"


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is fitted, and what it is judged by.

    Attributes:
      train: the problem that is minimised, without a penalty.
      test: the same loss on images that nothing is fitted to.
    """

    train: Problem
    test: Problem


def load() -> Task:
    """Scikit-learn's digits: the training split, and the other two to judge by.

    Nothing is chosen on validation here, so that its images can count as held out.

    Returns:
      The task.
    """
    data = load_dataset("digits")

    def problem(*splits: Split) -> Problem:
        images = np.concatenate([split.images for split in splits])
        pixels = images.reshape(len(images), -1).astype(np.float64)
        features = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)
        labels = np.concatenate([split.labels for split in splits])
        return Problem(features, labels, data.num_classes, l2=0.0)

    return Task(problem(data.train), problem(data.validation, data.test))


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run.

    Attributes:
      row: of ``runs.csv``, by :data:`COLUMNS`; None where there is no such number.
      curves: by the names of :data:`CURVES`, ``(updates + 1,)``, the start first.
    """

    row: Row
    curves: dict[str, np.ndarray]

    @property
    def diverged(self) -> bool:
        """Whether it ends with a loss above the one it began with."""
        loss = self.curves["train_loss"]
        return not loss[-1] <= loss[0]


def _score(problem: Problem, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loss and error, the share of images that are given another label."""
    found = (jnp.asarray(problem.features) @ weights).argmax(-1)
    error = jnp.mean(found != jnp.asarray(problem.labels), dtype=weights.dtype)
    return problem.loss(weights), error


def _rounded(value: Any) -> float | None:
    """Six digits of a number; None if it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _row(
    config: LanczosConfig,
    damping: float | None,
    sharp_scale: float | None,
    curves: dict[str, np.ndarray],
    eigenvalues: np.ndarray,
) -> Row:
    """Everything but the time; eigenvalues ``(updates, 2)``, largest and smallest."""
    row: Row = dict.fromkeys(COLUMNS)
    row |= {"method": DESCENT, "learning_rate": config.learning_rate}
    row["updates"] = config.updates
    row |= {name: _rounded(curve[-1]) for name, curve in curves.items()}
    row["best_test_error"] = _rounded(curves["test_error"].min())
    if damping is None or sharp_scale is None:
        return row
    row |= {"method": LANCZOS, "damping": damping, "sharp_scale": sharp_scale}
    row["num_steps"] = config.num_steps
    row["smallest_eigenvalue"] = _rounded(eigenvalues[0, 1])
    for prefix, (largest, smallest) in (
        ("", eigenvalues[0]),
        ("last_", eigenvalues[-1]),
    ):
        # what the step divides by is eta times the eigenvalue
        ratio = curvature.curvature_ratio(
            sharp_scale * largest, sharp_scale * smallest, damping
        )
        row[f"{prefix}largest_eigenvalue"] = _rounded(largest)
        row[f"{prefix}curvature_ratio"] = _rounded(float(ratio))
    return row


def runner(
    config: LanczosConfig, task: Task
) -> Callable[[float | None, float | None], Run]:
    """What does a run; compiled once for all of LanczosOPT.

    Args:
      config: the comparison.
      task: what is fitted.

    Returns:
      A function of damping and sharp scale; None for gradient descent.
    """
    gradient = jax.grad(task.train.loss)

    def trajectory(tx: optax.GradientTransformationExtraArgs, read):
        start = jnp.asarray(task.train.start)

        def scores(weights):
            pairs = _score(task.train, weights), _score(task.test, weights)
            return tuple(value for kind in zip(*pairs, strict=True) for value in kind)

        def update(carry, _):
            weights, state = carry
            # the part of the product that no vector changes is computed once
            value, matvec = jax.linearize(gradient, weights)
            updates, state = tx.update(value, state, weights, matvec=matvec)
            weights = optax.apply_updates(weights, updates)
            return (weights, state), (scores(weights), read(state))

        carry = (start, tx.init(start))
        _, (after, seen) = lax.scan(update, carry, length=config.updates)
        first = scores(start)
        curves = [jnp.append(one, rest) for one, rest in zip(first, after, strict=True)]
        return dict(zip(CURVES, curves, strict=True)), seen

    @jax.jit
    def lanczos(damping, sharp_scale):
        tx = optax_ia.lanczos_newton(
            config.learning_rate,
            damping,
            config.num_steps,
            sharp_scale=sharp_scale,
            seed=config.seed,
        )
        return trajectory(
            tx,
            lambda state: jnp.stack(
                [state.largest_eigenvalue, state.smallest_eigenvalue]
            ),
        )

    @jax.jit
    def descent():
        tx = optax.with_extra_args_support(optax.sgd(config.learning_rate))
        return trajectory(tx, lambda state: jnp.zeros(2))

    def run(damping: float | None = None, sharp_scale: float | None = None) -> Run:
        began = time.perf_counter()
        with jax.enable_x64(True):
            found = descent() if damping is None else lanczos(damping, sharp_scale)
            curves, eigenvalues = jax.device_get(found)
            row = _row(config, damping, sharp_scale, curves, eigenvalues)
        row["seconds"] = round(time.perf_counter() - began, 2)
        return Run(row, curves)

    return run


def run_all(config: LanczosConfig, task: Task, console: Console) -> list[Run]:
    """Gradient descent, then LanczosOPT at every damping and sharp scale.

    Args:
      config: the comparison.
      task: what is fitted.
      console: where progress is shown.

    Returns:
      The runs.
    """
    run = runner(config, task)
    with console.status("gradient descent") as status:
        runs = [run(None, None)]
        for damping in config.dampings:
            for scale in config.sharp_scales:
                status.update(f"damping {damping:g}, sharp scale {scale:g}")
                runs.append(run(damping, scale))
    return runs


def curve_rows(runs: Sequence[Run]) -> list[Row]:
    """The errors after every update.

    Args:
      runs: the runs.

    Returns:
      Rows by :data:`CURVE_COLUMNS`.
    """
    return [
        {
            **{name: run.row[name] for name in CURVE_COLUMNS[:3]},
            "update": update,
            **{name: _rounded(run.curves[name][update]) for name in CURVE_COLUMNS[4:]},
        }
        for run in runs
        for update in range(len(run.curves["test_error"]))
    ]
