"""Image classification: the network, the augmentation and one update."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from experiments.configs.settings import RunConfig, TaskConfig, check_task
from experiments.data import (
    Augment,
    Dataset,
    epoch_batches,
    load_dataset,
    with_cutout,
)
from experiments.errors import ExperimentError, unknown
from experiments.loops._skip import add_metrics
from experiments.optimizers import build_optimizer
from optax_ia import models
from optax_ia.flax import TrainState, build_train_step

Totals = dict[str, jax.Array]
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
    return add_metrics(totals, step)


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
