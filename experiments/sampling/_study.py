"""Pairs of runs that differ in nothing but how their batches are drawn."""

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import optax

import optax_ia
from experiments import environment
from experiments.configs.p2.sampling import SamplingConfig
from experiments.data import Dataset, epoch_batches
from experiments.loops import traced
from experiments.statistics import Summary, summarise

Row = dict[str, Any]

DRAWS = {"without": False, "with": True}
"""Name of a way to draw, and whether it replaces."""

RESULT_COLUMNS = (
    "draw",
    "seed",
    "dataset",
    "model",
    "epochs",
    "steps",
    "learning_rate",
    "final_train_loss",
    "final_validation_accuracy",
    "final_test_accuracy",
    "mean_log_train_loss",
    "mean_test_accuracy",
    "seconds",
    "commit",
    "config",
)

MEASURES = {
    "final_train_loss": "training loss, last epoch",
    "mean_log_train_loss": "log10 training loss, mean over epochs",
    "final_test_accuracy": "test accuracy (%), last epoch",
    "mean_test_accuracy": "test accuracy (%), mean over epochs",
}
"""What is compared: the end of the run, and the whole curve."""

_BOOTSTRAP_SEED = 0


@functools.cache
def optimizer(learning_rate: float) -> optax.GradientTransformationExtraArgs:
    """Plain SGD at a constant rate: one object, and one compiled step, for all runs."""
    return optax_ia.get_optimizer("sgd", learning_rate=learning_rate, momentum=0.0)


def _batches(
    config: SamplingConfig, data: Dataset, seed: int, replacement: bool
) -> Callable[[int], Iterable[tuple[np.ndarray, np.ndarray]]]:
    def batches(epoch: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        return epoch_batches(
            data.train,
            config.batch_size,
            seed=seed,
            epoch=epoch,
            replacement=replacement,
        )

    return batches


def train(
    config: SamplingConfig,
    data: Dataset,
    *,
    draw: str,
    seed: int,
    on_epoch: Callable[[Row], None],
    splits: tuple[str, ...] = ("train", "validation", "test"),
) -> traced.Trace:
    """One run; nothing is augmented, so that the draw is the only noise.

    Args:
      config: the comparison.
      data: the data.
      draw: one of :data:`DRAWS`.
      seed: of initialisation and of the draw.
      on_epoch: given the row of each epoch.
      splits: what to evaluate on.

    Returns:
      Its rows; ``fitted_loss`` is the loss over all training images, each once.
    """
    return traced.run(
        config.task,
        optimizer(config.learning_rate),
        data,
        seed=seed,
        on_epoch=on_epoch,
        splits=splits,
        batches=_batches(config, data, seed, DRAWS[draw]),
        augment=traced.no_augmentation,
    )


def result(config: SamplingConfig, draw: str, seed: int, trace: traced.Trace) -> Row:
    """The row of a run for ``results.csv``.

    Args:
      config: the comparison.
      draw: one of :data:`DRAWS`.
      seed: the run's.
      trace: what it left.

    Returns:
      Values by :data:`RESULT_COLUMNS`; accuracies as fractions.
    """
    losses = [row["fitted_loss"] for row in trace.epochs]
    finite = all(loss is not None for loss in losses)
    described = {"draw": draw, "seed": seed, "optimizer": "sgd", "momentum": 0.0}
    shared = ("dataset", "model", "epochs", "batch_size", "learning_rate")
    described |= {name: getattr(config, name) for name in shared}
    return {
        "draw": draw,
        "seed": seed,
        "dataset": config.dataset,
        "model": config.model,
        "epochs": config.epochs,
        "steps": trace.last["step"],
        "learning_rate": config.learning_rate,
        "final_train_loss": losses[-1],
        "final_validation_accuracy": trace.last["validation_accuracy"],
        "final_test_accuracy": trace.last["test_accuracy"],
        "mean_log_train_loss": float(np.log10(losses).mean()) if finite else None,
        "mean_test_accuracy": float(
            np.mean([row["test_accuracy"] for row in trace.epochs])
        ),
        "seconds": trace.seconds,
        "commit": environment.commit(),
        "config": json.dumps(described, sort_keys=True),
    }


def values(results: Sequence[Row], draw: str, measure: str) -> list[float]:
    """A measure of every seed, in the order of the seeds; accuracies in percent."""
    scale = 100 if measure.endswith("accuracy") else 1
    own = sorted((row for row in results if row["draw"] == draw), key=_seed)
    return [np.nan if row[measure] is None else scale * row[measure] for row in own]


def _seed(row: Row) -> int:
    return row["seed"]


def differences(results: Sequence[Row]) -> dict[str, Summary]:
    """Without replacement minus with it, seed by seed.

    Args:
      results: rows of ``results.csv``, both draws for every seed.

    Returns:
      For each of :data:`MEASURES` the mean difference and its bootstrap interval.
    """
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    found = {}
    for measure in MEASURES:
        without, replaced = (values(results, draw, measure) for draw in DRAWS)
        paired = np.subtract(without, replaced)
        found[measure] = summarise(paired.tolist(), rng)
    return found


def shows(difference: Summary) -> bool:
    """Whether the interval leaves zero out."""
    return not difference.low <= 0 <= difference.high
