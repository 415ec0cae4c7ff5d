"""Masked language modelling: the network, its loss, one update and the scores."""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_ia
from experiments.configs.p2.masked import MaskedConfig
from experiments.data._masked_text import MaskedText
from experiments.data._masking import MaskedBatch, evaluation_batches, masked_batches
from experiments.errors import ExperimentError
from experiments.loops.engine import Row
from optax_ia import models
from optax_ia.flax import TrainState, build_train_step

Totals = dict[str, jax.Array]

_EVALUATION_BATCH = 64
_TOTALS = ("loss", "masked_loss", "masked", "gradient_norm", "update_norm")


def inputs_of(batch: MaskedBatch) -> dict[str, Any]:
    """What the network sees of a batch."""
    return {"tokens": batch["tokens"], "positions": batch["positions"]}


def masked_loss(logits: jax.Array, batch: MaskedBatch) -> tuple[jax.Array, Any]:
    """The mean cross entropy over the chosen tokens.

    Args:
      logits: ``(batch, chosen, vocabulary)``, at the chosen positions.
      batch: labels and weights.

    Returns:
      The mean, and its numerator and denominator.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
    total, count = jnp.vdot(losses, batch["weights"]), jnp.sum(batch["weights"])
    return total / jnp.maximum(count, 1), {"masked_loss": total, "masked": count}


@functools.cache
def _shared_model(name: str, options: tuple[tuple[str, Any], ...]) -> Any:
    """A model and its ``apply``, one object each for the same arguments.

    Compiled programs are found again by the identity of what they were made from.
    """
    model = models.create_model(name, **dict(options))

    def apply(variables, inputs, **kwargs):
        return model.apply(
            variables, inputs["tokens"], positions=inputs["positions"], **kwargs
        )

    return model, apply


def model_of(config: MaskedConfig, vocab_size: int) -> tuple[nn.Module, Any]:
    """The network of a task.

    Args:
      config: the task.
      vocab_size: the tokenizer's.

    Returns:
      The module, and its ``apply`` on :func:`inputs_of` a batch.

    Raises:
      ExperimentError: if its sizes do not fit one another.
    """
    options: dict[str, Any] = {
        "vocab_size": vocab_size,
        "max_length": config.max_length,
        "dropout": config.dropout,
        "attention_dropout": config.dropout,
        "remat": config.remat,
        "dtype": None if config.dtype == "float32" else config.dtype,
    }
    for size in ("hidden_size", "intermediate_size"):
        if getattr(config, size) is not None:
            options[size] = getattr(config, size)
    try:
        return _shared_model(config.model, tuple(sorted(options.items())))
    except ValueError as error:
        raise ExperimentError(f"{config.model}: {error}") from error


@functools.partial(jax.jit, static_argnames="model")
def init_params(model: nn.Module, key: jax.Array, batch: MaskedBatch) -> Any:
    """Fresh parameters; the batch tells shapes."""
    inputs = inputs_of(batch)
    return model.init(
        key, inputs["tokens"], positions=inputs["positions"], train=False
    )["params"]


@functools.cache
def every_batch(data: MaskedText, batch_size: int) -> Callable[[], Iterable[Any]]:
    """All training sequences, always in the same order and masked the same."""
    return functools.partial(
        masked_batches,
        data.train,
        batch_size,
        vocab_size=data.vocab_size,
        seed=0,
        epochs=1,
        threads=0,
    )


@functools.cache
def masked_step(needs: tuple[str, ...], layers: Any, full_batches: Any) -> Any:
    """The step of all optimisers with the same needs, on the same data.

    Args:
      needs: the extra arguments that the optimiser needs.
      layers: those with Kronecker factors, for K-FAC; else None.
      full_batches: gives all training batches, for SVRG; else None.

    Returns:
      ``(state, batch, key)`` to state and metrics.
    """
    kfac = None
    if layers is not None:
        kfac = {"layers": layers, "weights": lambda batch: batch["weights"]}
    return build_train_step(
        needs,
        masked_loss,
        inputs=inputs_of,
        full_batches=full_batches,
        kfac=kfac,
        norms=True,
    )


def zero_totals() -> Totals:
    """The sums of an epoch at its start."""
    return {name: jnp.zeros((), jnp.float32) for name in _TOTALS}


@functools.partial(jax.jit, donate_argnums=0)
def add_totals(totals: Totals, step: Totals) -> Totals:
    """The sums of an epoch with those of one step; ``totals`` are donated."""
    return {name: total + step[name] for name, total in totals.items()}


@functools.partial(jax.jit, static_argnames="apply_fn")
def _score(apply_fn: Callable[..., Any], params: Any, batch: MaskedBatch) -> jax.Array:
    """Sums over the chosen tokens: of the loss, of right answers, and how many."""
    logits = apply_fn({"params": params}, inputs_of(batch), train=False)
    _, sums = masked_loss(logits, batch)
    right = (logits.argmax(-1) == batch["labels"]).astype(jnp.float32)
    return jnp.stack(
        [sums["masked_loss"], jnp.vdot(right, batch["weights"]), sums["masked"]]
    )


@functools.cache
def evaluation_of(data: MaskedText, split: str) -> list[MaskedBatch]:
    """The batches of a part, always masked the same."""
    sequences = getattr(data, split)
    return evaluation_batches(sequences, _EVALUATION_BATCH, vocab_size=data.vocab_size)


def perplexity(loss: float | None) -> float | None:
    """The exponential of a mean cross entropy; infinite where it is too large."""
    if loss is None:
        return None
    return math.exp(loss) if loss < 700 else math.inf


def evaluate(state: TrainState, data: MaskedText, splits: tuple[str, ...]) -> Row:
    """Loss, perplexity and accuracy on masked tokens, of iterate and average.

    Args:
      state: of a run.
      data: the sequences.
      splits: such as ``("validation",)``; always masked the same.

    Returns:
      Such as ``validation_perplexity`` and ``average_validation_loss``; None where
      there is no average.
    """
    found = {"": state.params, "average_": None}
    if optax_ia.diagnostics(state.opt_state).get("num_averaged", 0) > 0:
        found["average_"] = state.averaged_variables()["params"]
    row: Row = {}
    for prefix, params in found.items():
        for split in splits:
            loss = accuracy = None
            if params is not None:
                sums = np.zeros(3)
                for batch in evaluation_of(data, split):
                    sums += np.asarray(_score(state.apply_fn, params, batch))
                total, right, count = (float(number) for number in sums)
                loss, accuracy = total / count, right / count
            row[f"{prefix}{split}_loss"] = loss
            row[f"{prefix}{split}_perplexity"] = perplexity(loss)
            row[f"{prefix}{split}_accuracy"] = accuracy
    return row
