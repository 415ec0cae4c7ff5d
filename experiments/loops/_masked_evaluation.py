"""Masked language modelling: loss, perplexity and accuracy over a part."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data._masked_text import MaskedText
from experiments.data._masking import MaskedBatch, evaluation_batches
from experiments.loops._masked_step import inputs_of, masked_loss
from experiments.loops.engine import Row
from experiments.loops.evaluation import has_average
from experiments.parallel import Placement
from optax_ia.flax import TrainState

_BATCH = 64


@functools.partial(jax.jit, static_argnames="apply_fn")
def _score(
    apply_fn: Callable[..., Any], params: Any, batch: MaskedBatch
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums over the chosen tokens: of the loss, of right answers, and how many."""
    logits = apply_fn({"params": params}, inputs_of(batch), train=False)
    _, sums = masked_loss(logits, batch)
    right = (logits.argmax(-1) == batch["labels"]).astype(jnp.float32)
    return sums["masked_loss"], jnp.vdot(right, batch["weights"]), sums["masked"]


@functools.cache
def evaluation_of(
    data: MaskedText, split: str, multiple_of: int = 1
) -> list[MaskedBatch]:
    """The batches of a part, always masked the same, of a multiple of so many rows."""
    return evaluation_batches(
        getattr(data, split),
        _BATCH,
        vocab_size=data.vocab_size,
        multiple_of=multiple_of,
    )


def _sums_over(
    apply_fn: Callable[..., Any],
    params: Any,
    data: MaskedText,
    split: str,
    placement: Placement | None,
) -> tuple[float, float, float]:
    """Those of :func:`_score` over a part."""
    devices = 1 if placement is None else placement.devices
    sums = np.zeros(3)
    for batch in evaluation_of(data, split, devices):
        placed = batch if placement is None else placement.whole(batch)
        sums += jax.device_get(_score(apply_fn, params, placed))
    total, right, count = sums.tolist()
    return total, right, count


def perplexity(loss: float | None) -> float | None:
    """The exponential of a mean cross entropy; infinite where it is too large."""
    if loss is None:
        return None
    return math.exp(loss) if loss < 700 else math.inf


def evaluate(
    state: TrainState,
    data: MaskedText,
    splits: tuple[str, ...],
    placement: Placement | None = None,
) -> Row:
    """Loss, perplexity and accuracy on masked tokens, of iterate and average.

    Args:
      state: of a run.
      data: the sequences.
      splits: such as ``("validation",)``; always masked the same.
      placement: the devices; None for one. The sums are exact on any number of them.

    Returns:
      Such as ``validation_perplexity`` and ``average_validation_loss``; None where
      there is no average.
    """
    found = {"": state.params, "average_": None}
    if has_average(state):
        found["average_"] = state.averaged_variables()["params"]
    row: Row = {}
    for prefix, params in found.items():
        for split in splits:
            loss = accuracy = None
            if params is not None:
                total, right, count = _sums_over(
                    state.apply_fn, params, data, split, placement
                )
                loss, accuracy = total / count, right / count
            row[f"{prefix}{split}_loss"] = loss
            row[f"{prefix}{split}_perplexity"] = perplexity(loss)
            row[f"{prefix}{split}_accuracy"] = accuracy
    return row
