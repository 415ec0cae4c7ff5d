"""ShuffleNetV2: half of the channels pass, the other half is convolved."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from optax_ia.models import _layers
from optax_ia.models._layers import Activation, ImageNetwork, ModuleDef
from optax_ia.models._sizes import takes_images


def shuffle(x: jax.Array) -> jax.Array:
    """Interleaves the channels' two halves."""
    halves = x.reshape(*x.shape[:-1], 2, x.shape[-1] // 2)
    return jnp.swapaxes(halves, -1, -2).reshape(x.shape)


class ShuffleBlock(nn.Module):
    """A convolved branch beside a passing one, then a shuffle.

    Attributes:
      features: number of output channels.
      stride: 1, or 2 with both branches convolved and the channels not split.
      conv: makes convolutions.
      norm: makes normalisations.
      act: the activation, which does not follow depthwise convolutions.
    """

    features: int
    stride: int
    conv: ModuleDef
    norm: ModuleDef
    act: Activation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the shuffled branches."""
        half = self.features // 2
        unit = functools.partial(_layers.ConvNormAct, conv=self.conv, norm=self.norm)
        pointwise = functools.partial(unit, half, 1, act=self.act)

        def depthwise(y: jax.Array, name: str) -> jax.Array:
            channels = y.shape[-1]
            layer = unit(channels, 3, self.stride, groups=channels, act=None, name=name)
            return layer(y)

        if self.stride == 1:
            left, right = jnp.split(x, 2, -1)
        else:
            left = pointwise(name="left2")(depthwise(x, "left1"))
            right = x
        right = depthwise(pointwise(name="right1")(right), "right2")
        right = pointwise(name="right3")(right)
        return shuffle(jnp.concatenate((left, right), -1))


class ShuffleNetV2(ImageNetwork):
    """Three stages of shuffled blocks between a 3x3 and a 1x1 convolution.

    Attributes:
      blocks: number of blocks of every stage; the first halves the image.
      features: channels of every stage.
      first: channels of the stem.
      last: channels of the last convolution.
      stem: "imagenet" (stride 2, max-pooling) or "cifar" (neither).
      act: the activation.

    References:
      Ma et al., `ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
      Design <https://arxiv.org/abs/1807.11164>`_, 2018
    """

    blocks: tuple[int, ...] = (4, 8, 4)
    features: tuple[int, ...] = (116, 232, 464)
    first: int = 24
    last: int = 1024
    stem: str = "imagenet"
    act: Activation = nn.relu

    @takes_images
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """Returns logits ``(batch, num_classes)``.

        Args:
          x: images ``(batch, height, width, channels)``.
          train: whether to use and update batch statistics.
        """
        conv = functools.partial(
            _layers.conv, kernel_init=_layers.uniform_fan_in, dtype=self.dtype
        )
        norm = _layers.batch_norm(train, self.dtype)
        unit = functools.partial(
            _layers.ConvNormAct, conv=conv, norm=norm, act=self.act
        )
        large = self.stem == "imagenet"
        x = unit(self.first, 3, 2 if large else 1, name="stem")(x)
        x = _layers.max_pool(x, 3, 2, 1) if large else x
        stages = zip(self.blocks, self.features, strict=True)
        for stage, (blocks, features) in enumerate(stages, start=1):
            for index in range(blocks):
                name = f"stage{stage}_block{index + 1}"
                stride = 2 if index == 0 else 1
                x = ShuffleBlock(features, stride, conv, norm, self.act, name=name)(x)
        x = _layers.global_mean(unit(self.last, 1, name="last")(x))
        return _layers.head(x, self.num_classes, self.dtype)


_WIDTHS = {
    "x0_5": {"features": (48, 96, 192)},
    "x1_0": {"features": (116, 232, 464)},
    "x1_5": {"features": (176, 352, 704)},
    "x2_0": {"features": (244, 488, 976), "last": 2048},
}
_imagenet = functools.partial(ShuffleNetV2, num_classes=1000)
shufflenet_v2_x0_5 = functools.partial(_imagenet, **_WIDTHS["x0_5"])
shufflenet_v2_x1_0 = functools.partial(_imagenet, **_WIDTHS["x1_0"])
shufflenet_v2_x1_5 = functools.partial(_imagenet, **_WIDTHS["x1_5"])
shufflenet_v2_x2_0 = functools.partial(_imagenet, **_WIDTHS["x2_0"])

_cifar = functools.partial(ShuffleNetV2, stem="cifar")
shufflenet_v2_x0_5_cifar = functools.partial(_cifar, **_WIDTHS["x0_5"])
shufflenet_v2_x1_0_cifar = functools.partial(_cifar, **_WIDTHS["x1_0"])
shufflenet_v2_x1_5_cifar = functools.partial(_cifar, **_WIDTHS["x1_5"])
shufflenet_v2_x2_0_cifar = functools.partial(_cifar, **_WIDTHS["x2_0"])

shufflenet_tiny = functools.partial(
    ShuffleNetV2, blocks=(2,), features=(8,), first=4, last=16, stem="cifar"
)
