"""VGG networks, with batch normalisation or without: ImageNet, CIFAR, tiny."""

import functools
from typing import Any

import flax.linen as nn
import jax

from optax_ia.models._layers import (
    Activation,
    ImageNetwork,
    ModuleDef,
    adaptive_avg_pool,
    he_fan_out,
    logits,
    max_pool,
    uniform_fan_in,
)
from optax_ia.models._sizes import takes_images


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
    act: Activation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``(batch, height, width, channels)`` to ``features`` channels."""
        x = self.conv(self.features)(x)
        return self.act(x if self.norm is None else self.norm()(x))


class VGG(ImageNetwork):
    """Stages of 3x3 convolution blocks, each stage closed by 2x2 max-pooling.

    Left to itself a convolution carries no bias where a normalisation follows, which
    has one. The published networks carry both; such a bias changes nothing but the
    normalisation's running mean, and its gradient is zero. Without normalisation
    convolutions have a bias and begin with He's variance, which keeps the size of the
    activations from layer to layer.

    Attributes:
      stages: channels of every block, stage by stage. The image side must be
        divisible by ``2 ** len(stages)``.
      act: the activation function of every block.
      normalise: whether batch normalisation follows every convolution.
      bias: whether convolutions have a bias; None for where nothing normalises.
      kernel_init: of the convolutions; None for LeCun's before a normalisation and
        He's, both by the inputs of a unit, without one.
      pool: the side to which the last features are pooled; None leaves them.
      hidden: widths of the dense layers before the outputs.
      dense_init: of the dense layers; None for LeCun's.
      dropout: rate, once for each of the ``hidden`` layers.
      drop_before: whether dropout comes before these layers or after them.

    References:
      Simonyan and Zisserman, `Very Deep Convolutional Networks for Large-Scale
      Image Recognition <https://arxiv.org/abs/1409.1556>`_, 2014
    """

    stages: tuple[tuple[int, ...], ...] = ((16, 16), (32, 32))
    act: Activation = nn.relu
    normalise: bool = True
    bias: bool | None = None
    kernel_init: Any = None
    pool: int | None = None
    hidden: tuple[int, ...] = ()
    dense_init: Any = None
    dropout: float = 0.0
    drop_before: bool = False

    @takes_images
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """Returns logits ``(batch, num_classes)``.

        Args:
          x: images ``(batch, height, width, channels)``.
          train: whether dropout drops, and batch normalisation uses (and updates) the
            statistics of this batch; otherwise the running ones in ``batch_stats``.
        """
        init = self.kernel_init
        if init is None and self.normalise:
            init = nn.initializers.lecun_normal()
        elif init is None:
            init = nn.initializers.he_normal()
        conv = functools.partial(
            nn.Conv,
            kernel_size=(3, 3),
            use_bias=not self.normalise if self.bias is None else self.bias,
            kernel_init=init,
            dtype=self.dtype,
        )
        norm = None
        if self.normalise:
            norm = functools.partial(
                nn.BatchNorm,
                use_running_average=not train,
                momentum=0.9,
                dtype=self.dtype,
            )
        dense = functools.partial(
            nn.Dense,
            kernel_init=self.dense_init or nn.initializers.lecun_normal(),
            dtype=self.dtype,
        )
        for widths in self.stages:
            for features in widths:
                x = ConvBlock(features, conv=conv, norm=norm, act=self.act)(x)
            x = max_pool(x, 2, 2)
        if self.pool is not None:
            x = adaptive_avg_pool(x, self.pool)
        x = x.reshape(x.shape[0], -1)
        for features in self.hidden:
            drop = nn.Dropout(self.dropout, deterministic=not train)
            x = drop(x) if self.drop_before else x
            x = self.act(dense(features)(x))
            x = x if self.drop_before else drop(x)
        return logits(dense(self.num_classes)(x))


def _stages(*blocks: int) -> tuple[tuple[int, ...], ...]:
    widths = (64, 128, 256, 512, 512)
    return tuple((w,) * n for w, n in zip(widths, blocks, strict=True))


_published = functools.partial(
    VGG, bias=True, kernel_init=he_fan_out, dense_init=uniform_fan_in, normalise=False
)

_imagenet = functools.partial(
    _published,
    num_classes=1000,
    pool=7,
    hidden=(4096, 4096),
    dense_init=nn.initializers.normal(0.01),
    dropout=0.5,
)
vgg11 = functools.partial(_imagenet, stages=_stages(1, 1, 2, 2, 2))
vgg16 = functools.partial(_imagenet, stages=_stages(2, 2, 3, 3, 3))
vgg19 = functools.partial(_imagenet, stages=_stages(2, 2, 4, 4, 4))
vgg11_bn = functools.partial(vgg11, normalise=True)
vgg16_bn = functools.partial(vgg16, normalise=True)
vgg19_bn = functools.partial(vgg19, normalise=True)

# One dense layer, as the CIFAR code that P2 and P4 build on has it.
vgg11_cifar = functools.partial(_published, stages=_stages(1, 1, 2, 2, 2))
vgg16_cifar = functools.partial(_published, stages=_stages(2, 2, 3, 3, 3))
vgg19_cifar = functools.partial(_published, stages=_stages(2, 2, 4, 4, 4))
vgg11_bn_cifar = functools.partial(vgg11_cifar, normalise=True)
vgg16_bn_cifar = functools.partial(vgg16_cifar, normalise=True)
vgg19_bn_cifar = functools.partial(vgg19_cifar, normalise=True)

# Three dense layers, dropout before the first two, as in the SWA code: P0 and P1.
_swa = {"hidden": (512, 512), "dropout": 0.5, "drop_before": True}
vgg16_swa = functools.partial(vgg16_cifar, **_swa)
vgg16_bn_swa = functools.partial(vgg16_bn_cifar, **_swa)

vgg_small = functools.partial(VGG, stages=((16, 16), (32, 32)))
vgg_tiny = functools.partial(VGG, stages=((4,), (8,)))
vgg_tiny_plain = functools.partial(vgg_tiny, normalise=False)
