"""Loss and accuracy over a split, of an iterate and of an average."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_ia
from experiments.data import Dataset, Split, epoch_batches
from experiments.parallel import Placement
from optax_ia.flax import TrainState

_BATCH = 512


@functools.partial(jax.jit, static_argnames="apply_fn")
def _score(
    apply_fn: Callable[..., Any],
    variables: Any,
    images: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Weighted sums of cross entropy and of correct answers."""
    logits = apply_fn(variables, images, train=False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = (logits.argmax(-1) == labels).astype(jnp.float32)
    return jnp.vdot(weights, losses), jnp.vdot(weights, correct)


def evaluate(
    apply_fn: Callable[..., Any],
    variables: Any,
    split: Split,
    *,
    placement: Placement | None = None,
) -> tuple[float, float]:
    """Mean cross entropy and accuracy over a split.

    Args:
      apply_fn: the model's ``apply``.
      variables: ``params`` and ``batch_stats``.
      split: images and labels.
      placement: the devices; None for one. The sums are exact on any number of them.

    Returns:
      Loss and accuracy (a fraction).
    """
    loss = correct = 0.0
    size = min(_BATCH, len(split))
    if placement is not None:  # at least as many that every device has as many
        size = -(-size // placement.devices) * placement.devices
    for begin in range(0, len(split), size):
        images = split.images[begin : begin + size]
        labels = split.labels[begin : begin + size]
        # Filled up to one size, with weight zero, so that one program serves all.
        missing = size - len(images)
        weights = np.pad(np.ones(len(images), np.float32), (0, missing))
        images = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))
        labels = np.pad(labels, (0, missing))
        batch = images, labels, weights
        if placement is not None:
            batch = placement.whole(batch)
        sums = _score(apply_fn, variables, *batch)
        loss, correct = loss + float(sums[0]), correct + float(sums[1])
    return loss / len(split), correct / len(split)


def _recalibration_batches(
    data: Dataset,
    batch_size: int,
    seed: int,
    key: jax.Array,
    placement: Placement | None,
) -> Iterator[jax.Array]:
    """One pass over the training data, augmented as in training, always the same.

    The statistics of the average are taken over the distribution that those of the
    iterate saw, so that a comparison of the two shows the averaging alone.
    """
    batches = epoch_batches(data.train, batch_size, seed=seed, epoch=0)
    for number, (images, _) in enumerate(batches):
        if placement is not None:
            images = placement.whole(images)
        yield data.augment(jax.random.fold_in(key, number), images)


def has_average(state: TrainState) -> bool:
    """Whether the optimiser averages and has collected an iterate."""
    return bool(optax_ia.diagnostics(state.opt_state).get("num_averaged", 0) > 0)


def candidates(
    state: TrainState,
    data: Dataset,
    *,
    batch_size: int,
    seed: int,
    key: jax.Array,
    placement: Placement | None = None,
) -> dict[str, Any]:
    """The variables to be evaluated.

    Args:
      state: the state of a run.
      data: the data.
      batch_size: examples a batch, for the batch statistics.
      seed: of the order of the training data.
      key: of its augmentation, and of dropout.
      placement: the devices; None for one.

    Returns:
      ``""`` to the iterate's variables and, once something has been averaged,
      ``"average_"`` to the average's, with batch statistics estimated anew. The names
      are prefixes for those of the metrics.
    """
    found = {"": {"params": state.params, "batch_stats": state.batch_stats}}
    if has_average(state):
        batches = _recalibration_batches(data, batch_size, seed, key, placement)
        found["average_"] = state.averaged_variables(batches, rngs={"dropout": key})
    return found


def score_splits(
    state: TrainState,
    variables: dict[str, Any],
    splits: dict[str, Split],
    *,
    placement: Placement | None = None,
) -> dict[str, Any]:
    """Loss and accuracy of each candidate on each split, under flat names.

    Args:
      state: the state, for its ``apply_fn``.
      variables: as :func:`candidates` gives them.
      splits: such as ``{"validation": ...}``.
      placement: the devices; None for one.

    Returns:
      Such as ``validation_loss`` and ``average_validation_accuracy``; None where there
      is no average.
    """
    row: dict[str, Any] = {}
    for prefix in ("", "average_"):
        for name, split in splits.items():
            loss = accuracy = None
            if prefix in variables:
                loss, accuracy = evaluate(
                    state.apply_fn, variables[prefix], split, placement=placement
                )
            row[f"{prefix}{name}_loss"] = loss
            row[f"{prefix}{name}_accuracy"] = accuracy
    return row
