"""DCGAN generator and critic of a Wasserstein GAN."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from optax_ia._src.checks import check_choice, check_integer
from optax_ia.models._layers import ModuleDef, batch_norm, logits

_normal = nn.initializers.normal(0.02)


def _around_one(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
    """The start of the scales of a batch normalisation."""
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


def _check_sizes(module: Any) -> None:
    """Of a generator or a critic."""
    size = module.size
    check_integer("size", size, minimum=8)
    if size & (size - 1):
        raise ValueError(f"size must be a power of two, got {size}.")
    check_integer("features", module.features, minimum=1)
    check_integer("extra_layers", module.extra_layers, minimum=0)
    check_choice("norm", module.norm, ("batch", "layer", "none"))


def _norm(kind: str, train: bool, dtype: Any) -> ModuleDef | None:
    """Makes the normalisations of that kind."""
    if kind == "none":
        return None
    if kind == "layer":  # over all of an example, as with a gradient penalty
        return functools.partial(
            nn.LayerNorm, reduction_axes=(1, 2, 3), epsilon=1e-5, dtype=dtype
        )
    return functools.partial(batch_norm(train, dtype), scale_init=_around_one)


def _normalised(x: jax.Array, norm: ModuleDef | None, name: str) -> jax.Array:
    """After the normalisation of that name, if there is one."""
    return x if norm is None else norm(name=name)(x)


_plain = {"use_bias": False, "kernel_init": _normal}
_same = functools.partial(nn.Conv, kernel_size=(3, 3), **_plain)
_halve = functools.partial(nn.Conv, kernel_size=(4, 4), strides=2, padding=1, **_plain)
_double = functools.partial(
    nn.ConvTranspose, kernel_size=(4, 4), strides=(2, 2), **_plain
)


class Generator(nn.Module):
    """From noise to images: 4x4 at first, doubled by transposed convolutions.

    Attributes:
      size: side of the images, a power of two from 8.
      channels: of the images.
      features: channels before the last layer; doubled with each halving of the side.
      extra_layers: 3x3 convolutions before the last layer.
      norm: "batch", "layer" (over a whole example) or "none".
      dtype: of the computation; parameters and batch statistics are float32. None
        takes the wider of the noise's and the parameters'.

    References:
      Radford, Metz, Chintala, `Unsupervised Representation Learning with Deep
      Convolutional Generative Adversarial Networks <https://arxiv.org/abs/1511.06434>`_,
      2015; Arjovsky, Chintala, Bottou, `Wasserstein GAN
      <https://arxiv.org/abs/1701.07875>`_, 2017
    """

    size: int = 64
    channels: int = 3
    features: int = 64
    extra_layers: int = 0
    norm: str = "batch"
    dtype: Any = None

    def __post_init__(self) -> None:
        """Checks the attributes."""
        _check_sizes(self)
        check_integer("channels", self.channels, minimum=1)
        super().__post_init__()

    @nn.compact
    def __call__(self, noise: jax.Array, train: bool = True) -> jax.Array:
        """Maps noise ``(batch, numbers)`` to images between -1 and 1.

        Args:
          noise: standard normal numbers.
          train: whether batch normalisation uses, and updates, the statistics of this
            batch.

        Returns:
          (batch, size, size, channels), float32 at least.
        """
        norm = _norm(self.norm, train, self.dtype)
        up = functools.partial(_double, dtype=self.dtype)
        width = self.features * self.size // 8
        # a transposed convolution of a single pixel is a dense layer
        x = nn.Dense(
            16 * width,
            use_bias=False,
            kernel_init=_normal,
            dtype=self.dtype,
            name="project",
        )(noise)
        x = x.reshape(-1, 4, 4, width)
        for index in range(self.size.bit_length() - 3):
            if index:
                width //= 2
                x = up(width, name=f"up_{index}")(x)
            x = nn.relu(_normalised(x, norm, f"norm_{index}"))
        for index in range(self.extra_layers):
            x = _same(width, dtype=self.dtype, name=f"extra_{index}")(x)
            x = nn.relu(_normalised(x, norm, f"extra_norm_{index}"))
        return jnp.tanh(logits(up(self.channels, name="image")(x)))


class Critic(nn.Module):
    """From images to scores: halved to 4x4 by convolutions, then summed up.

    Attributes:
      size: side of the images, a power of two from 8.
      features: channels after the first layer; doubled with each halving of the side.
      extra_layers: 3x3 convolutions after the first layer.
      norm: "batch", "layer" (over a whole example) or "none". A gradient penalty needs
        the last two: with batch normalisation an example's score depends on the others.
      dtype: of the computation; parameters and batch statistics are float32. None
        takes the wider of the images' and the parameters'.

    References:
      As :class:`Generator`.

    .. note::
      The score is not bounded, as in the Wasserstein GAN paper.
    """

    size: int = 64
    features: int = 64
    extra_layers: int = 0
    norm: str = "batch"
    dtype: Any = None

    def __post_init__(self) -> None:
        """Checks the attributes."""
        _check_sizes(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = True) -> jax.Array:
        """Maps images ``(batch, size, size, channels)`` to scores ``(batch,)``.

        Args:
          images: with values between -1 and 1.
          train: whether batch normalisation uses, and updates, the statistics of this
            batch.

        Returns:
          Scores, float32 at least, high for what is taken for data.

        Raises:
          ValueError: if the images have another size.
        """
        if images.shape[1:3] != (self.size, self.size):
            raise ValueError(
                f"images must be {self.size}x{self.size}, got shape {images.shape}."
            )
        norm = _norm(self.norm, train, self.dtype)
        down = functools.partial(_halve, dtype=self.dtype)
        width = self.features
        x = nn.leaky_relu(down(width, name="down_0")(images), 0.2)
        for index in range(self.extra_layers):
            x = _same(width, dtype=self.dtype, name=f"extra_{index}")(x)
            x = nn.leaky_relu(_normalised(x, norm, f"extra_norm_{index}"), 0.2)
        for index in range(1, self.size.bit_length() - 3):
            width *= 2
            x = down(width, name=f"down_{index}")(x)
            x = nn.leaky_relu(_normalised(x, norm, f"norm_{index}"), 0.2)
        score = nn.Dense(
            1, use_bias=False, kernel_init=_normal, dtype=self.dtype, name="score"
        )
        return logits(score(x.reshape(len(x), -1))[:, 0])


wgan_generator = Generator
wgan_critic = Critic
wgan_generator_32 = functools.partial(Generator, size=32)
wgan_critic_32 = functools.partial(Critic, size=32)
_eight = {"size": 8, "features": 32, "extra_layers": 1}
wgan_generator_8 = functools.partial(Generator, channels=1, **_eight)
wgan_critic_8 = functools.partial(Critic, **_eight)
