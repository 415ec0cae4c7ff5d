"""DenseNets: bottlenecks and compression, for small images and for ImageNet."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from optax_ia.models import _layers
from optax_ia.models._layers import Activation, ImageNetwork, ModuleDef
from optax_ia.models._sizes import takes_images


class DenseLayer(nn.Module):
    """New features from all before, by a 1x1 and a 3x3 convolution.

    Attributes:
      growth: number of new features; the 1x1 convolution has four times as many.
      conv: makes convolutions.
      norm: makes normalisations.
      act: the activation.
      drop: drops new values.
    """

    growth: int
    conv: ModuleDef
    norm: ModuleDef
    act: Activation
    drop: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the old features and the new."""
        y = self.act(self.norm(name="norm1")(x))
        y = self.conv(4 * self.growth, 1, name="conv1")(y)
        y = self.act(self.norm(name="norm2")(y))
        y = self.drop()(self.conv(self.growth, 3, name="conv2")(y))
        return jnp.concatenate((x, y), -1)


class Transition(nn.Module):
    """Half the features, half the image.

    Attributes:
      conv: makes the convolution.
      norm: makes the normalisation.
      act: the activation.
    """

    conv: ModuleDef
    norm: ModuleDef
    act: Activation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns fewer features of a smaller image."""
        y = self.act(self.norm(name="norm")(x))
        return _layers.avg_pool(self.conv(x.shape[-1] // 2, 1, name="conv")(y), 2, 2)


class DenseNet(ImageNetwork):
    """Dense blocks, each layer of which reads all before it, and transitions.

    Attributes:
      blocks: number of layers of each dense block.
      growth: new features of a layer, the paper's k.
      stem: "cifar" (3x3, neither normalisation nor pooling) or "imagenet".
      act: the activation.
      dropout: rate after every 3x3 convolution; the paper takes 0.2 where it does not
        augment the data.

    References:
      Huang et al., `Densely Connected Convolutional Networks
      <https://arxiv.org/abs/1608.06993>`_, 2016
    """

    blocks: tuple[int, ...] = (16, 16, 16)
    growth: int = 12
    stem: str = "cifar"
    act: Activation = nn.relu
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
        drop = functools.partial(nn.Dropout, self.dropout, deterministic=not train)
        stem_norm = norm if self.stem == "imagenet" else None
        x = _layers.Stem(
            2 * self.growth, self.stem, conv, stem_norm, self.act, name="stem"
        )(x)
        for block, layers in enumerate(self.blocks, start=1):
            if block > 1:
                name = f"transition{block - 1}"
                x = Transition(conv, norm, self.act, name=name)(x)
            for layer in range(1, layers + 1):
                name = f"block{block}_layer{layer}"
                x = DenseLayer(self.growth, conv, norm, self.act, drop, name=name)(x)
        x = _layers.global_mean(self.act(norm(name="norm")(x)))
        return _layers.head(x, self.num_classes, self.dtype)


# L = 100 layers: (100 - 4) / 6 in each of three blocks.
densenet_bc100_12 = functools.partial(DenseNet, blocks=(16, 16, 16), growth=12)
densenet121 = functools.partial(
    DenseNet, blocks=(6, 12, 24, 16), growth=32, stem="imagenet", num_classes=1000
)

densenet_tiny = functools.partial(DenseNet, blocks=(2, 2), growth=4)
