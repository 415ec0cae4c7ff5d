"""Logistic regression on images; a run of it by LanczosOPT or gradient descent."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
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


# so that problems are arguments of the programs below: as constants, many images take
# the compiler many seconds
jax.tree_util.register_dataclass(
    Problem, data_fields=["features", "labels"], meta_fields=["num_classes", "l2"]
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is fitted, and what it is judged by.

    Attributes:
      train: the problem that is minimised, without a penalty.
      test: the same loss on images that nothing is fitted to.
      dataset: where the images are from, by name.
    """

    train: Problem
    test: Problem
    dataset: str = dataclasses.field(default="digits", metadata={"static": True})


def load(
    dataset: str = "digits",
    data_dir: Path | None = None,
    *,
    examples: int = 1000,
    seed: int = 0,
) -> Task:
    """Some images of the training split to fit, and all that are held out to judge by.

    Those are the test split's; of the digits, which are few, the validation split's
    too: nothing is chosen on it here.

    Args:
      dataset: one of :func:`experiments.data.list_datasets`.
      data_dir: where it is prepared, unless it is embedded; None is TFDS's own place.
      examples: how many to fit, drawn without replacement; a training split that has
        no more is taken as it is.
      seed: of the draw.

    Returns:
      The task.
    """
    data = load_dataset(dataset, data_dir)
    chosen = np.arange(len(data.train))
    if examples < len(chosen):
        chosen = np.random.default_rng(seed).permutation(chosen)[:examples]

    def problem(*splits: Split) -> Problem:
        images = np.concatenate([split.images for split in splits])
        pixels = images.reshape(len(images), -1).astype(np.float64)
        features = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)
        labels = np.concatenate([split.labels for split in splits])
        return Problem(features, labels, data.num_classes, l2=0.0)

    drawn = Split(data.train.images[chosen], data.train.labels[chosen])
    held_out = [data.test] if dataset != "digits" else [data.validation, data.test]
    return Task(problem(drawn), problem(*held_out), dataset)


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


def _trajectory(task: Task, tx: optax.GradientTransformationExtraArgs, updates, read):
    """Curves by the names of :data:`CURVES`, and what is read from every state."""
    gradient = jax.grad(task.train.loss)
    start = jnp.asarray(task.train.start)

    def scores(weights):
        pairs = _score(task.train, weights), _score(task.test, weights)
        return tuple(value for kind in zip(*pairs, strict=True) for value in kind)

    def update(carry, _):
        weights, state = carry
        # the part of the product that no vector changes is computed once
        value, matvec = jax.linearize(gradient, weights)
        changes, state = tx.update(value, state, weights, matvec=matvec)
        weights = optax.apply_updates(weights, changes)
        return (weights, state), (scores(weights), read(state))

    carry = (start, tx.init(start))
    _, (after, seen) = lax.scan(update, carry, length=updates)
    first = scores(start)
    curves = [jnp.append(one, rest) for one, rest in zip(first, after, strict=True)]
    return dict(zip(CURVES, curves, strict=True)), seen


@functools.partial(jax.jit, static_argnames=("num_steps", "updates", "seed"))
def _lanczos(task, learning_rate, damping, sharp_scale, *, num_steps, updates, seed):
    tx = optax_ia.lanczos_newton(
        learning_rate, damping, num_steps, sharp_scale=sharp_scale, seed=seed
    )
    return _trajectory(
        task,
        tx,
        updates,
        lambda state: jnp.stack([state.largest_eigenvalue, state.smallest_eigenvalue]),
    )


@functools.partial(jax.jit, static_argnames="updates")
def _descent(task, learning_rate, *, updates):
    tx = optax.with_extra_args_support(optax.sgd(learning_rate))
    return _trajectory(task, tx, updates, lambda state: jnp.zeros(2))


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
    rate, updates = config.learning_rate, config.updates

    def run(damping: float | None = None, sharp_scale: float | None = None) -> Run:
        began = time.perf_counter()
        with jax.enable_x64(True):
            if damping is None:
                found = _descent(task, rate, updates=updates)
            else:
                found = _lanczos(
                    task,
                    rate,
                    damping,
                    sharp_scale,
                    num_steps=config.num_steps,
                    updates=updates,
                    seed=config.seed,
                )
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
