"""VGG-style networks, with batch normalisation or without, for small images."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

ModuleDef = Any


class ConvBlock(nn.Module):
    """Convolution, normalisation, activation: the brick a VGG is built of.

    Attributes:
      features: number of output channels.
      conv: makes the convolution from a number of channels.
      norm: makes the normalisation; None for none.
      act: the activation function.
    """

    features: int
    conv: ModuleDef
    norm: ModuleDef | None
    act: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``(batch, height, width, channels)`` to ``features`` channels."""
        x = self.conv(self.features)(x)
        return self.act(x if self.norm is None else self.norm()(x))


class VGG(nn.Module):
    """Stages of 3x3 convolution blocks, each stage closed by 2x2 max-pooling.

    The convolutions carry no bias where a normalisation follows, which has one. Without
    it they do, and begin with He's variance, which keeps the size of the activations
    from layer to layer.

    Attributes:
      stages: channels of every block, stage by stage. The image side must be
        divisible by ``2 ** len(stages)``.
      num_classes: number of outputs.
      act: the activation function of every block.
      normalise: whether batch normalisation follows every convolution.

    References:
      Simonyan and Zisserman, `Very Deep Convolutional Networks for Large-Scale
      Image Recognition <https://arxiv.org/abs/1409.1556>`_, 2014
    """

    stages: tuple[tuple[int, ...], ...]
    num_classes: int = 10
    act: Callable[[jax.Array], jax.Array] = nn.relu
    normalise: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """Returns logits ``(batch, num_classes)``.

        Args:
          x: images ``(batch, height, width, channels)``.
          train: whether batch normalisation uses (and updates) the statistics of
            this batch; otherwise the running ones in ``batch_stats``.
        """
        conv = functools.partial(nn.Conv, kernel_size=(3, 3))
        norm = None
        if self.normalise:
            conv = functools.partial(conv, use_bias=False)
            norm = functools.partial(
                nn.BatchNorm, use_running_average=not train, momentum=0.9
            )
        else:
            conv = functools.partial(conv, kernel_init=nn.initializers.he_normal())
        for widths in self.stages:
            for features in widths:
                x = ConvBlock(features, conv=conv, norm=norm, act=self.act)(x)
            x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))


vgg_small = functools.partial(VGG, stages=((16, 16), (32, 32)))
vgg_tiny = functools.partial(VGG, stages=((4,), (8,)))
vgg_tiny_plain = functools.partial(vgg_tiny, normalise=False)
