"""Image classification: a fresh state, the augmentation and one update."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.configs.settings import RunConfig, TaskConfig, check_task
from experiments.data import Augment, Dataset, list_datasets
from experiments.errors import ExperimentError, unknown
from experiments.loops._accumulate import (
    Parts,
    accumulated,
    check_cut,
    gradient_norm,
)
from experiments.loops._image_data import Images, load_named, one_epoch
from experiments.loops._image_network import network
from experiments.loops._skip import add_metrics
from experiments.loops.evaluation import losses_and_correct
from experiments.optimizers import build_optimizer
from experiments.parallel import Placement, in_place
from optax_ia import models, registry
from optax_ia.flax import TrainState, build_train_step

Totals = dict[str, jax.Array]
FullBatches = Callable[[], Iterable[Any]]
_TOTALS = ("loss", "correct", "gradient_norm", "update_norm")


def _loss(
    logits: jax.Array,
    batch: tuple[jax.Array, jax.Array],
    *,
    label_smoothing: float = 0.0,
) -> tuple[Any, Any]:
    """Cross entropy and accuracy of a batch."""
    _, labels = batch
    losses, correct = losses_and_correct(logits, labels, label_smoothing)
    return losses.mean(), {"correct": correct.mean()}


@functools.cache
def _step(
    needs: tuple[str, ...],
    augment: Augment,
    full_batches: FullBatches | None,
    label_smoothing: float = 0.0,
) -> Callable[..., Any]:
    """The step of all optimisers with the same needs, on the same data."""

    def prepare(key, batch):
        images, labels = batch
        return augment(key, images), labels

    loss = functools.partial(_loss, label_smoothing=label_smoothing)
    return build_train_step(
        needs, loss, prepare=prepare, full_batches=full_batches, norms=True
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
    return train_step_of_parts(
        state,
        totals,
        key,
        ((images, labels),),
        augment=augment,
        needs=needs,
        full_batches=full_batches,
    )


def train_step_of_parts(
    state: TrainState,
    totals: Totals,
    key: jax.Array,
    parts: Parts,
    *,
    augment: Augment,
    needs: tuple[str, ...] = (),
    full_batches: FullBatches | None = None,
    label_smoothing: float = 0.0,
) -> tuple[TrainState, Totals]:
    """:func:`train_step` with the gradients of several small batches.

    Args:
      state: its optimiser updates at the last of them.
      totals: as there.
      key: as there; each small batch has draws of its own.
      parts: the small batches, as ``cut`` makes them.
      augment: as there.
      needs: as there.
      full_batches: as there.
      label_smoothing: share of each label that is spread over all classes.

    Returns:
      The new state and the new sums: the means over the small batches, and the norm of
      the mean gradient.
    """
    step = _step(needs, augment, full_batches, label_smoothing)
    every = []
    for part in parts:
        state, metrics = step(state, part, key)
        every.append(metrics)
    if len(parts) > 1:
        return state, _add_mean(totals, every, gradient_norm(state.opt_state))
    return state, _add(totals, every[0])


@functools.partial(jax.jit, donate_argnums=0)
def _add_mean(totals: Totals, every: list[Totals], norm: jax.Array) -> Totals:
    mean = jax.tree.map(lambda *values: sum(values) / len(values), *every)
    # The parameters move at the last alone.
    seen = {"gradient_norm": norm, "update_norm": every[-1]["update_norm"]}
    return add_metrics(totals, mean | seen)


def full_batches(config: TaskConfig, placement: Placement | None = None) -> FullBatches:
    """All training batches of a task's data, always in the same order.

    The same function for the same data, which compiled steps are found by.

    Arrays are augmented by the step that takes their gradient, with draws of its own.
    Records come augmented with those of seed 0's first epoch, the same every time: the
    full gradient of SVRG is then over one fixed draw of the augmentation, while each
    small batch has another, so that its correction has a mean that is not quite zero.

    Args:
      config: the task.
      placement: the devices; None leaves the batches on the host.

    Returns:
      A function that gives them from the first to the last.
    """
    named = (config.dataset, config.data_dir, config.crop, config.cutout)
    return _full_batches(named, config.batch_size, placement)


@functools.cache
def _full_batches(
    named: Any, batch_size: int, placement: Placement | None
) -> FullBatches:
    data = load_named(*named)
    return functools.partial(one_epoch, data, batch_size, seed=0, placement=placement)


def zero_totals() -> Totals:
    """The sums :func:`train_step` adds to, at the start of an epoch."""
    return {name: jnp.zeros((), jnp.float32) for name in _TOTALS}


def load(config: TaskConfig) -> Images:
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
    data = load_named(config.dataset, config.data_dir, config.crop, config.cutout)
    if config.batch_size > len(data.train):
        raise ExperimentError(
            f"--batch-size must be at most {len(data.train)} (the training images of "
            f"{config.dataset}), got {config.batch_size}"
        )
    if data.num_classes < 2:
        raise ExperimentError(f"{config.dataset} has no labels to classify by")
    return data


def load_arrays(config: TaskConfig) -> Dataset:
    """:func:`load` for what looks at all examples at once.

    Args:
      config: the task.

    Returns:
      The data set, in memory.

    Raises:
      ExperimentError: as there, or if the data do not fit in memory.
    """
    data = load(config)
    if not isinstance(data, Dataset):
        raise ExperimentError(
            f"--dataset must fit in memory here, uncropped, got {config.dataset}; "
            f"choose one of: {', '.join(list_datasets())}"
        )
    return data


@functools.partial(jax.jit, static_argnames="model")
def _init_variables(model: nn.Module, key: jax.Array, images: jax.Array) -> Any:
    return model.init(key, images, train=False)


def init_state(
    config: RunConfig, data: Images, key: jax.Array, placement: Placement | None = None
) -> TrainState:
    """A fresh state; model and optimiser are the same objects for every seed.

    Args:
      config: the run.
      data: the data.
      key: of the parameters.
      placement: the devices; None for one. No device holds more than its part at any
        time.

    Returns:
      The state.
    """
    model, apply_fn = network(config, data.num_classes, placement)
    shared = dataclasses.replace(config, seed=0)
    tx = build_optimizer(shared, len(data.train) // config.batch_size)
    if config.accumulate > 1:
        tx = accumulated(tx, config.accumulate)
    if placement is not None:
        tx = in_place(tx, placement)

    def create(variables: Any) -> TrainState:
        return TrainState.create(
            apply_fn=apply_fn,
            params=variables["params"],
            tx=tx,
            batch_stats=variables.get("batch_stats", {}),
        )

    image = jnp.zeros((1, *data.image_shape), jnp.float32)
    if placement is None:
        return create(_init_variables(model, key, image))

    def begin(key: jax.Array, image: jax.Array) -> TrainState:
        return create(_init_variables(model, key, image))

    shapes = jax.eval_shape(begin, key, image)
    return jax.jit(begin, out_shardings=placement.shardings(shapes))(key, image)


def check_run(config: RunConfig, devices: int = 1, *, skip: bool = False) -> None:
    """Checks that optimiser, batch and devices go together.

    Args:
      config: the run.
      devices: how many.
      skip: whether updates that are not finite are left out.

    Raises:
      ExperimentError: naming the argument and what does not fit.
    """
    size, accumulate = config.batch_size, config.accumulate
    check_cut(config.optimizer, size, accumulate, devices, skip=skip)
    replicas = config.replicas or devices
    if config.batch_stats == "replica" and size % (replicas * accumulate):
        raise ExperimentError(
            f"--batch-size must be a multiple of {replicas * accumulate} (--replicas "
            f"{replicas} times --accumulate {accumulate}), got {size}"
        )
    needs = registry.get_record(config.optimizer).needs
    if "kfac_factors" in needs and (config.remat or config.batch_stats == "replica"):
        flag = "--remat" if config.remat else "--batch-stats replica"
        raise ExperimentError(
            f"{flag} does not go with {config.optimizer}, whose factors are taken from "
            "one pass over the whole batch"
        )
