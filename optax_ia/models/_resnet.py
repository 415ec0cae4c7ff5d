"""Residual networks: ImageNet and CIFAR stems, and the narrow family for CIFAR."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from optax_ia._src.checks import check_choice
from optax_ia.models import _layers
from optax_ia.models._layers import Activation, ImageNetwork, ModuleDef
from optax_ia.models._sizes import takes_images


class Shortcut(nn.Module):
    """The input of a residual block, made as large as its output.

    Attributes:
      features: channels of the output.
      stride: of the block.
      kind: "projection" for a 1x1 convolution and a normalisation where the shapes
        differ (He et al.'s option B); "pad" for every ``stride``-th pixel and channels
        of zeros (option A), without parameters.
      conv: makes the convolution.
      norm: makes the normalisation; None for none.
    """

    features: int
    stride: int
    kind: str
    conv: ModuleDef
    norm: ModuleDef | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns ``x`` itself where it fits."""
        if self.stride == 1 and x.shape[-1] == self.features:
            return x
        if self.kind == "pad":
            x = x[:, :: self.stride, :: self.stride]
            missing = self.features - x.shape[-1]
            return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, missing)))
        x = self.conv(self.features, 1, self.stride, name="conv")(x)
        return x if self.norm is None else self.norm(name="norm")(x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added.

    Attributes:
      features: number of channels.
      stride: of the first convolution.
      conv: makes convolutions.
      norm: makes normalisations.
      act: the activation.
      shortcut: as in :class:`Shortcut`.
      last_scale: initialisation of the last normalisation's scale.
      squeeze: divides the channels of a squeeze-and-excitation; None for none.
    """

    features: int
    stride: int
    conv: ModuleDef
    norm: ModuleDef
    act: Activation
    shortcut: str = "projection"
    last_scale: nn.initializers.Initializer = nn.initializers.ones
    squeeze: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the activation of input plus branch."""
        y = self.conv(self.features, 3, self.stride, name="conv1")(x)
        y = self.act(self.norm(name="norm1")(y))
        y = self.conv(self.features, 3, name="conv2")(y)
        y = self.norm(name="norm2", scale_init=self.last_scale)(y)
        if self.squeeze:
            hidden = self.features // self.squeeze
            y = _layers.SqueezeExcite(hidden, self.conv, name="se")(y)
        make = functools.partial(Shortcut, conv=self.conv, norm=self.norm)
        shortcut = make(self.features, self.stride, self.shortcut, name="shortcut")
        return self.act(y + shortcut(x))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, around which the input is added.

    The stride is the 3x3 convolution's, as in torchvision; He et al. put it on the
    first one.

    Attributes:
      features: channels before expansion by 4.
      stride: of the 3x3 convolution.
      conv: makes convolutions.
      norm: makes normalisations.
      act: the activation.
      shortcut: as in :class:`Shortcut`.
      last_scale: initialisation of the last normalisation's scale.
      squeeze: divides the channels of a squeeze-and-excitation; None for none.
      groups: of the 3x3 convolution, the cardinality of a ResNeXt.
      group_width: channels of a group in a block of 64 features.
    """

    features: int
    stride: int
    conv: ModuleDef
    norm: ModuleDef
    act: Activation
    shortcut: str = "projection"
    last_scale: nn.initializers.Initializer = nn.initializers.ones
    squeeze: int | None = None
    groups: int = 1
    group_width: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the activation of input plus branch."""
        width = self.features * self.group_width // 64 * self.groups
        features = 4 * self.features
        y = self.act(self.norm(name="norm1")(self.conv(width, 1, name="conv1")(x)))
        y = self.conv(width, 3, self.stride, groups=self.groups, name="conv2")(y)
        y = self.act(self.norm(name="norm2")(y))
        y = self.conv(features, 1, name="conv3")(y)
        y = self.norm(name="norm3", scale_init=self.last_scale)(y)
        if self.squeeze:
            hidden = features // self.squeeze
            y = _layers.SqueezeExcite(hidden, self.conv, name="se")(y)
        make = functools.partial(Shortcut, conv=self.conv, norm=self.norm)
        shortcut = make(features, self.stride, self.shortcut, name="shortcut")
        return self.act(y + shortcut(x))


class ResNet(ImageNetwork):
    """Stages of residual blocks; each stage halves the image and doubles the width.

    Attributes:
      stages: number of blocks, stage by stage.
      block: :class:`BasicBlock` or :class:`Bottleneck`.
      width: features of the first stage.
      stem: "cifar" (3x3, stride 1) or "imagenet" (7x7, stride 2, max-pooling).
      shortcut: "projection" or "pad", as in :class:`Shortcut`.
      zero_init: whether the scale of a block's last normalisation begins at zero, so
        that the network begins as its shortcuts (Goyal et al., 2017).
      act: the activation.
      dropout: rate before the outputs.

    References:
      He et al., `Deep Residual Learning for Image Recognition
      <https://arxiv.org/abs/1512.03385>`_, 2015

      Goyal et al., `Accurate, Large Minibatch SGD
      <https://arxiv.org/abs/1706.02677>`_, 2017
    """

    stages: tuple[int, ...] = (2, 2, 2, 2)
    block: ModuleDef = BasicBlock
    width: int = 64
    stem: str = "imagenet"
    shortcut: str = "projection"
    zero_init: bool = False
    act: Activation = nn.relu
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Checks the attributes."""
        check_choice("shortcut", self.shortcut, ("projection", "pad"))
        super().__post_init__()

    @takes_images
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """Returns logits ``(batch, num_classes)``.

        Args:
          x: images ``(batch, height, width, channels)``.
          train: whether to use and update batch statistics, and to drop.
        """
        conv, norm = _layers.conv_and_norm(train, self.dtype)
        x = _layers.Stem(self.width, self.stem, conv, norm, self.act, name="stem")(x)
        for stage, blocks in enumerate(self.stages):
            for index in range(blocks):
                x = self.block(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    conv=conv,
                    norm=norm,
                    act=self.act,
                    shortcut=self.shortcut,
                    last_scale=_zeros if self.zero_init else _ones,
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(_layers.global_mean(x))
        return _layers.head(x, self.num_classes, self.dtype)


_ones, _zeros = nn.initializers.ones, nn.initializers.zeros

_imagenet = functools.partial(ResNet, num_classes=1000)
resnet18 = functools.partial(_imagenet, stages=(2, 2, 2, 2))
resnet34 = functools.partial(_imagenet, stages=(3, 4, 6, 3))
resnet50 = functools.partial(_imagenet, stages=(3, 4, 6, 3), block=Bottleneck)
resnet101 = functools.partial(_imagenet, stages=(3, 4, 23, 3), block=Bottleneck)

_small_stem = {"stem": "cifar", "num_classes": 10}
resnet18_cifar = functools.partial(resnet18, **_small_stem)
resnet34_cifar = functools.partial(resnet34, **_small_stem)
resnet50_cifar = functools.partial(resnet50, **_small_stem)
resnet101_cifar = functools.partial(resnet101, **_small_stem)

# He et al., section 4.2: three stages of n blocks, 6 n + 2 layers.
_narrow = functools.partial(ResNet, width=16, shortcut="pad", stem="cifar")
resnet20 = functools.partial(_narrow, stages=(3, 3, 3))
resnet32 = functools.partial(_narrow, stages=(5, 5, 5))
resnet44 = functools.partial(_narrow, stages=(7, 7, 7))
resnet56 = functools.partial(_narrow, stages=(9, 9, 9))
resnet110 = functools.partial(_narrow, stages=(18, 18, 18))

resnet_tiny = functools.partial(ResNet, stages=(1, 1), width=4, stem="cifar")
resnet_tiny_bottleneck = functools.partial(resnet_tiny, block=Bottleneck)
