r"""AWD-LSTM: an LSTM language model with dropped recurrent weights.

With the gates side by side in PyTorch's order i, f, g, o,

.. math::
  (i, f, g, o)_t = x_t W + b + h_{t-1} (m \odot U) + b',\qquad
  c_t = \sigma(f_t) c_{t-1} + \sigma(i_t) \tanh(g_t),\qquad
  h_t = \sigma(o_t) \tanh(c_t),

W (inputs, 4 features) meets the whole window in one product, before the loop over time;
U (features, 4 features) is masked once for a window.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from optax_ia.models._regularised import RegularisedLanguageModel, symmetric_uniform


class LSTMCarry(NamedTuple):
    """The states of one LSTM layer.

    Attributes:
      hidden: its last output, (batch, features).
      cell: its memory, (batch, features), float32 at least.
    """

    hidden: jax.Array
    cell: jax.Array


def _loop(gates, kernel, carry, length):
    """The recurrence over the first axis of the inputs' part of the gates."""

    def step(carry, inputs):
        gates, time = inputs
        gates = (gates + carry.hidden @ kernel).astype(carry.cell.dtype)
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        cell = nn.sigmoid(f) * carry.cell + nn.sigmoid(i) * jnp.tanh(g)
        hidden = (nn.sigmoid(o) * jnp.tanh(cell)).astype(carry.hidden.dtype)
        new = LSTMCarry(hidden, cell)
        if length is not None:
            new = jax.tree.map(functools.partial(jnp.where, time < length), new, carry)
        return new, new.hidden

    final, outputs = lax.scan(step, carry, (gates, jnp.arange(gates.shape[0])))
    return outputs, final


@jax.custom_jvp
def recurrence(
    gates: jax.Array, kernel: jax.Array, carry: LSTMCarry, length: Any
) -> tuple[jax.Array, LSTMCarry]:
    """An LSTM's loop over time.

    Args:
      gates: what the inputs and the biases give to the gates, (time, batch, 4 features)
        in the order i, f, g, o.
      kernel: the recurrent matrix, (features, 4 features).
      carry: the states before.
      length: steps at or after it change nothing; None if all count.

    Returns:
      The hidden states, (time, batch, features), and the states after.
    """
    return _loop(gates, kernel, carry, length)


@recurrence.defjvp
def _recurrence_jvp(primals, tangents):
    # A change of the kernel is a change of the gates by (previous hidden) @ change, all
    # of which are known after the loop: one product outside. Transposed, the kernel's
    # gradient is one product too, and not one for each step of the loop.
    gates, kernel, carry, length = primals
    gates_dot, kernel_dot, carry_dot, _ = tangents
    (outputs, final), push = jax.linearize(
        lambda gates, carry: _loop(gates, kernel, carry, length), gates, carry
    )
    previous = jnp.concatenate([carry.hidden[None], outputs[:-1]])
    return (outputs, final), push(gates_dot + previous @ kernel_dot, carry_dot)


class LSTMLayer(nn.Module):
    """One LSTM layer over a window, with DropConnect on the recurrent matrix.

    It has two biases, as PyTorch's: their sum is what matters, but it moves twice as
    fast under the same learning rate. All parameters begin uniform within
    ``1 / sqrt(features)``.

    Attributes:
      features: of the states.
      weight_dropout: probability that a recurrent weight is zero for a window.
      dtype: of the computation; None takes the parameters'.
    """

    features: int
    weight_dropout: float = 0.0
    dtype: Any = None

    @nn.nowrap
    def initial_carry(self, batch_size: int) -> LSTMCarry:
        """Zeros for so many texts."""
        dtype = self.dtype or jnp.float32
        shape = (batch_size, self.features)
        wide = jnp.promote_types(dtype, jnp.float32)
        return LSTMCarry(jnp.zeros(shape, dtype), jnp.zeros(shape, wide))

    @nn.compact
    def __call__(
        self, x: jax.Array, carry: LSTMCarry, train: bool, length: Any = None
    ) -> tuple[jax.Array, LSTMCarry]:
        """Maps ``(time, batch, inputs)`` to the hidden states and those carried on."""
        uniform = symmetric_uniform(1 / math.sqrt(self.features))
        width = 4 * self.features
        gates = nn.Dense(
            width,
            dtype=self.dtype,
            kernel_init=uniform,
            bias_init=uniform,
            name="input",
        )(x)
        kernel = self.param("recurrent_kernel", uniform, (self.features, width))
        bias = self.param("recurrent_bias", uniform, (width,))
        drop = nn.Dropout(self.weight_dropout, deterministic=not train)
        kernel = drop(kernel).astype(gates.dtype)
        wide = jnp.promote_types(gates.dtype, jnp.float32)
        carry = LSTMCarry(carry.hidden.astype(gates.dtype), carry.cell.astype(wide))
        gates = gates + bias.astype(gates.dtype)[None, None]
        return recurrence(gates, kernel, carry, length)


class AWDLSTM(RegularisedLanguageModel):
    """The AWD-LSTM language model; the defaults are the paper's for Penn Treebank.

    Called as ``model.apply(variables, tokens, carry, train=...)`` it returns a
    :class:`LanguageOutput`; begin with ``model.initial_carry(batch_size)``, hand each
    window the carry of the one before it.

    Attributes:
      weight_dropout: of the recurrent matrices, one mask for a window.

    References:
      Merity, Keskar, Socher, `Regularizing and Optimizing LSTM Language Models
      <https://arxiv.org/abs/1708.02182>`_, 2017, sections 2 to 5
    """

    @nn.nowrap
    def layer(self, index: int, inputs: int, features: int, **kwargs: Any) -> LSTMLayer:
        """An LSTM layer."""
        del inputs
        kwargs.setdefault("name", f"layer_{index}")
        return LSTMLayer(features, self.weight_dropout, **kwargs)


awd_lstm_1 = functools.partial(AWDLSTM, num_layers=1)
awd_lstm_2 = functools.partial(AWDLSTM, num_layers=2)
awd_lstm_3 = functools.partial(AWDLSTM, num_layers=3)
awd_lstm_tiny = functools.partial(
    AWDLSTM, vocab_size=50, embedding_size=8, hidden_size=12, num_layers=2
)
