"""Residual networks with pre-activation, for small images."""

import functools

import flax.linen as nn
import jax

from optax_ia._src.checks import check_choice
from optax_ia.models import _layers
from optax_ia.models._layers import Activation, ImageNetwork, ModuleDef
from optax_ia.models._resnet import Shortcut
from optax_ia.models._sizes import takes_images


def branch(
    features: int, stride: int, bottleneck: bool
) -> tuple[tuple[int, int, int], ...]:
    """Features, kernel and stride of the convolutions of a block."""
    if bottleneck:
        return (features, 1, 1), (features, 3, stride), (4 * features, 1, 1)
    return (features, 3, stride), (features, 3, 1)


def blocks_of_a_stage(depth: int, block: str) -> int:
    """How many blocks make ``depth`` layers in three stages.

    Args:
      depth: number of layers.
      block: "bottleneck" (three convolutions) or "basic" (two).

    Raises:
      ValueError: if the block is another or no number of them will do.
    """
    check_choice("block", block, ("bottleneck", "basic"))
    layers = 9 if block == "bottleneck" else 6
    if depth < layers + 2 or (depth - 2) % layers:
        raise ValueError(f"depth must be {layers} n + 2 with {block=}, got {depth}.")
    return (depth - 2) // layers


class PreActBlock(nn.Module):
    """Normalisation and activation before each convolution; nothing after the sum.

    Attributes:
      features: number of channels, of the bottleneck where there is one.
      stride: of the first 3x3 convolution.
      conv: makes convolutions.
      norm: makes normalisations.
      act: the activation.
      bottleneck: whether a 3x3 convolution stands between two of 1x1, the last of
        four times the features; otherwise two of 3x3.
    """

    features: int
    stride: int
    conv: ModuleDef
    norm: ModuleDef
    act: Activation
    bottleneck: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns input plus branch."""
        layers = branch(self.features, self.stride, self.bottleneck)
        y = x
        for index, (features, kernel, stride) in enumerate(layers, start=1):
            y = self.act(self.norm(name=f"norm{index}")(y))
            y = self.conv(features, kernel, stride, name=f"conv{index}")(y)
        project = functools.partial(Shortcut, conv=self.conv, norm=None)
        return y + project(y.shape[-1], self.stride, "projection", name="shortcut")(x)


class PreResNet(ImageNetwork):
    """Three stages of pre-activated residual blocks; each doubles the width.

    Attributes:
      depth: number of layers, ``9 n + 2`` with bottlenecks, ``6 n + 2`` without.
      block: "bottleneck" or "basic".
      width: features of the first stage.
      act: the activation.

    Note:
      Where the shapes differ the shortcut projects the raw input, as in the code that
      P0's experiments descend from; He et al. project the first activation, which
      takes the same parameters. That code builds 110 layers of bottlenecks (1.15
      million parameters) where He et al.'s ResNet-110 has basic blocks (1.7 million):
      ``block="basic"``.

    References:
      He et al., `Identity Mappings in Deep Residual Networks
      <https://arxiv.org/abs/1603.05027>`_, 2016
    """

    depth: int = 110
    block: str = "bottleneck"
    width: int = 16
    act: Activation = nn.relu

    def __post_init__(self) -> None:
        """Checks the attributes."""
        blocks_of_a_stage(self.depth, self.block)
        super().__post_init__()

    @takes_images
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """Returns logits ``(batch, num_classes)``.

        Args:
          x: images ``(batch, height, width, channels)``.
          train: whether to use and update batch statistics.
        """
        conv, norm = _layers.conv_and_norm(train, self.dtype)
        x = conv(self.width, name="stem")(x)
        for stage in range(3):
            for index in range(blocks_of_a_stage(self.depth, self.block)):
                x = PreActBlock(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    conv=conv,
                    norm=norm,
                    act=self.act,
                    bottleneck=self.block == "bottleneck",
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x)
        x = _layers.global_mean(self.act(norm(name="norm")(x)))
        return _layers.head(x, self.num_classes, self.dtype)


preresnet56 = functools.partial(PreResNet, depth=56)
preresnet110 = functools.partial(PreResNet, depth=110)
preresnet164 = functools.partial(PreResNet, depth=164)

preresnet_tiny = functools.partial(PreResNet, depth=8, block="basic", width=4)
