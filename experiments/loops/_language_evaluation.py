"""Perplexities of a text in three splits, of an iterate and of an average."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import optax_ia
from experiments.configs.language import LanguageTask
from experiments.data.text import Passage, TextCorpus, passage_of
from experiments.loops._language_read import by_columns, gathered
from experiments.loops.engine import Row
from experiments.parallel import Placement
from optax_ia.flax import TrainState

SPLITS = ("train", "validation", "test")


def perplexity(nll: float) -> float:
    """The exponential of a mean negative log likelihood; infinite beyond floats."""
    return math.exp(nll) if nll < 700 else math.inf


def perplexities(
    config: LanguageTask,
    corpus: TextCorpus,
    model: nn.Module,
    state: TrainState,
    splits: tuple[str, ...],
    placement: Placement | None = None,
) -> Row:
    """The perplexity of iterate and average on each split.

    Args:
      config: the task.
      corpus: the text.
      model: the network.
      state: the state of a run.
      splits: some of :data:`SPLITS`.
      placement: the devices; None for one.

    Returns:
      Such as ``validation_perplexity`` and ``average_validation_perplexity``; None
      where there is no average.
    """
    params = {"": state.params, "average_": None}
    if optax_ia.diagnostics(state.opt_state).get("num_averaged", 0) > 0:
        params["average_"] = optax_ia.averaged_params(state.opt_state, state.params)
    columns = {
        "train": config.batch_size,
        "validation": config.validation_columns,
        "test": config.test_columns,
    }
    row: Row = {}
    for prefix, chosen in params.items():
        for split in splits:
            score = None
            if chosen is not None:
                passage = laid_out(
                    corpus, split, columns[split], config.bptt, placement
                )
                score = perplexity(evaluate(model, chosen, passage, placement))
            row[f"{prefix}{split}_perplexity"] = score
    return row


@functools.cache
def laid_out(
    corpus: TextCorpus,
    split: str,
    columns: int,
    size: int,
    placement: Placement | None = None,
) -> Passage:
    """A split for evaluation, on the devices.

    Args:
      corpus: the text.
      split: which.
      columns: that it is read in.
      size: positions of a window.
      placement: the devices; None for one. Columns that weigh nothing are added, so
        that every device has as many.

    Returns:
      The windows.
    """
    passage = passage_of(getattr(corpus, split), columns, size)
    if placement is None:
        return jax.device_put(passage)
    missing = -passage.tokens.shape[1] % placement.devices
    filled = jax.tree.map(
        lambda array: np.pad(array, ((0, 0), (0, missing), (0, 0))), passage
    )
    return placement.whole(filled, axis=1)


def evaluate(
    model: nn.Module,
    params: Any,
    passage: Passage,
    placement: Placement | None = None,
) -> float:
    """The mean negative log likelihood of a split's tokens, in nats.

    Args:
      model: the network.
      params: its parameters, those of an average say.
      passage: the split.
      placement: the devices that both are on; None for one.

    Returns:
      The mean over all tokens but the first, which nothing precedes; its exponential is
      the perplexity.
    """
    sums, counts = jax.device_get(_sums(model, params, passage, placement))
    return float(sums.sum(dtype=np.float64) / counts.sum(dtype=np.float64))


@functools.partial(jax.jit, static_argnames=("model", "placement"))
def _sums(
    model: nn.Module, params: Any, passage: Passage, placement: Placement | None
) -> tuple[jax.Array, jax.Array]:
    """Negative log likelihood and number of the targets of each window.

    There is no gradient here, and the recurrent networks have no convolutions: a loop
    of the compiler's costs nothing.
    """
    columns = passage.tokens.shape[1]
    size = passage.tokens.shape[2]
    params = gathered(params, placement)

    def read(carry, window):
        tokens, targets, weights = window
        outputs: Any = model.apply(
            {"params": params}, tokens, carry, train=False, length=size
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(
            outputs.logits, targets
        )
        total = jnp.vdot(weights, losses.astype(jnp.float32))
        return by_columns(outputs.carry, placement), total

    carry = by_columns(model.initial_carry(columns), placement)
    _, sums = lax.scan(read, carry, passage)
    found = sums, passage.weights.sum((1, 2))
    if placement is None:
        return found
    return lax.with_sharding_constraint(found, placement.replicated)
