"""Masked language modelling: the network, its loss and one update."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from experiments.configs.p2.masked import MaskedConfig
from experiments.data._masked_text import MaskedText
from experiments.data._masking import MaskedBatch, masked_batches
from experiments.errors import ExperimentError
from experiments.loops._accumulate import Parts, gradient_norm
from experiments.loops._image_data import share_of
from experiments.loops._skip import add_metrics, skipping
from experiments.parallel import Placement
from optax_ia import models
from optax_ia.flax import TrainState, build_train_step

Totals = dict[str, jax.Array]

_TOTALS = ("loss", "masked_loss", "masked", "gradient_norm", "update_norm")


def inputs_of(batch: MaskedBatch) -> dict[str, Any]:
    """What the network sees of a batch."""
    return {"tokens": batch["tokens"], "positions": batch["positions"]}


def masked_loss(
    logits: jax.Array, batch: MaskedBatch, *, label_smoothing: float = 0.0
) -> tuple[jax.Array, Any]:
    """The mean cross entropy over the chosen tokens.

    Small batches have different numbers of them. Each sum is divided by the mean of
    these numbers, so that the mean of the losses is that of the whole batch.

    Args:
      logits: ``(batch, chosen, vocabulary)``, at the chosen positions.
      batch: labels and weights; of a small batch "all_weights" too, those of all small
        batches of the update.
      label_smoothing: share of each label that is spread over all tokens.

    Returns:
      The mean, and numerator and denominator of the one without smoothing.
    """
    labels, weights = batch["labels"], batch["weights"]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    total, count = jnp.vdot(losses, weights), jnp.sum(weights)
    lowered = total
    if label_smoothing:
        # The normaliser is the same for all tokens: what is left is their logits.
        right = jnp.take_along_axis(logits, labels[..., None], -1)[..., 0]
        losses = losses + label_smoothing * (right - logits.mean(-1))
        lowered = jnp.vdot(losses, weights)
    every = batch.get("all_weights", (weights,))
    if len(every) == 1:
        return lowered / jnp.maximum(count, 1), {"masked_loss": total, "masked": count}
    divisor = jnp.maximum(sum(map(jnp.sum, every)), 1) / len(every)
    return lowered / divisor, {"masked_loss": total, "masked": count}


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
        "dtype": jnp.bfloat16 if config.precision == "bf16" else None,
    }
    for size in ("hidden_size", "intermediate_size", "num_layers"):
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
def beginning(
    model: nn.Module,
    apply_fn: Any,
    tx: Any,
    placement: Placement | None,
    skipping_for: tuple[str, ...] | None = None,
) -> Callable[[jax.Array, MaskedBatch], TrainState]:
    """What makes a fresh state where it is to lie.

    On several devices by one program: none of them ever holds more than its part.

    Args:
      model: the network.
      apply_fn: its ``apply``.
      tx: the optimiser.
      placement: the devices; None for one.
      skipping_for: what the optimiser needs, if updates that are not finite are to be
        left out; else None.

    Returns:
      A function of the key and of a batch that tells shapes.
    """

    def begin(key: jax.Array, batch: MaskedBatch) -> TrainState:
        params = init_params(model, key, batch)
        state = TrainState.create(apply_fn=apply_fn, params=params, tx=tx)
        return state if skipping_for is None else skipping(state, skipping_for)

    if placement is None:
        return begin

    def begin_placed(key: jax.Array, batch: MaskedBatch) -> TrainState:
        shapes = jax.eval_shape(begin, key, batch)
        placed = jax.jit(begin, out_shardings=placement.shardings(shapes))
        return placed(key, batch)

    return begin_placed


@functools.cache
def every_batch(
    data: MaskedText, batch_size: int, placement: Placement | None = None
) -> Callable[[], Iterable[Any]]:
    """All training sequences, always in the same order and masked the same."""
    index, count = share_of(placement)

    def read() -> Iterator[Any]:
        batches = masked_batches(
            data.train,
            batch_size,
            vocab_size=data.vocab_size,
            seed=0,
            epochs=1,
            process_index=index,
            process_count=count,
            threads=0,
        )
        with contextlib.closing(batches):
            for batch in batches:
                yield batch if placement is None else placement.share(batch)

    return read


@functools.cache
def masked_step(
    needs: tuple[str, ...], layers: Any, full_batches: Any, label_smoothing: float = 0.0
) -> Any:
    """The step of all optimisers with the same needs, on the same data.

    Args:
      needs: the extra arguments that the optimiser needs.
      layers: those with Kronecker factors, for K-FAC; else None.
      full_batches: gives all training batches, for SVRG; else None.
      label_smoothing: share of each label that is spread over all tokens.

    Returns:
      ``(state, batch, key)`` to state and metrics.
    """
    kfac = None
    if layers is not None:
        kfac = {"layers": layers, "weights": lambda batch: batch["weights"]}
    return build_train_step(
        needs,
        functools.partial(masked_loss, label_smoothing=label_smoothing),
        inputs=inputs_of,
        full_batches=full_batches,
        kfac=kfac,
        norms=True,
    )


def zero_totals(skip: bool = False) -> Totals:
    """The sums of an epoch at its start; if wanted, the number of skipped updates."""
    names = (*_TOTALS, "skipped") if skip else _TOTALS
    return {name: jnp.zeros((), jnp.float32) for name in names}


def take_step(
    update: Callable[..., Any],
    state: TrainState,
    totals: Totals,
    parts: Parts,
    key: jax.Array,
) -> tuple[TrainState, Totals]:
    """One update from the small batches of a batch, most often one.

    Args:
      update: as :func:`masked_step` makes it.
      state: donated; its optimiser updates at the last of the small batches.
      totals: sums over the epoch so far, donated.
      parts: the small batches.
      key: the run's.

    Returns:
      The new state and the new sums: of the whole batch's loss, and of the norm of its
      gradient.
    """
    if len(parts) == 1:
        state, metrics = update(state, parts[0], key)
        return state, _add(totals, metrics)
    weights = tuple(part["weights"] for part in parts)
    every = []
    for part in parts:
        state, metrics = update(state, part | {"all_weights": weights}, key)
        every.append(metrics)
    return state, _add_parts(totals, every, gradient_norm(state.opt_state))


@functools.partial(jax.jit, donate_argnums=0)
def _add(totals: Totals, step: Totals) -> Totals:
    return add_metrics(totals, step)


@functools.partial(jax.jit, donate_argnums=0)
def _add_parts(totals: Totals, every: list[Totals], norm: jax.Array) -> Totals:
    sums: Totals = jax.tree.map(lambda *values: sum(values), *every)
    seen = {
        "loss": sums["loss"] / len(every),
        "gradient_norm": norm,
        "update_norm": every[-1]["update_norm"],  # the parameters move at the last
    }
    return add_metrics(totals, sums | seen)
