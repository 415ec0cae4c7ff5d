"""ResNeXt: residual networks whose bottlenecks are grouped convolutions.

The names say cardinality times the width of a group in the first stage: 8x64d.

References:
  Xie et al., `Aggregated Residual Transformations for Deep Neural Networks
  <https://arxiv.org/abs/1611.05431>`_, 2016
"""

import functools

from optax_ia.models._resnet import Bottleneck, ResNet


def _block(groups: int, group_width: int) -> functools.partial[Bottleneck]:
    return functools.partial(Bottleneck, groups=groups, group_width=group_width)


resnext50_32x4d = functools.partial(
    ResNet, stages=(3, 4, 6, 3), block=_block(32, 4), num_classes=1000
)

# Three stages of three blocks, 9 n + 2 layers, from 64 features.
_cifar = functools.partial(ResNet, stages=(3, 3, 3), stem="cifar")
resnext29_8x64d = functools.partial(_cifar, block=_block(8, 64))
resnext29_16x64d = functools.partial(_cifar, block=_block(16, 64))

resnext_tiny = functools.partial(
    ResNet, stages=(1, 1), width=4, stem="cifar", block=_block(2, 32)
)
