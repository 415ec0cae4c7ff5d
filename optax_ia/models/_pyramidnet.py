"""PyramidNets: the width grows at every block, not at every stage."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from optax_ia._src.checks import check_number
from optax_ia.models import _layers
from optax_ia.models._layers import Activation, ImageNetwork, ModuleDef
from optax_ia.models._preresnet import blocks_of_a_stage, branch
from optax_ia.models._sizes import takes_images


def pad_shortcut(x: jax.Array, features: int, stride: int) -> jax.Array:
    """Means of 2x2 pixels where the stride is 2, and channels of zeros at the end."""
    if stride == 2:
        pads: Any = [(0, size % 2) for size in x.shape[1:3]]
        pooled = nn.avg_pool(x, (2, 2), (2, 2), pads, count_include_pad=False)
        x = pooled.astype(x.dtype)  # the counts are of the widest type
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, features - x.shape[-1])))


class PyramidBlock(nn.Module):
    """Normalisation at both ends, no activation before the first convolution.

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
    bottleneck: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns input plus branch."""
        layers = branch(self.features, self.stride, self.bottleneck)
        y = self.norm(name="norm1")(x)
        for index, (features, kernel, stride) in enumerate(layers, start=1):
            y = y if index == 1 else self.act(y)
            y = self.conv(features, kernel, stride, name=f"conv{index}")(y)
            y = self.norm(name=f"norm{index + 1}")(y)
        return y + pad_shortcut(x, y.shape[-1], self.stride)


class PyramidNet(ImageNetwork):
    """Additive PyramidNet for small images: block ``k`` of N has ``16 + alpha k / N``.

    Attributes:
      depth: number of layers, ``6 n + 2``, with bottlenecks ``9 n + 2``.
      alpha: features that the last block has more than the stem.
      block: "basic" or "bottleneck".
      width: features of the stem.
      act: the activation.

    References:
      Han et al., `Deep Pyramidal Residual Networks
      <https://arxiv.org/abs/1610.02915>`_, 2016
    """

    depth: int = 110
    alpha: float = 48
    block: str = "basic"
    width: int = 16
    act: Activation = nn.relu

    def __post_init__(self) -> None:
        """Checks the attributes."""
        check_number("alpha", self.alpha, minimum=0)
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
        blocks = blocks_of_a_stage(self.depth, self.block)
        x = norm(name="stem_norm")(conv(self.width, name="stem")(x))
        for stage in range(3):
            for index in range(blocks):
                number = stage * blocks + index + 1
                x = PyramidBlock(
                    features=round(self.width + self.alpha * number / (3 * blocks)),
                    stride=2 if stage > 0 and index == 0 else 1,
                    conv=conv,
                    norm=norm,
                    act=self.act,
                    bottleneck=self.block == "bottleneck",
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x)
        x = _layers.global_mean(self.act(norm(name="norm")(x)))
        return _layers.head(x, self.num_classes, self.dtype)


pyramidnet110_a48 = functools.partial(PyramidNet, alpha=48)
pyramidnet110_a84 = functools.partial(PyramidNet, alpha=84)
pyramidnet110_a270 = functools.partial(PyramidNet, alpha=270)
pyramidnet110_a270_bottleneck = functools.partial(
    PyramidNet, alpha=270, block="bottleneck"
)

pyramidnet_tiny = functools.partial(PyramidNet, depth=8, alpha=6, width=4)
