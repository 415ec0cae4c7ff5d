"""EfficientNets: one network of inverted residuals, scaled in width and depth."""

import functools
import math

import flax.linen as nn
import jax

from optax_ia._src.checks import check_number
from optax_ia.models import _layers
from optax_ia.models._layers import Activation, ImageNetwork
from optax_ia.models._mobilenet import InvertedResidual, divisible
from optax_ia.models._sizes import takes_images


class EfficientNet(ImageNetwork):
    """Stages of gated inverted residuals with stochastic depth.

    Attributes:
      stages: expansion, kernel, stride, channels and number of blocks of every stage,
        before scaling.
      width: factor of the channels.
      depth: factor of the numbers of blocks.
      first: channels of the stem, before scaling; the last convolution has four times
        the channels of the last stage.
      stem: "imagenet", or "cifar", where the stem keeps the size of the image.
      act: the activation.
      dropout: rate before the outputs.
      stochastic_depth: rate at which the last block's branch is dropped; it grows
        linearly from 0 at the first block.

    References:
      Tan and Le, `EfficientNet: Rethinking Model Scaling for Convolutional Neural
      Networks <https://arxiv.org/abs/1905.11946>`_, 2019
    """

    stages: tuple[tuple[int, int, int, int, int], ...] = (
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    )
    width: float = 1.0
    depth: float = 1.0
    first: int = 32
    stem: str = "imagenet"
    act: Activation = nn.silu
    dropout: float = 0.2
    stochastic_depth: float = 0.2

    def __post_init__(self) -> None:
        """Checks the attributes."""
        check_number("depth", self.depth, above=0)
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
        unit = functools.partial(
            _layers.ConvNormAct, conv=conv, norm=norm, act=self.act
        )
        first = divisible(self.first * self.width)
        x = unit(first, 3, 2 if self.stem == "imagenet" else 1, name="stem")(x)
        repeats = [math.ceil(blocks * self.depth) for *_, blocks in self.stages]
        number = 0
        for stage, (expansion, kernel, stride, features, _) in enumerate(self.stages):
            for index in range(repeats[stage]):
                rate = self.stochastic_depth * number / sum(repeats)
                number += 1
                x = InvertedResidual(
                    features=divisible(features * self.width),
                    expansion=expansion,
                    kernel=kernel,
                    stride=stride if index == 0 else 1,
                    conv=conv,
                    norm=norm,
                    act=self.act,
                    squeeze=4,
                    drop_path=functools.partial(_layers.DropPath, rate, not train),
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x)
        x = _layers.global_mean(unit(4 * x.shape[-1], 1, name="last")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        init = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
        return _layers.head(x, self.num_classes, self.dtype, init)


_imagenet = functools.partial(EfficientNet, num_classes=1000)
efficientnet_b0 = functools.partial(_imagenet, width=1.0, depth=1.0, dropout=0.2)
efficientnet_b1 = functools.partial(_imagenet, width=1.0, depth=1.1, dropout=0.2)
efficientnet_b2 = functools.partial(_imagenet, width=1.1, depth=1.2, dropout=0.3)
efficientnet_b0_cifar = functools.partial(EfficientNet, stem="cifar")

efficientnet_tiny = functools.partial(
    EfficientNet, stages=((1, 3, 1, 8, 1), (2, 5, 2, 8, 2)), first=8, stem="cifar"
)
