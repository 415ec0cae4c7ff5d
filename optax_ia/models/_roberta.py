"""RoBERTa for masked language modelling: a Transformer encoder with a tied decoder."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from optax_ia._src.checks import check_integer, check_number
from optax_ia.models._layers import ModuleDef, logits

_normal = nn.initializers.normal(0.02)


class Embeddings(nn.Module):
    """Sum of token, position and type embeddings, normalised.

    Positions are counted from ``pad_token + 1`` over the tokens that are not padding;
    padding has the position ``pad_token``.

    Attributes:
      embed: makes an embedding from its number of rows.
      norm: makes the normalisation.
      vocab_size: number of tokens.
      num_positions: rows of the table of positions.
      pad_token: the number of the padding token.
    """

    embed: ModuleDef
    norm: ModuleDef
    vocab_size: int
    num_positions: int
    pad_token: int

    def setup(self) -> None:
        """Makes the tables; the first one is the decoder too."""
        self.word = self.embed(self.vocab_size)
        self.position = self.embed(self.num_positions)
        self.token_type = self.embed(1)
        self.layer_norm = self.norm()

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps ``(batch, time)`` tokens to features."""
        counted = (tokens != self.pad_token).astype(jnp.int32)
        positions = jnp.cumsum(counted, axis=1) * counted + self.pad_token
        x = self.word(tokens) + self.token_type(jnp.zeros_like(tokens))
        return self.layer_norm(x + self.position(positions))

    def decode(self, x: jax.Array) -> jax.Array:
        """Products of features with the table of tokens."""
        return self.word.attend(x)


class EncoderLayer(nn.Module):
    """Attention, then two dense layers, each normalised after its residual sum.

    Attributes:
      attention: makes the self-attention.
      dense: makes a dense layer from its number of outputs.
      norm: makes the normalisation.
      dropout: makes the dropout.
      intermediate_size: features between the two dense layers.
    """

    attention: ModuleDef
    dense: ModuleDef
    norm: ModuleDef
    dropout: ModuleDef
    intermediate_size: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """Maps ``(batch, time, features)`` to the same shape."""
        drop = self.dropout(deterministic=not train)
        attended = self.attention(name="attention")(
            x, mask=mask, deterministic=not train
        )
        x = self.norm(name="attention_norm")(x + drop(attended))
        wide = self.dense(self.intermediate_size, name="intermediate")(x)
        wide = nn.gelu(wide, approximate=False)
        return self.norm(name="output_norm")(
            x + drop(self.dense(x.shape[-1], name="output")(wide))
        )


class RobertaForMaskedLM(nn.Module):
    """RoBERTa with its masked language modelling head; the defaults are base's.

    Weights of Hugging Face's ``RobertaForMaskedLM`` can be loaded by
    :func:`from_torch`.

    Attributes:
      vocab_size: number of tokens.
      hidden_size: features.
      num_layers: number of encoder layers.
      num_heads: attention heads; must divide ``hidden_size``.
      intermediate_size: features between the two dense layers of an encoder layer.
      max_length: of a text, in tokens; the table of positions has ``pad_token + 1``
        rows more.
      pad_token: the number of the padding token.
      dropout: of features.
      attention_dropout: of attention weights.
      epsilon: of the layer normalisations.
      remat: whether encoder layers are computed again in the backward pass, for memory.
      dtype: of the computation; parameters are float32, and so are the statistics of
        normalisation and attention at least. None takes the parameters'.

    References:
      Liu et al., `RoBERTa: A Robustly Optimized BERT Pretraining Approach
      <https://arxiv.org/abs/1907.11692>`_, 2019; Devlin et al., `BERT: Pre-training of
      Deep Bidirectional Transformers <https://arxiv.org/abs/1810.04805>`_, 2018

    .. note::
      The bias of the keys adds the same to all scores of a query, which the softmax
      does not see: its gradient is zero but for rounding. It is there because the
      published weights have it.
    """

    vocab_size: int = 50_265
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    max_length: int = 512
    pad_token: int = 1
    dropout: float = 0.1
    attention_dropout: float = 0.1
    epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = None

    def __post_init__(self) -> None:
        """Checks the attributes."""
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads"):
            check_integer(name, getattr(self, name), minimum=1)
        for name in ("intermediate_size", "max_length"):
            check_integer(name, getattr(self, name), minimum=1)
        for name in ("dropout", "attention_dropout"):
            check_number(name, getattr(self, name), minimum=0, below=1)
        check_integer("pad_token", self.pad_token, minimum=0)
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads must divide hidden_size {self.hidden_size}, got "
                f"{self.num_heads}."
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        attention_mask: jax.Array | None = None,
        train: bool = True,
        positions: jax.Array | None = None,
    ) -> jax.Array:
        """Returns logits of the tokens, float32 at least.

        Args:
          tokens: (batch, time), integers, the masked ones replaced already.
          attention_mask: (batch, time), nonzero where a token may be looked at; None
            takes all that are not padding.
          train: whether to drop; needs the stream ``dropout`` of random numbers.
          positions: (batch, number), where in each text logits are wanted, such as the
            masked positions, which spares most of the decoder; None for everywhere.

        Returns:
          (batch, time or number, vocabulary).

        Raises:
          ValueError: if the texts are longer than ``max_length``.
        """
        if tokens.shape[1] > self.max_length:
            raise ValueError(
                f"texts must have at most max_length = {self.max_length} tokens, got "
                f"{tokens.shape[1]}."
            )
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=_normal)
        norm = functools.partial(nn.LayerNorm, epsilon=self.epsilon, dtype=self.dtype)
        dropout = functools.partial(nn.Dropout, self.dropout)
        half = self.dtype is not None and jnp.finfo(self.dtype).bits < 32
        attention = functools.partial(
            nn.MultiHeadDotProductAttention,
            self.num_heads,
            dtype=self.dtype,
            kernel_init=_normal,
            dropout_rate=self.attention_dropout,
            broadcast_dropout=False,
            force_fp32_for_softmax=half,
        )
        embeddings = Embeddings(
            functools.partial(
                nn.Embed,
                features=self.hidden_size,
                dtype=self.dtype,
                embedding_init=_normal,
            ),
            norm,
            self.vocab_size,
            self.max_length + self.pad_token + 1,
            self.pad_token,
            name="embeddings",
        )
        if attention_mask is None:
            attention_mask = tokens != self.pad_token
        mask = (attention_mask != 0)[:, None, None, :]
        x = dropout(deterministic=not train)(embeddings(tokens))
        layer = EncoderLayer
        if self.remat:
            layer = nn.remat(EncoderLayer, static_argnums=(3,))
        for index in range(self.num_layers):
            x = layer(
                attention,
                dense,
                norm,
                dropout,
                self.intermediate_size,
                name=f"layer_{index}",
            )(x, mask, train)
        if positions is not None:
            x = jnp.take_along_axis(x, positions[..., None], axis=1)
        x = nn.gelu(dense(self.hidden_size, name="head_dense")(x), approximate=False)
        x = embeddings.decode(norm(name="head_norm")(x))
        bias = self.param(
            "decoder_bias",
            nn.initializers.zeros_init(),
            (self.vocab_size,),
            jnp.float32,
        )
        return logits(x + bias.astype(x.dtype)[None, None])


roberta_base = RobertaForMaskedLM
roberta_80m = functools.partial(RobertaForMaskedLM, vocab_size=48_000, num_layers=6)
roberta_tiny = functools.partial(
    RobertaForMaskedLM,
    vocab_size=50,
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    intermediate_size=32,
    max_length=16,
)
