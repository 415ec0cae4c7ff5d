"""MobileNetV2: inverted residuals with linear bottlenecks."""

import functools

import flax.linen as nn
import jax

from optax_ia.models import _layers
from optax_ia.models._layers import Activation, ImageNetwork, ModuleDef
from optax_ia.models._sizes import takes_images


def divisible(value: float, by: int = 8) -> int:
    """The nearest multiple of ``by``, never more than a tenth below ``value``."""
    rounded = max(by, int(value + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * value else rounded


class InvertedResidual(nn.Module):
    """Many channels by 1x1, each by itself by k x k, few channels by 1x1.

    Attributes:
      features: number of output channels.
      expansion: channels in between, times those of the input.
      kernel: size of the depthwise convolution.
      stride: of the depthwise convolution.
      conv: makes convolutions.
      norm: makes normalisations.
      act: the activation, which does not follow the last convolution.
      squeeze: divides the input's channels for a squeeze-and-excitation of the
        channels in between; None for none.
      drop_path: drops the branch, where there is a shortcut; None never does.
      project: whether the input is projected where stride 1 meets other channels, and
        expanded even by 1.
    """

    features: int
    expansion: int
    kernel: int
    stride: int
    conv: ModuleDef
    norm: ModuleDef
    act: Activation
    squeeze: int | None = None
    drop_path: ModuleDef | None = None
    project: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the branch, and where the shapes allow the input plus the branch."""
        hidden = x.shape[-1] * self.expansion
        unit = functools.partial(_layers.ConvNormAct, conv=self.conv, norm=self.norm)
        y = x
        if self.expansion != 1 or self.project:
            y = unit(hidden, 1, act=self.act, name="expand")(y)
        depthwise = functools.partial(unit, groups=hidden, act=self.act)
        y = depthwise(hidden, self.kernel, self.stride, name="depthwise")(y)
        if self.squeeze:
            narrow = max(1, x.shape[-1] // self.squeeze)
            y = _layers.SqueezeExcite(narrow, self.conv, self.act, name="se")(y)
        y = unit(self.features, 1, act=None, name="project")(y)
        if self.stride == 1 and x.shape[-1] == self.features:
            return x + (y if self.drop_path is None else self.drop_path()(y))
        if self.stride == 1 and self.project:
            return y + unit(self.features, 1, act=None, name="shortcut")(x)
        return y


class MobileNetV2(ImageNetwork):
    """Seven stages of inverted residuals between a 3x3 and a 1x1 convolution.

    Attributes:
      stages: expansion, channels, number of blocks and stride of every stage.
      width: factor of all channels.
      first: channels of the stem, before ``width``.
      last: channels of the last convolution, multiplied by ``width`` above 1 only.
      stem: "imagenet", or "cifar", where the stem and the second stage keep the size.
      project: as in :class:`InvertedResidual`: the CIFAR code that P4's experiments
        stand on projects shortcuts, the paper and torchvision do not.
      act: the activation.
      dropout: rate before the outputs.

    References:
      Sandler et al., `MobileNetV2: Inverted Residuals and Linear Bottlenecks
      <https://arxiv.org/abs/1801.04381>`_, 2018
    """

    stages: tuple[tuple[int, int, int, int], ...] = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    width: float = 1.0
    first: int = 32
    last: int = 1280
    stem: str = "imagenet"
    project: bool = False
    act: Activation = nn.relu6
    dropout: float = 0.0

    @takes_images
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """Returns logits ``(batch, num_classes)``.

        Args:
          x: images ``(batch, height, width, channels)``.
          train: whether to use and update batch statistics, and to drop.
        """
        conv, norm = _layers.conv_and_norm(train, self.dtype)
        unit = functools.partial(
            _layers.ConvNormAct, conv=conv, norm=norm, act=self.act
        )
        large = self.stem == "imagenet"
        x = unit(divisible(self.first * self.width), 3, 2 if large else 1, name="stem")(
            x
        )
        for stage, (expansion, features, blocks, stride) in enumerate(self.stages):
            stride = 1 if stage == 1 and not large else stride
            for index in range(blocks):
                x = InvertedResidual(
                    features=divisible(features * self.width),
                    expansion=expansion,
                    kernel=3,
                    stride=stride if index == 0 else 1,
                    conv=conv,
                    norm=norm,
                    act=self.act,
                    project=self.project,
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x)
        x = unit(divisible(self.last * max(1.0, self.width)), 1, name="last")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(_layers.global_mean(x))
        init = nn.initializers.normal(0.01)
        return _layers.head(x, self.num_classes, self.dtype, init)


mobilenet_v2 = functools.partial(MobileNetV2, num_classes=1000, dropout=0.2)
mobilenet_v2_cifar = functools.partial(
    MobileNetV2, stem="cifar", project=True, act=nn.relu
)

mobilenet_tiny = functools.partial(
    MobileNetV2,
    stages=((1, 8, 1, 1), (2, 8, 2, 2)),
    first=8,
    last=16,
    stem="cifar",
    dropout=0.1,
)
