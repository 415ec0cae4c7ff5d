"""What the regularised recurrent language models share: dropout, tying, carried state.

Inside, time comes first: tokens are turned once, and the states of the last layer once
more, which is little beside the logits.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from optax_ia._src.checks import check_integer, check_number
from optax_ia.models._layers import logits

Carry = Any
"""The states of one layer, a NamedTuple of arrays with the batch axis first."""


class LanguageOutput(NamedTuple):
    """What a recurrent language model returns.

    Attributes:
      logits: of the next token at each position, (batch, time, vocabulary), float32 at
        least.
      carry: the states after the window, for the next one: a tuple over layers.
      raw: the states of the last layer, (batch, time, features).
      dropped: these after the dropout on the output, which the decoder sees.
    """

    logits: jax.Array
    carry: tuple[Carry, ...]
    raw: jax.Array
    dropped: jax.Array


def symmetric_uniform(bound: float) -> Callable[..., jax.Array]:
    """An initialiser, uniform between ``-bound`` and ``bound``."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def activation_regularisation(
    output: LanguageOutput,
    alpha: float = 2.0,
    beta: float = 1.0,
    *,
    length: int | jax.Array | None = None,
) -> jax.Array:
    r"""Penalties on large states (AR) and on their changes (TAR), to add to the loss.

    .. math::
      \alpha \operatorname{mean}\big((m \odot h_t)^2\big)
      + \beta \operatorname{mean}\big((h_{t+1} - h_t)^2\big)

    with the states :math:`h_t` of the last layer and the mask :math:`m` of the dropout
    on its output, scaled as the decoder sees it.

    Args:
      output: of an AWD-LSTM or an AWD-QRNN, in training mode.
      alpha: weight of the squares (AR); may be traced.
      beta: weight of the squared changes (TAR); may be traced.
      length: number of leading positions that count, as given to the model; None counts
        all.

    Returns:
      A scalar, float32 at least. A window of one position has no change.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import models
      >>> states = jnp.array([[[1.0], [3.0]]])  # one text, two positions, one feature
      >>> output = models.LanguageOutput(None, (), raw=states, dropped=2 * states)
      >>> print(models.activation_regularisation(output, alpha=2.0, beta=1.0))
      44.0

    References:
      Merity, McCann, Socher, `Revisiting Activation Regularization for Language RNNs
      <https://arxiv.org/abs/1708.01009>`_, 2017

    .. note::
      The paper writes norms, :math:`\|\cdot\|_2`; its authors' code takes the means of
      the squares, for which the published weights 2 and 1 are meant.
    """
    wide = jnp.promote_types(output.raw.dtype, jnp.float32)
    time = output.raw.shape[1]
    length = jnp.asarray(time if length is None else length)

    def mean_square(states, count):
        counts = (jnp.arange(states.shape[1]) < count)[None, :, None]
        total = jnp.sum(jnp.square(jnp.where(counts, states.astype(wide), 0)))
        per_position = states.shape[0] * states.shape[2]
        return total / (per_position * jnp.maximum(count, 1).astype(wide))

    changes = jnp.diff(output.raw.astype(wide), axis=1)
    squares = mean_square(output.dropped, length)
    return alpha * squares + beta * mean_square(changes, length - 1)


class RegularisedLanguageModel(nn.Module):
    """Embedding, recurrent layers and decoder with the dropouts of Merity et al.

    Subclasses say what a layer is. All masks are drawn once for a window: whole words
    of the table (embedding dropout), and features of the layers' inputs and outputs,
    the same at every position of a text (variational or locked dropout).

    Attributes:
      vocab_size: number of tokens.
      embedding_size: features of the embedding.
      hidden_size: features of all layers but the last, which has ``embedding_size``
        where the weights are tied.
      num_layers: number of recurrent layers.
      embedding_dropout: probability that a word is dropped wherever it occurs.
      input_dropout: of features of the first layer's inputs.
      hidden_dropout: of features between layers.
      output_dropout: of features of the last layer's outputs.
      weight_dropout: of single weights.
      tied: whether the decoder's matrix is that of the embedding.
      dtype: of the computation; parameters and long-lived states are float32. None
        takes the parameters'.
    """

    vocab_size: int = 10_000
    embedding_size: int = 400
    hidden_size: int = 1150
    num_layers: int = 3
    embedding_dropout: float = 0.1
    input_dropout: float = 0.4
    hidden_dropout: float = 0.3
    output_dropout: float = 0.4
    weight_dropout: float = 0.5
    tied: bool = True
    dtype: Any = None

    def __post_init__(self) -> None:
        """Checks the attributes."""
        for name in ("vocab_size", "embedding_size", "hidden_size", "num_layers"):
            check_integer(name, getattr(self, name), minimum=1)
        for name in ("embedding", "input", "hidden", "output", "weight"):
            name = f"{name}_dropout"
            check_number(name, getattr(self, name), minimum=0, below=1)
        super().__post_init__()

    @nn.nowrap
    def layer(self, index: int, inputs: int, features: int, **kwargs: Any) -> Any:
        """Layer ``index`` with so many input and output features."""
        raise NotImplementedError

    @nn.nowrap
    def _layers(self, **kwargs: Any) -> list[Any]:
        """All layers, from the first to the last."""
        last = self.embedding_size if self.tied else self.hidden_size
        widths = [self.embedding_size, *[self.hidden_size] * (self.num_layers - 1)]
        pairs = zip(widths, [*widths[1:], last], strict=True)
        return [
            self.layer(index, inputs, features, dtype=self.dtype, **kwargs)
            for index, (inputs, features) in enumerate(pairs)
        ]

    @nn.nowrap
    def initial_carry(self, batch_size: int) -> tuple[Carry, ...]:
        """The states before the first window of ``batch_size`` texts: zeros."""
        check_integer("batch_size", batch_size, minimum=1)
        return tuple(
            layer.initial_carry(batch_size) for layer in self._layers(parent=None)
        )

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        carry: tuple[Carry, ...] | None = None,
        train: bool = True,
        length: int | jax.Array | None = None,
    ) -> LanguageOutput:
        """Reads a window of each text.

        Args:
          tokens: (batch, time), integers.
          carry: the states that the previous window left; None for zeros. No gradient
            flows into them: windows are truncated.
          train: whether to drop; needs the stream ``dropout`` of random numbers.
          length: number of leading tokens that count, which may be traced: those after
            them leave the carried states alone, and their logits say nothing. So
            windows of many lengths share one compiled program. None counts all.

        Returns:
          A :class:`LanguageOutput`.
        """

        def dropout(rate, *shared):
            return nn.Dropout(rate, broadcast_dims=shared, deterministic=not train)

        tokens = tokens.T
        uniform = symmetric_uniform(0.1)
        embed = nn.Embed(
            self.vocab_size,
            self.embedding_size,
            dtype=self.dtype,
            embedding_init=uniform,
            name="embedding",
        )
        x = embed(tokens)
        if train:
            words = dropout(self.embedding_dropout)(jnp.ones(self.vocab_size, x.dtype))
            x = x * words[tokens][..., None]
        x = dropout(self.input_dropout, 0)(x)
        if carry is None:
            carry = self.initial_carry(tokens.shape[1])
        layers = self._layers()
        after, raw = [], x
        for index, (layer, before) in enumerate(zip(layers, carry, strict=True)):
            raw, left = layer(x, lax.stop_gradient(before), train, length)
            after.append(left)
            last = index == self.num_layers - 1
            x = dropout(self.output_dropout if last else self.hidden_dropout, 0)(raw)
        raw, x = jnp.swapaxes(raw, 0, 1), jnp.swapaxes(x, 0, 1)
        if self.tied:
            bias = self.param(
                "decoder_bias",
                nn.initializers.zeros_init(),
                (self.vocab_size,),
                jnp.float32,
            )
            outputs = embed.attend(x)
            outputs = outputs + bias.astype(outputs.dtype)[None, None]
        else:
            outputs = nn.Dense(
                self.vocab_size, dtype=self.dtype, kernel_init=uniform, name="decoder"
            )(x)
        return LanguageOutput(logits(outputs), tuple(after), raw, x)
