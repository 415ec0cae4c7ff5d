"""Convolutional networks of two sizes, for the curvature benchmark."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

Network = Literal["100k", "1m", "toy"]

CHANNELS = {"100k": (32, 64, 128), "1m": (96, 256, 320), "toy": (4, 4, 4)}
"""Outputs of the three convolutions."""

CLASSES = 10


def build(network: Network, batch_size: int, key: jax.Array) -> tuple[Any, Any]:
    """A network and a batch of random images.

    Args:
      network: one of :data:`CHANNELS`.
      batch_size: number of images.
      key: of the random generator.

    Returns:
      Parameters and batch, ``(images, labels)``, in float32 and int32.
    """
    *keys, image_key, label_key = jax.random.split(key, 6)
    params, inputs = {}, 3
    for number, outputs in enumerate(CHANNELS[network]):
        scale = (2 / (9 * inputs)) ** 0.5
        shape = (3, 3, inputs, outputs)
        params[f"Conv_{number}"] = {
            "kernel": scale * jax.random.normal(keys[number], shape, jnp.float32),
            "bias": jnp.zeros(outputs, jnp.float32),
        }
        inputs = outputs
    scale = inputs**-0.5
    params["Dense_0"] = {
        "kernel": scale * jax.random.normal(keys[3], (inputs, CLASSES), jnp.float32),
        "bias": jnp.zeros(CLASSES, jnp.float32),
    }
    images = jax.random.normal(image_key, (batch_size, 16, 16, 3), jnp.float32)
    labels = jax.random.randint(label_key, (batch_size,), 0, CLASSES, jnp.int32)
    return params, (images, labels)


def loss_fn(params: Any, batch: Any) -> jax.Array:
    """Cross entropy of three convolutions with softplus, the first two pooled by 2."""
    x, labels = batch
    for number in range(3):
        layer = params[f"Conv_{number}"]
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(
            x, layer["kernel"], (1, 1), "SAME", dimension_numbers=layout
        )
        x = jax.nn.softplus(x + layer["bias"][None, None, None])
        if number < 2:
            n, height, width, channels = x.shape
            x = x.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))
    last = params["Dense_0"]
    logits = x.mean((1, 2)) @ last["kernel"] + last["bias"][None]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
