"""One window of a recurrent language model: loss, update, and scores over a text."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import optax_ia.flax
from experiments.data.text import Passage, Window
from experiments.loops.engine import add_metrics
from optax_ia import models
from optax_ia.flax import Likelihood, TrainState, build_train_step
from optax_ia.second_order import KfacLayer

Carry = Any
Totals = dict[str, jax.Array]

TOTALS = ("loss", "nll", "tokens", "gradient_norm", "update_norm")


class Read(NamedTuple):
    """What a step is given.

    Attributes:
      window: what is read.
      carry: the states that the window before left.
      share: what the loss is multiplied by; 1 in training. In a mean over windows of
        unequal length it is the window's share of all positions, times their number.
    """

    window: Window
    carry: Carry
    share: jax.typing.ArrayLike


class Penalties(NamedTuple):
    """The weights of the activation regularisers.

    Attributes:
      alpha: of the squares of the last layer's states (AR).
      beta: of their squared changes (TAR).
    """

    alpha: float
    beta: float


@functools.cache
def apply_of(model: nn.Module) -> Callable[..., Any]:
    """A model's ``apply`` on :class:`Read`: one object for each model."""

    def apply(variables, read: Read, **kwargs):
        length = read.window.length
        return model.apply(
            variables, read.window.tokens, read.carry, length=length, **kwargs
        )

    return apply


def mask(window: Window) -> jax.Array:
    """1 where a position counts, else 0; float32, the shape of the tokens."""
    counts = jnp.arange(window.tokens.shape[1]) < window.length
    return jnp.broadcast_to(counts, window.tokens.shape).astype(jnp.float32)


def mean_nll(logits: jax.Array, window: Window) -> jax.Array:
    """The mean negative log likelihood of the targets that count, in nats."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, window.targets)
    count = window.tokens.shape[0] * window.length.astype(jnp.float32)
    return jnp.vdot(mask(window), losses.astype(jnp.float32)) / count


def loss_of(penalties: Penalties) -> Callable[..., Any]:
    """The training loss: likelihood, AR and TAR; the carry comes with the metrics."""

    def loss(outputs: models.LanguageOutput, read: Read) -> tuple[Any, Any]:
        window = read.window
        nll = mean_nll(outputs.logits, window)
        penalty = models.activation_regularisation(
            outputs, *penalties, length=jnp.asarray(window.length)
        )
        tokens = window.tokens.shape[0] * window.length.astype(jnp.float32)
        metrics = {"nll": nll * tokens, "tokens": tokens, "carry": outputs.carry}
        return read.share * (nll + penalty), metrics

    return loss


def _categorical() -> Likelihood:
    """The next word's distribution, read from the outputs of a language model."""

    def terms(outputs, labels):
        return optax.softmax_cross_entropy_with_integer_labels(outputs.logits, labels)

    def sample(key, outputs):
        return jax.random.categorical(key, outputs.logits)

    return Likelihood("next word", terms, sample)


class FullPass:
    """All windows of the training text, for the mean gradient that SVRG takes.

    The carry of every window is computed with the parameters that :attr:`params` was
    set to; the windows have the usual length, dropout is as in training.
    """

    def __init__(self, windows: list[Window], model: nn.Module):
        self._windows = windows
        self._model = model
        positions = sum(int(window.length) for window in windows)
        self._scale = len(windows) / positions
        self.params: Any = None

    def __call__(self) -> Iterable[Read]:
        """The windows in order."""
        carry = self._model.initial_carry(len(self._windows[0].tokens))
        for window in self._windows:
            yield Read(window, carry, jnp.float32(self._scale * int(window.length)))
            carry = _carry_after(self._model, self.params, window, carry)


@functools.partial(jax.jit, static_argnames="model")
def _carry_after(model: nn.Module, params: Any, window: Window, carry: Carry) -> Carry:
    return apply_of(model)(
        {"params": params}, Read(window, carry, 1.0), train=False
    ).carry


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
def _sum_nll(model: nn.Module, params: Any, passage: Passage) -> jax.Array:
    """The summed negative log likelihood of a split, window after window.

    There is no gradient here, and the recurrent networks have no convolutions: a loop
    of the compiler's costs nothing.
    """
    columns = passage.tokens.shape[1]
    size = passage.tokens.shape[2]

    def read(carry, window):
        tokens, targets, weights = window
        outputs: Any = model.apply(
            {"params": params}, tokens, carry, train=False, length=size
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(
            outputs.logits, targets
        )
        return outputs.carry, jnp.vdot(weights, losses.astype(jnp.float32))

    _, sums = lax.scan(read, model.initial_carry(columns), passage)
    return sums


def evaluate(model: nn.Module, params: Any, passage: Passage) -> float:
    """The mean negative log likelihood of a split's tokens, in nats.

    Args:
      model: the network.
      params: its parameters, those of an average say.
      passage: the split.

    Returns:
      The mean over all tokens but the first, which nothing precedes; its exponential is
      the perplexity.
    """
    sums, weights = jax.device_get((_sum_nll(model, params, passage), passage.weights))
    return float(sums.sum(dtype=np.float64) / weights.sum(dtype=np.float64))


@functools.partial(jax.jit, static_argnames="model")
def init_params(model: nn.Module, key: jax.Array, tokens: jax.Array) -> Any:
    """Fresh parameters."""
    return model.init(key, tokens, train=False)["params"]


def init_state(model: nn.Module, tx: Any, key: jax.Array) -> TrainState:
    """A fresh state; model and transformation are the same objects for every seed."""
    params = init_params(model, key, jnp.zeros((1, 1), jnp.int32))
    return TrainState.create(apply_fn=apply_of(model), params=params, tx=tx)
