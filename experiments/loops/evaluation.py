"""Loss and accuracy over a split, of an iterate and of an average."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

import optax_ia
from experiments.data import Split
from experiments.loops._image_data import (
    Images,
    RecordsSplit,
    augment_of,
    one_epoch,
    weighted_blocks,
)
from experiments.parallel import Placement
from optax_ia.flax import TrainState

_BATCH = 512


def losses_and_correct(
    logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """Cross entropy and correctness of every example.

    Args:
      logits: ``(examples, num_classes)``.
      labels: ``(examples,)``; or ``(examples, num_classes)`` of zeros and ones where
        several may hold at once: then both are means over the classes, of the binary
        cross entropy and of whether the logit has the sign that it should.
      label_smoothing: share of each label that is spread over all classes.

    Returns:
      Both, float32 or wider, ``(examples,)``.
    """
    if labels.ndim == logits.ndim:
        wanted = labels * (1 - label_smoothing) + label_smoothing / 2
        losses = optax.sigmoid_binary_cross_entropy(logits, wanted).mean(-1)
        right = (logits > 0) == (labels > 0)
        return losses, right.mean(-1, dtype=jnp.float32)
    if label_smoothing:
        exact = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        smooth = optax.smooth_labels(exact, label_smoothing)
        losses = optax.softmax_cross_entropy(logits, smooth)
    else:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses, (logits.argmax(-1) == labels).astype(jnp.float32)


@functools.partial(jax.jit, static_argnames="apply_fn")
def _score(
    apply_fn: Callable[..., Any],
    variables: Any,
    images: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Weighted sums of cross entropy and of correct answers."""
    losses, correct = losses_and_correct(
        apply_fn(variables, images, train=False), labels
    )
    return jnp.vdot(weights, losses), jnp.vdot(weights, correct)


def evaluate(
    apply_fn: Callable[..., Any],
    variables: Any,
    split: Split | RecordsSplit,
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
    for block in weighted_blocks(split, _BATCH, placement):
        sums = _score(apply_fn, variables, *block)
        loss, correct = loss + float(sums[0]), correct + float(sums[1])
    return loss / len(split), correct / len(split)


def _recalibration_batches(
    data: Images,
    batch_size: int,
    seed: int,
    key: jax.Array,
    placement: Placement | None,
) -> Iterator[jax.Array]:
    """One pass over the training data, augmented as in training, always the same.

    The statistics of the average are taken over the distribution that those of the
    iterate saw, so that a comparison of the two shows the averaging alone.
    """
    augment = augment_of(data)
    batches = one_epoch(data, batch_size, seed=seed, placement=placement)
    for number, (images, _) in enumerate(batches):
        yield augment(jax.random.fold_in(key, number), images)


def has_average(state: TrainState) -> bool:
    """Whether the optimiser averages and has collected an iterate."""
    return bool(optax_ia.diagnostics(state.opt_state).get("num_averaged", 0) > 0)


def candidates(
    state: TrainState,
    data: Images,
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
    splits: Mapping[str, Split | RecordsSplit],
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
