r"""AWD-QRNN: gates from a window of inputs, and an element-wise recurrence.

.. math::
  z_t, f_t, o_t = \tanh, \sigma, \sigma\big([x_t, x_{t-1}] (m \odot W) + b\big),\qquad
  c_t = f_t z_t + (1 - f_t) c_{t-1},\qquad h_t = o_t c_t.

W meets the whole window of text in one product; the recurrence is linear in c and is
taken by an associative scan, in about log2(time) steps.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from optax_ia._src.checks import check_integer, check_number
from optax_ia.models._layers import uniform_fan_in
from optax_ia.models._regularised import RegularisedLanguageModel, symmetric_uniform


class QRNNCarry(NamedTuple):
    """The states of one QRNN layer.

    Attributes:
      cell: its memory, (batch, features), float32 at least.
      inputs: the last ``window - 1`` inputs, (batch, window - 1, inputs); None where
        the window is 1, since checkpoints hold no empty arrays.
    """

    cell: jax.Array
    inputs: jax.Array | None


def forget_mult(keep: jax.Array, update: jax.Array, cell: jax.Array) -> jax.Array:
    """All ``cell_t = keep_t * cell_{t-1} + update_t``, along the first axis.

    Args:
      keep: (time, ...).
      update: (time, ...).
      cell: the state before, (...).

    Returns:
      The states, (time, ...).
    """

    def after(first, second):
        return first[0] * second[0], first[1] * second[0] + second[1]

    update = update.at[0].add(keep[0] * cell)
    return lax.associative_scan(after, (keep, update))[1]


class QRNNLayer(nn.Module):
    """One QRNN layer over a window of text, with output gate and zoneout.

    Attributes:
      inputs: number of input features.
      features: of the states.
      window: number of inputs, the current and those before it, that make the gates.
      weight_dropout: probability that a weight is zero for a window of text.
      zoneout: probability that a state keeps its value at a position.
      dtype: of the computation; None takes the parameters'.
    """

    inputs: int
    features: int
    window: int = 1
    weight_dropout: float = 0.0
    zoneout: float = 0.0
    dtype: Any = None

    @nn.nowrap
    def initial_carry(self, batch_size: int) -> QRNNCarry:
        """Zeros for so many texts."""
        dtype = self.dtype or jnp.float32
        wide = jnp.promote_types(dtype, jnp.float32)
        cell = jnp.zeros((batch_size, self.features), wide)
        if self.window == 1:
            return QRNNCarry(cell, None)
        before = (batch_size, self.window - 1, self.inputs)
        return QRNNCarry(cell, jnp.zeros(before, dtype))

    @nn.compact
    def __call__(
        self, x: jax.Array, carry: QRNNCarry, train: bool, length: Any = None
    ) -> tuple[jax.Array, QRNNCarry]:
        """Maps ``(time, batch, inputs)`` to the outputs and what is carried on."""
        time, reach = x.shape[0], self.window - 1
        longer = x
        if carry.inputs is not None:
            before = jnp.swapaxes(carry.inputs, 0, 1).astype(x.dtype)
            longer = jnp.concatenate([before, x])
        source = jnp.concatenate(
            [longer[reach - back : reach - back + time] for back in range(self.window)],
            axis=-1,
        )
        drop = nn.Dropout(self.weight_dropout, deterministic=not train)
        gates = nn.Dense(
            3 * self.features,
            dtype=self.dtype,
            kernel_init=uniform_fan_in,
            bias_init=symmetric_uniform(1 / math.sqrt(self.window * self.inputs)),
            # the kernel is dropped where it is used: it stays a plain Dense's
            dot_general=lambda inputs, kernel, *args, **kwargs: lax.dot_general(
                inputs, drop(kernel), *args, **kwargs
            ),
            name="gates",
        )(source)
        z, f, o = jnp.split(gates, 3, axis=-1)
        wide = jnp.promote_types(gates.dtype, jnp.float32)
        f = nn.sigmoid(f.astype(wide))
        if self.zoneout and train:
            updates = jax.random.bernoulli(
                self.make_rng("dropout"), 1 - self.zoneout, f.shape
            )
            f = jnp.where(updates, f, 0)
        elif self.zoneout:
            f = f * (1 - self.zoneout)
        before = carry.cell.astype(wide)
        cells = forget_mult(1 - f, f * jnp.tanh(z.astype(wide)), before)
        outputs = (nn.sigmoid(o.astype(wide)) * cells).astype(gates.dtype)
        read = time if length is None else length
        cells = jnp.concatenate([before[None], cells])
        cell = lax.dynamic_index_in_dim(cells, read, keepdims=False)
        if reach == 0:
            return outputs, QRNNCarry(cell, None)
        inputs = lax.dynamic_slice_in_dim(longer, read, reach)
        return outputs, QRNNCarry(cell, jnp.swapaxes(inputs, 0, 1))


class AWDQRNN(RegularisedLanguageModel):
    """The AWD-QRNN language model; the defaults are the authors' for Penn Treebank.

    Called as :class:`AWDLSTM`. The first layer looks at two words, the others at one.

    Attributes:
      weight_dropout: of the matrices of all gates, one mask for a window of text.
      first_window: number of inputs that make the gates of the first layer.
      zoneout: probability that a state keeps its value at a position.

    References:
      Bradbury, Merity, Xiong, Socher, `Quasi-Recurrent Neural Networks
      <https://arxiv.org/abs/1611.01576>`_, 2016; Merity, Keskar, Socher, `An Analysis
      of Neural Language Modeling at Multiple Scales
      <https://arxiv.org/abs/1803.08240>`_, 2018

    .. note::
      As in the authors' code, f says how much of a state is new, where the paper's
      says how much is old: the same network with another sign before f. Zoneout keeps
      its expectation when evaluating, as there.
    """

    hidden_size: int = 1550
    num_layers: int = 4
    weight_dropout: float = 0.1
    first_window: int = 2
    zoneout: float = 0.0

    def __post_init__(self) -> None:
        """Checks the attributes."""
        check_integer("first_window", self.first_window, minimum=1)
        check_number("zoneout", self.zoneout, minimum=0, below=1)
        super().__post_init__()

    @nn.nowrap
    def layer(self, index: int, inputs: int, features: int, **kwargs: Any) -> QRNNLayer:
        """A QRNN layer."""
        kwargs.setdefault("name", f"layer_{index}")
        return QRNNLayer(
            inputs,
            features,
            window=self.first_window if index == 0 else 1,
            weight_dropout=self.weight_dropout,
            zoneout=self.zoneout,
            **kwargs,
        )


awd_qrnn = AWDQRNN
awd_qrnn_tiny = functools.partial(
    AWDQRNN, vocab_size=50, embedding_size=8, hidden_size=12, num_layers=2
)
