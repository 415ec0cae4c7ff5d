"""One window of a recurrent language model: its loss, a fresh state, one update."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import optax_ia.flax
from experiments.data.text import Window
from experiments.loops._accumulate import gradient_norm
from experiments.loops._language_read import Carry, FullPass, Read, apply_of, mask
from experiments.loops.engine import add_metrics
from experiments.parallel import Placement, in_place
from optax_ia import models
from optax_ia.flax import Likelihood, TrainState, build_train_step
from optax_ia.second_order import KfacLayer

Totals = dict[str, jax.Array]

TOTALS = ("loss", "nll", "tokens", "gradient_norm", "update_norm")


class Penalties(NamedTuple):
    """The weights of the regularisers of the training loss.

    Attributes:
      alpha: of the squares of the last layer's states (AR).
      beta: of their squared changes (TAR).
      label_smoothing: share of each target that is spread over all words.
    """

    alpha: float
    beta: float
    label_smoothing: float = 0.0


def _mean(losses: jax.Array, window: Window) -> jax.Array:
    """The mean over the positions that count."""
    count = window.tokens.shape[0] * window.length.astype(jnp.float32)
    return jnp.vdot(mask(window), losses.astype(jnp.float32)) / count


def mean_nll(logits: jax.Array, window: Window) -> jax.Array:
    """The mean negative log likelihood of the targets that count, in nats."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, window.targets)
    return _mean(losses, window)


def _mean_over_words(logits: jax.Array, window: Window) -> jax.Array:
    """The same of targets that are any word, all alike."""
    return _mean(jax.nn.logsumexp(logits, axis=-1) - logits.mean(-1), window)


def loss_of(penalties: Penalties) -> Callable[..., Any]:
    """The training loss: likelihood, AR and TAR; the carry comes with the metrics.

    Args:
      penalties: the weights of the regularisers. The likelihood among the metrics is
        without.

    Returns:
      A function of a model's outputs and a :class:`Read`.
    """
    smoothing = penalties.label_smoothing

    def loss(outputs: models.LanguageOutput, read: Read) -> tuple[Any, Any]:
        window = read.window
        nll = mean_nll(outputs.logits, window)
        penalty = models.activation_regularisation(
            outputs, penalties.alpha, penalties.beta, length=jnp.asarray(window.length)
        )
        tokens = window.tokens.shape[0] * window.length.astype(jnp.float32)
        metrics = {"nll": nll * tokens, "tokens": tokens, "carry": outputs.carry}
        fit = nll
        if smoothing:
            # Cross entropy is linear in the target: no targets of all words are made.
            spread = _mean_over_words(outputs.logits, window)
            fit = (1 - smoothing) * nll + smoothing * spread
        return read.share * (fit + penalty), metrics

    return loss


def _categorical() -> Likelihood:
    """The next word's distribution, read from the outputs of a language model."""

    def terms(outputs, labels):
        return optax.softmax_cross_entropy_with_integer_labels(outputs.logits, labels)

    def sample(key, outputs):
        return jax.random.categorical(key, outputs.logits)

    return Likelihood("next word", terms, sample)


@functools.cache
def train_step(
    needs: tuple[str, ...],
    penalties: Penalties,
    full_pass: FullPass | None = None,
    layers: tuple[KfacLayer, ...] | None = None,
) -> Callable[..., Any]:
    """The step of all optimisers with the same needs, ``(state, read, key)``.

    Args:
      needs: the extra arguments that the optimiser needs.
      penalties: weights of the regularisers.
      full_pass: all windows, for an optimiser that needs their mean gradient.
      layers: for K-FAC, the layers that have factors.

    Returns:
      The step; its state is donated. The carry is among its metrics.
    """
    kfac = {
        "likelihood": _categorical(),
        "weights": lambda read: mask(read.window),
        "layers": layers,
    }
    return build_train_step(
        needs,
        loss_of(penalties),
        inputs=lambda read: read,
        full_batches=full_pass,
        kfac=kfac if "kfac_factors" in needs else None,
        norms=True,
    )


def kfac_layers(model: nn.Module, window: Window) -> tuple[KfacLayer, ...]:
    """The layers that have Kronecker factors: those that make gates of inputs.

    The table of tied words is used as the output layer too, and recurrent kernels are
    no layers: both take the plain gradient.

    Args:
      model: the network.
      window: any.
    """
    carry = model.initial_carry(len(window.tokens))
    params = init_params(model, jax.random.key(0), window.tokens[:1, :1])
    return optax_ia.flax.kfac_layers(
        apply_of(model),
        {"params": params},
        Read(window, carry, 1.0),
        inputs=lambda read: read,
    )


def update(
    step: Callable[..., Any], state: TrainState, reads: list[Read], key: jax.Array
) -> tuple[TrainState, Totals, Carry]:
    """One update on a window, whole or in groups of columns.

    Args:
      step: of :func:`train_step`.
      state: donated; its optimiser updates at the last of the groups.
      reads: the groups, or the whole alone.
      key: of the run; each group has draws of its own.

    Returns:
      The new state; the metrics of the whole window; the carry after it, of groups a
      tuple of theirs.
    """
    every, after = [], []
    for read in reads:
        state, metrics = step(state, read, key)
        after.append(metrics.pop("carry"))
        every.append(metrics)
    if len(reads) == 1:
        return state, every[0], after[0]
    return state, _together(every, gradient_norm(state.opt_state)), tuple(after)


@jax.jit
def _together(every: list[Totals], norm: jax.Array) -> Totals:
    metrics = jax.tree.map(lambda *values: sum(values), *every)
    return metrics | {
        "loss": metrics["loss"] / len(every),
        "gradient_norm": norm,
        "update_norm": every[-1]["update_norm"],  # the parameters move at the last
    }


@functools.partial(jax.jit, donate_argnums=0)
def add(
    totals: Totals, metrics: Totals, carry: Carry, before: Carry
) -> tuple[Totals, Carry]:
    """The sums over an epoch and the carry after one more step.

    Where updates that are not finite are left out, their carry is too: it would make
    the next ones so.

    Args:
      totals: of the epoch so far, donated; those that count ``"skipped"`` updates leave
        out.
      metrics: of the step.
      carry: that the step left.
      before: the carry that it was given.

    Returns:
      The new sums, and the carry for the next step.
    """
    added = add_metrics(totals, metrics)
    if "skipped" in totals:
        taken = added["skipped"] == totals["skipped"]
        carry = jax.tree.map(lambda new, old: jnp.where(taken, new, old), carry, before)
    return added, carry


@functools.partial(jax.jit, static_argnames="model")
def init_params(model: nn.Module, key: jax.Array, tokens: jax.Array) -> Any:
    """Fresh parameters."""
    return model.init(key, tokens, train=False)["params"]


def init_state(
    model: nn.Module, tx: Any, key: jax.Array, placement: Placement | None = None
) -> TrainState:
    """A fresh state; model and transformation are the same objects for every seed.

    Args:
      model: the network.
      tx: the transformation.
      key: of the parameters.
      placement: the devices; None for one. No device holds more than its part at any
        time.

    Returns:
      The state.
    """
    apply_fn = apply_of(model, placement)
    tokens = jnp.zeros((1, 1), jnp.int32)
    if placement is None:
        params = init_params(model, key, tokens)
        return TrainState.create(apply_fn=apply_fn, params=params, tx=tx)
    tx = in_place(tx, placement)

    def begin(key: jax.Array, tokens: jax.Array) -> TrainState:
        params = init_params(model, key, tokens)
        return TrainState.create(apply_fn=apply_fn, params=params, tx=tx)

    shapes = jax.eval_shape(begin, key, tokens)
    return jax.jit(begin, out_shardings=placement.shardings(shapes))(key, tokens)
