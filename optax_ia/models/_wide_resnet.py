"""Wide residual networks of any depth and width, for small images."""

import functools

import flax.linen as nn
import jax

from optax_ia._src.checks import check_integer
from optax_ia.models import _layers
from optax_ia.models._layers import Activation, ImageNetwork, ModuleDef
from optax_ia.models._sizes import takes_images


class WideBlock(nn.Module):
    """Two pre-activated 3x3 convolutions with dropout between them.

    Attributes:
      features: number of channels.
      stride: of the first convolution.
      conv: makes convolutions.
      norm: makes normalisations.
      act: the activation.
      drop: drops values between the convolutions; None never does.
      squeeze: divides the channels of a squeeze-and-excitation; None for none.
    """

    features: int
    stride: int
    conv: ModuleDef
    norm: ModuleDef
    act: Activation
    drop: ModuleDef | None = None
    squeeze: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns input plus branch; a projection starts from the activated input."""
        y = self.act(self.norm(name="norm1")(x))
        shortcut = x
        if x.shape[-1] != self.features or self.stride != 1:
            project = self.conv(self.features, 1, self.stride, name="shortcut")
            shortcut = project(y)
        y = self.conv(self.features, 3, self.stride, name="conv1")(y)
        y = self.act(self.norm(name="norm2")(y))
        y = y if self.drop is None else self.drop()(y)
        y = self.conv(self.features, 3, name="conv2")(y)
        if self.squeeze:
            hidden = self.features // self.squeeze
            y = _layers.SqueezeExcite(hidden, self.conv, name="se")(y)
        return shortcut + y


class WideResNet(ImageNetwork):
    """Three stages of wide blocks, each twice as wide as the one before.

    Attributes:
      depth: number of layers, ``6 n + 4``.
      widen: the factor of the width.
      width: features of the stem; those of the first stage before widening.
      act: the activation.
      dropout: rate inside the blocks; the paper takes 0.3.

    References:
      Zagoruyko and Komodakis, `Wide Residual Networks
      <https://arxiv.org/abs/1605.07146>`_, 2016
    """

    depth: int = 28
    widen: int = 10
    width: int = 16
    act: Activation = nn.relu
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Checks the attributes."""
        check_integer("widen", self.widen, minimum=1)
        if self.depth < 10 or (self.depth - 4) % 6:
            raise ValueError(f"depth must be 6 n + 4, got {self.depth}.")
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
        drop = functools.partial(nn.Dropout, self.dropout, deterministic=not train)
        x = conv(self.width, name="stem")(x)
        for stage in range(3):
            for index in range((self.depth - 4) // 6):
                x = WideBlock(
                    features=self.width * 2**stage * self.widen,
                    stride=2 if stage > 0 and index == 0 else 1,
                    conv=conv,
                    norm=norm,
                    act=self.act,
                    drop=drop,
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x)
        x = _layers.global_mean(self.act(norm(name="norm")(x)))
        return _layers.head(x, self.num_classes, self.dtype)


wide_resnet28_10 = functools.partial(WideResNet, depth=28, widen=10)

wide_resnet_tiny = functools.partial(
    WideResNet, depth=10, widen=2, width=2, dropout=0.1
)
