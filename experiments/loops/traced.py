"""A loop for one transformation, given as it is, that keeps a row of every step.

The steps are those of :mod:`experiments.loops.image`: initialisation, order and
augmentation are functions of seed and step. What differs is what is recorded: the
optimiser's diagnostics after each update, and the test set's error after each epoch,
for figures alone; nothing may be chosen by it.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
import optax

import optax_ia
from experiments.configs.settings import RunConfig, TaskConfig, fields_of
from experiments.data import Augment, Dataset, epoch_batches
from experiments.loops import image
from experiments.loops.evaluation import evaluate
from optax_ia.flax import TrainState

Row = dict[str, Any]
Batches = Callable[[int], Iterable[tuple[np.ndarray, np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class Trace:
    """What a run leaves behind.

    Attributes:
      epochs: a row per epoch: losses, accuracies and errors of each split.
      steps: a row per update: its number, the loss of its batch, and the optimiser's
        diagnostics after it. None stands for what is not finite.
      seconds: time of the run, evaluation and compilation included.
      steps_per_second: of training alone, without the first step, which compiles.
    """

    epochs: list[Row]
    steps: list[Row]
    seconds: float
    steps_per_second: float | None

    @property
    def last(self) -> Row:
        """The row of the last epoch."""
        return self.epochs[-1]


@functools.partial(jax.jit, static_argnames="augment", donate_argnums=(0, 1))
def _traced_step(
    state: TrainState,
    totals: image.Totals,
    key: jax.Array,
    images: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    augment: Augment,
) -> tuple[TrainState, image.Totals, dict[str, jax.Array]]:
    """:func:`image.train_step`, with what is recorded as results of their own.

    The state is donated to the next step; these results outlive it, so that nothing
    has to be copied to the host between steps.
    """
    before = totals["loss"]
    state, totals = image.train_step(
        state, totals, key, images, labels, augment=augment
    )
    seen = {"loss": totals["loss"] - before}
    return state, totals, seen | optax_ia.diagnostics(state.opt_state)


def no_augmentation(key: jax.Array, images: jax.typing.ArrayLike) -> jax.Array:
    """An :data:`Augment` that leaves the images as they are."""
    del key
    return jax.numpy.asarray(images)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _initial_state(
    task: TaskConfig, optimizer: optax.GradientTransformation, data: Dataset, seed: int
) -> TrainState:
    """The state that a run of this seed starts from, with another optimiser."""
    run = RunConfig(**fields_of(task, TaskConfig), seed=seed)
    key, _, _ = jax.random.split(jax.random.key(seed), 3)
    state = image.init_state(run, data, key)
    return TrainState.create(
        apply_fn=state.apply_fn,
        params=state.params,
        tx=optimizer,
        batch_stats=state.batch_stats,
    )


def run(
    task: TaskConfig,
    optimizer: optax.GradientTransformation,
    data: Dataset,
    *,
    seed: int,
    on_epoch: Callable[[Row], None],
    splits: tuple[str, ...] = ("validation", "test"),
    batches: Batches | None = None,
    augment: Augment | None = None,
) -> Trace:
    """Trains, evaluating on every split named after every epoch.

    Args:
      task: data, network, epochs and batch size; the rest of it is not used.
      optimizer: the transformation, learning rate included. Runs that are given the
        same object share one compiled step.
      data: the data.
      seed: of initialisation, data order and augmentation.
      on_epoch: given the row of each epoch, as it ends.
      splits: what to evaluate on; tuning leaves the test set alone.
      batches: the batches of an epoch, counted from 0; None is
        :func:`experiments.data.epoch_batches`.
      augment: instead of the data set's own augmentation.

    Returns:
      The rows of its epochs and of its steps.
    """
    began = time.perf_counter()
    _, augment_key, _ = jax.random.split(jax.random.key(seed), 3)
    state = _initial_state(task, optimizer, data, seed)
    size = task.batch_size
    if batches is None:
        batches = functools.partial(_epoch_batches, data, size, seed)
    if augment is None:
        augment = data.augment
    epochs: list[Row] = []
    steps: list[Row] = []
    training = 0.0
    timed = 0
    for epoch in range(1, task.epochs + 1):
        totals, seen = image.zero_totals(), []
        epoch_began = time.perf_counter()
        for images, labels in batches(epoch - 1):
            state, totals, step = _traced_step(
                state, totals, augment_key, images, labels, augment=augment
            )
            seen.append(step)
            if not steps and len(seen) == 1:
                jax.block_until_ready(step)  # compilation, which is not timed
                epoch_began = time.perf_counter()
        jax.block_until_ready(totals)
        training += time.perf_counter() - epoch_began
        timed += len(seen) - (not steps)
        for values in jax.device_get(seen):
            number = len(steps) + 1
            # not Python floats of the exact values: the step's own digits suffice
            values = {name: _number(value) for name, value in values.items()}
            steps.append({"step": number, "epoch": number / len(seen), **values})
        row: Row = {"epoch": epoch, "step": len(steps)}
        row["train_loss"] = _finite(float(totals["loss"]) / len(seen))
        row["train_accuracy"] = float(totals["correct"]) / len(seen)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        for name in splits:
            loss, accuracy = evaluate(state.apply_fn, variables, getattr(data, name))
            # of the parameters as they are now, unlike train_loss, a mean over steps
            name = "fitted" if name == "train" else name
            row |= {f"{name}_loss": _finite(loss), f"{name}_accuracy": accuracy}
        epochs.append(row)
        on_epoch(row)
    return Trace(
        epochs,
        steps,
        seconds=round(time.perf_counter() - began, 3),
        steps_per_second=round(timed / training, 2) if timed else None,
    )


def _epoch_batches(data: Dataset, size: int, seed: int, epoch: int) -> Any:
    return epoch_batches(data.train, size, seed=seed, epoch=epoch)


def _number(value: np.ndarray) -> int | float | None:
    """A scalar as Python has it; None if it is not finite."""
    number = value.item()
    return _finite(number) if isinstance(number, float) else number
