"""Image classification: one step and one loop.

Everything a run does is a function of its configuration: initialisation, order and
augmentation come from the seed and the step, never from a state kept on the side. So
a run that goes on from a checkpoint ends in the same bits as one that never stopped.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import optax_ia
from experiments.checkpoints import Checkpoints
from experiments.configs.settings import RunConfig, TaskConfig, check_task
from experiments.data import (
    Augment,
    Dataset,
    epoch_batches,
    load_dataset,
    with_cutout,
)
from experiments.errors import ExperimentError, unknown
from experiments.loops.evaluation import candidates, score_splits
from experiments.optimizers import build_optimizer
from optax_ia import models, registry
from optax_ia.flax import TrainState, build_train_step

Totals = dict[str, jax.Array]
Row = dict[str, Any]
FullBatches = Callable[[], Iterable[Any]]

_TOTALS = ("loss", "correct", "gradient_norm", "update_norm")


def _loss(logits: jax.Array, batch: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
    """Cross entropy and accuracy of a batch."""
    _, labels = batch
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = jnp.mean(logits.argmax(-1) == labels, dtype=jnp.float32)
    return losses.mean(), {"correct": correct}


@functools.cache
def _step(
    needs: tuple[str, ...], augment: Augment, full_batches: FullBatches | None
) -> Callable[..., Any]:
    """The step of all optimisers with the same needs, on the same data."""

    def prepare(key, batch):
        images, labels = batch
        return augment(key, images), labels

    return build_train_step(
        needs, _loss, prepare=prepare, full_batches=full_batches, norms=True
    )


@functools.partial(jax.jit, donate_argnums=0)
def _add(totals: Totals, step: Totals) -> Totals:
    return {name: total + step[name] for name, total in totals.items()}


def train_step(
    state: TrainState,
    totals: Totals,
    key: jax.Array,
    images: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    augment: Augment,
    needs: tuple[str, ...] = (),
    full_batches: FullBatches | None = None,
) -> tuple[TrainState, Totals]:
    """One update. ``state`` and ``totals`` are donated: do not use them afterwards.

    Args:
      state: parameters, batch statistics, optimiser.
      totals: sums over the epoch so far; see :func:`zero_totals`.
      key: the run's key; the step is folded in.
      images: ``(batch, height, width, channels)``.
      labels: ``(batch,)``.
      augment: the data set's augmentation.
      needs: the extra arguments that the optimiser needs.
      full_batches: gives all training batches, for an optimiser that needs their mean
        gradient.

    Returns:
      The new state and the new sums.
    """
    step = _step(needs, augment, full_batches)
    state, metrics = step(state, (images, labels), key)
    return state, _add(totals, metrics)


@functools.cache
def full_batches(name: str, batch_size: int) -> FullBatches:
    """All training batches of a data set, always in the same order."""
    split = load_dataset(name).train
    return functools.partial(epoch_batches, split, batch_size, seed=0, epoch=0)


def zero_totals() -> Totals:
    """The sums :func:`train_step` adds to, at the start of an epoch."""
    return {name: jnp.zeros((), jnp.float32) for name in _TOTALS}


def load(config: TaskConfig) -> Dataset:
    """Checks a task before anything is computed, and loads its data.

    Args:
      config: the task.

    Returns:
      The data set.

    Raises:
      ExperimentError: if a number is out of bounds or a name unknown.
    """
    check_task(config)
    names = models.list_models(kind="image")
    if config.model not in names:
        raise unknown("model", config.model, names)
    data = load_dataset(config.dataset)
    if config.batch_size > len(data.train):
        raise ExperimentError(
            f"--batch-size must be at most {len(data.train)} (the training images of "
            f"{config.dataset}), got {config.batch_size}"
        )
    return dataclasses.replace(data, augment=with_cutout(data.augment, config.cutout))


@functools.cache
def _shared_model(
    name: str, num_classes: int, width: int | None
) -> tuple[nn.Module, Callable[..., Any]]:
    """A model and its ``apply``, one object each per name and width.

    Compiled programs are found again by the identity of what they were made from.
    """
    options = {} if width is None else {"width": width}
    try:
        model = models.create_model(name, num_classes=num_classes, **options)
    except TypeError as error:
        raise ExperimentError(f"{name} takes no --width: {error}") from error
    return model, model.apply


@functools.partial(jax.jit, static_argnames="model")
def _init_variables(model: nn.Module, key: jax.Array, images: jax.Array) -> Any:
    return model.init(key, images, train=False)


def init_state(config: RunConfig, data: Dataset, key: jax.Array) -> TrainState:
    """A fresh state; model and optimiser are the same objects for every seed."""
    model, apply_fn = _shared_model(config.model, data.num_classes, config.width)
    variables = _init_variables(model, key, data.train.images[:1])
    shared = dataclasses.replace(config, seed=0)
    return TrainState.create(
        apply_fn=apply_fn,
        params=variables["params"],
        tx=build_optimizer(shared, len(data.train) // config.batch_size),
        batch_stats=variables.get("batch_stats", {}),
    )


def _end_epoch(
    config: RunConfig, data: Dataset, key: jax.Array, state: TrainState, totals: Totals
) -> tuple[TrainState, Row]:
    """Evaluates on validation, tells the optimiser if it listens, makes the row."""
    steps_per_epoch = len(data.train) // config.batch_size
    means = {name: float(total) / steps_per_epoch for name, total in totals.items()}
    found = candidates(
        state, data, batch_size=config.batch_size, seed=config.seed, key=key
    )
    scores = score_splits(state, found, {"validation": data.validation})
    if _finds_own_start(state):
        accuracy = scores["average_validation_accuracy"]
        if accuracy is None:
            accuracy = scores["validation_accuracy"]
        opt_state = optax_ia.record_metric(state.opt_state, 1 - accuracy)
        state = state.replace(opt_state=opt_state)
    step = int(state.step)
    row = {
        "optimizer": config.optimizer,
        "seed": config.seed,
        "epoch": step // steps_per_epoch,
        "step": step,
        "train_loss": means["loss"],
        "train_accuracy": means["correct"],
        **scores,
        "gradient_norm": means["gradient_norm"],
        "update_norm": means["update_norm"],
        "parameter_norm": float(optax.tree.norm(state.params)),
    }
    for name, value in optax_ia.diagnostics(state.opt_state).items():
        row[name] = value.item()
    return state, _without_nan(row)


def _finds_own_start(state: TrainState) -> bool:
    """Whether the optimiser wants the validation metric, to start and to stop."""
    return "averaging_phase" in optax_ia.diagnostics(state.opt_state)


def _wants_stop(state: TrainState) -> bool:
    return _finds_own_start(state) and bool(optax_ia.should_stop(state.opt_state))


def _without_nan(row: Row) -> Row:
    """NaN and infinities, which JSON does not have, become None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def run(
    config: RunConfig,
    data: Dataset,
    *,
    on_epoch: Callable[[Row], None],
    checkpoints: Checkpoints | None = None,
    final_splits: tuple[str, ...] = ("validation", "test"),
) -> Row:
    """Trains, evaluating on validation every epoch and on test once, at the end.

    Args:
      config: the run.
      data: the data.
      on_epoch: given the row of each epoch, as it ends.
      checkpoints: where to save, and to go on from if something was saved there.
      final_splits: what is evaluated at the end; tuning leaves the test set alone.

    Returns:
      The row of the run for ``results.csv``, without commit and versions.
    """
    began = time.perf_counter()
    init_key, augment_key, recalibrate_key = jax.random.split(
        jax.random.key(config.seed), 3
    )
    state, totals = init_state(config, data, init_key), zero_totals()
    if checkpoints is not None:
        state, totals = checkpoints.restore(state, totals)
    steps_per_epoch = len(data.train) // config.batch_size
    first = step = int(state.step)
    needs = registry.get_record(config.optimizer).needs
    every_batch = None
    if "full_gradient" in needs:
        every_batch = full_batches(config.dataset, config.batch_size)
    compile_seconds = training_seconds = 0.0
    while step < config.epochs * steps_per_epoch and not _wants_stop(state):
        epoch, done = divmod(step, steps_per_epoch)
        epoch_began = time.perf_counter()
        for images, labels in epoch_batches(
            data.train, config.batch_size, seed=config.seed, epoch=epoch, skip=done
        ):
            step_began = time.perf_counter()
            state, totals = train_step(
                state,
                totals,
                augment_key,
                images,
                labels,
                augment=data.augment,
                needs=needs,
                full_batches=every_batch,
            )
            if step == first:
                jax.block_until_ready(totals)
                compile_seconds = time.perf_counter() - step_began
            step += 1
            if checkpoints is not None and step % steps_per_epoch:
                checkpoints.maybe_save(step, state, totals)
        jax.block_until_ready(totals)
        training_seconds += time.perf_counter() - epoch_began
        state, row = _end_epoch(config, data, recalibrate_key, state, totals)
        totals = zero_totals()
        # The row first: a checkpoint at this step promises that it was written.
        on_epoch(row)
        if checkpoints is not None:
            checkpoints.maybe_save(step, state, totals)
    if checkpoints is not None:
        checkpoints.save_last(step, state, totals)
    found = candidates(
        state, data, batch_size=config.batch_size, seed=config.seed, key=recalibrate_key
    )
    splits = {name: getattr(data, name) for name in final_splits}
    timed = step - first - 1
    return _without_nan(
        {
            "optimizer": config.optimizer,
            "seed": config.seed,
            "dataset": config.dataset,
            "model": config.model,
            "epochs": step // steps_per_epoch,
            "steps": step,
            "learning_rate": config.learning_rate,
            "weight_decay": config.weight_decay,
            "num_averaged": int(
                optax_ia.diagnostics(state.opt_state).get("num_averaged", 0)
            ),
            **score_splits(state, found, splits),
            "seconds": round(time.perf_counter() - began, 3),
            "compile_seconds": round(compile_seconds, 3),
            "steps_per_second": (
                round(timed / (training_seconds - compile_seconds), 2)
                if timed > 0
                else None
            ),
            "resumed_from_step": first,
            "config": config.to_json(),
        }
    )
