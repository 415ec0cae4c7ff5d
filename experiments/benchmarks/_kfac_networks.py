"""The networks and the data of the K-FAC benchmark."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from optax_ia._src.paths import path_string

Network = Literal["autoencoder", "convnet", "toy_autoencoder", "toy_convnet"]

BATCHES = 8
"""How many batches there are; timed steps see the first."""


class Autoencoder(nn.Module):
    """Dense layers with tanh; none on the code in the middle and on the output.

    Attributes:
      widths: of the layers, the code in the middle and the output at the end.
    """

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        plain = (len(self.widths) // 2 - 1, len(self.widths) - 1)
        for number, width in enumerate(self.widths):
            x = nn.Dense(width)(x)
            if number not in plain:
                x = nn.tanh(x)
        return x


class Convnet(nn.Module):
    """Convolutions of 3 x 3, each pooled by 2 but the last, and one Dense layer.

    Attributes:
      channels: of the convolutions.
    """

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        for number, channels in enumerate(self.channels):
            x = nn.relu(nn.Conv(channels, (3, 3))(x))
            if number < len(self.channels) - 1:
                x = nn.avg_pool(x, (2, 2), (2, 2))
        return nn.Dense(10)(x.mean((1, 2)))


def _reconstruction(outputs, batch):
    terms = optax.sigmoid_binary_cross_entropy(outputs, batch[1])
    return terms.sum(axis=-1).mean()


def _classification(outputs, batch):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, batch[1]).mean()


@dataclasses.dataclass(frozen=True)
class Task:
    """A network, what it learns, and from what.

    Attributes:
      kind: ``"autoencoder"`` or ``"convnet"``, as the peer calls it.
      model: the network.
      loss_fn: of outputs and batch.
      likelihood: what K-FAC draws labels from.
      params: the parameters to start from.
      inputs: the inputs of all batches, shape (BATCHES, batch size, ...).
      labels: their labels.
    """

    kind: str
    model: nn.Module
    loss_fn: Any
    likelihood: str
    params: Any
    inputs: np.ndarray
    labels: np.ndarray

    def batch(self, number: int) -> tuple[jax.Array, jax.Array]:
        """One batch, on the device."""
        number %= len(self.inputs)
        return jnp.asarray(self.inputs[number]), jnp.asarray(self.labels[number])

    def save(self, path: Path) -> None:
        """Writes parameters and batches for the peer, by path."""
        leaves = jax.tree_util.tree_leaves_with_path({"params": self.params})
        arrays: dict[str, Any] = {
            path_string(place): np.asarray(leaf) for place, leaf in leaves
        }
        np.savez(path, inputs=self.inputs, labels=self.labels, **arrays)


def _images(size: int) -> tuple[np.ndarray, np.ndarray]:
    """All digits, in [0, 1], brought to a number of pixels a side; their classes."""
    raw, labels = load_digits(return_X_y=True)
    images = np.asarray(raw, np.float32).reshape(-1, 8, 8, 1) / 16
    shape = (len(images), size, size, 1)
    resized = jax.image.resize(images, shape, "linear")
    return np.asarray(resized), np.asarray(labels, np.int32)


def build(network: Network, batch_size: int, key: jax.Array) -> Task:
    """A network and its batches, drawn from the digits with replacement.

    Args:
      network: its name.
      batch_size: images in a batch.
      key: of the random generator.

    Returns:
      The task, in float32.
    """
    init_key, data_key = jax.random.split(key)
    models: dict[str, tuple[nn.Module, int]] = {
        "autoencoder": (Autoencoder((1000, 500, 250, 30, 250, 500, 1000, 784)), 28),
        "toy_autoencoder": (Autoencoder((12, 4, 12, 64)), 8),
        "convnet": (Convnet((32, 64, 128)), 16),
        "toy_convnet": (Convnet((4, 4)), 8),
    }
    model, size = models[network]
    images, labels = _images(size)
    shape = (BATCHES, batch_size)
    chosen = np.asarray(jax.random.randint(data_key, shape, 0, len(images)))
    images, labels = images[chosen], labels[chosen]
    if isinstance(model, Autoencoder):
        images = labels = images.reshape(*shape, -1)
    return Task(
        kind="autoencoder" if isinstance(model, Autoencoder) else "convnet",
        model=model,
        loss_fn=_reconstruction if images is labels else _classification,
        likelihood="bernoulli" if images is labels else "categorical",
        params=model.init(init_key, jnp.asarray(images[0, :1]))["params"],
        inputs=images,
        labels=labels,
    )
