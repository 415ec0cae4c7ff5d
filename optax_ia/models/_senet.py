"""Squeeze-and-excitation networks.

References:
  Hu et al., `Squeeze-and-Excitation Networks <https://arxiv.org/abs/1709.01507>`_, 2017
"""

import functools

import flax.linen as nn
import jax

from optax_ia.models import _layers
from optax_ia.models._layers import Activation, ImageNetwork
from optax_ia.models._resnet import BasicBlock, Bottleneck, ResNet
from optax_ia.models._sizes import takes_images
from optax_ia.models._wide_resnet import WideBlock


class SENet(ImageNetwork):
    """A pre-activated ResNet with squeeze-and-excitation, for small images.

    Attributes:
      stages: number of blocks, stage by stage.
      width: features of the first stage.
      reduction: divides the channels of every squeeze-and-excitation.
      act: the activation.

    Note:
      This is the SENet-18 of the CIFAR code that P4's experiments stand on. It has no
      normalisation and no activation after the last block, unlike other pre-activated
      networks; ``se_resnet18_cifar`` is the usual ResNet-18 with gates.
    """

    stages: tuple[int, ...] = (2, 2, 2, 2)
    width: int = 64
    reduction: int = 16
    act: Activation = nn.relu

    @takes_images
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """Returns logits ``(batch, num_classes)``.

        Args:
          x: images ``(batch, height, width, channels)``.
          train: whether to use and update batch statistics.
        """
        conv, norm = _layers.conv_and_norm(train, self.dtype)
        x = _layers.Stem(self.width, "cifar", conv, norm, self.act, name="stem")(x)
        for stage, blocks in enumerate(self.stages):
            for index in range(blocks):
                x = WideBlock(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    conv=conv,
                    norm=norm,
                    act=self.act,
                    squeeze=self.reduction,
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x)
        x = _layers.global_mean(x)
        return _layers.head(x, self.num_classes, self.dtype)


senet18 = functools.partial(SENet, stages=(2, 2, 2, 2))
se_resnet18_cifar = functools.partial(
    ResNet, stem="cifar", block=functools.partial(BasicBlock, squeeze=16)
)
se_resnet50 = functools.partial(
    ResNet,
    stages=(3, 4, 6, 3),
    block=functools.partial(Bottleneck, squeeze=16),
    num_classes=1000,
)

senet_tiny = functools.partial(SENet, stages=(1, 1), width=4, reduction=2)
