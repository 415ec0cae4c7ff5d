"""The records of the networks for 32x32 images, with 10 classes.

Where a count is a repository's, it is what its code builds, counted.
"""

from functools import partial

from optax_ia.models import (
    _densenet,
    _efficientnet,
    _mobilenet,
    _preresnet,
    _pyramidnet,
    _resnet,
    _resnext,
    _senet,
    _shufflenet,
    _vgg,
    _wide_resnet,
)
from optax_ia.models._record import ModelRecord

_KUANGLIU = "kuangliu/pytorch-cifar"
_BEARPAW = "bearpaw/pytorch-classification"
_SWA = "timgaripov/swa"
_PYRAMID = "dyhan0920/PyramidNet-PyTorch, the authors'"

_record = partial(ModelRecord, parameters_source=_KUANGLIU)

_one_dense = partial(_record, paper="Simonyan & Zisserman 2014; P2, P4")
_swa = partial(
    _record, paper="Simonyan & Zisserman 2014; P0, P1", parameters_source=_SWA
)
_WITHOUT = "its network with batch normalisation, less scales and offsets"
_VGG = (
    _one_dense(
        "vgg11_cifar",
        _vgg.vgg11_cifar,
        "VGG, 11 layers, one of them dense, without normalisation.",
        parameters=9_225_610,
        parameters_source=f"{_KUANGLIU}: {_WITHOUT}",
    ),
    _one_dense(
        "vgg16_cifar",
        _vgg.vgg16_cifar,
        "VGG, 16 layers without the first two dense ones, without normalisation.",
        parameters=14_719_818,
        parameters_source=f"{_KUANGLIU}: {_WITHOUT}",
    ),
    _one_dense(
        "vgg19_cifar",
        _vgg.vgg19_cifar,
        "VGG, 19 layers without the first two dense ones, without normalisation.",
        parameters=20_029_514,
        parameters_source=f"{_KUANGLIU}: {_WITHOUT}",
    ),
    _one_dense(
        "vgg11_bn_cifar",
        _vgg.vgg11_bn_cifar,
        "VGG, as vgg11_cifar, with batch normalisation.",
        parameters=9_231_114,
    ),
    _one_dense(
        "vgg16_bn_cifar",
        _vgg.vgg16_bn_cifar,
        "VGG, as vgg16_cifar, with batch normalisation.",
        parameters=14_728_266,
    ),
    _one_dense(
        "vgg19_bn_cifar",
        _vgg.vgg19_bn_cifar,
        "VGG, as vgg19_cifar, with batch normalisation.",
        parameters=20_040_522,
    ),
    _swa(
        "vgg16_swa",
        _vgg.vgg16_swa,
        "VGG, 16 layers with dropout, without normalisation.",
        parameters=15_245_130,
    ),
    _swa(
        "vgg16_bn_swa",
        _vgg.vgg16_bn_swa,
        "VGG, 16 layers with dropout and batch normalisation.",
        parameters=15_253_578,
    ),
)

_resnet_record = partial(_record, paper="He et al. 2015; P4")
_narrow = partial(
    _record,
    paper="He et al. 2015",
    parameters_source=f"{_BEARPAW}, less the projections of its shortcuts",
)
_RESNET = (
    _resnet_record(
        "resnet18_cifar",
        _resnet.resnet18_cifar,
        "Residual network, 18 layers.",
        parameters=11_173_962,
    ),
    _resnet_record(
        "resnet34_cifar",
        _resnet.resnet34_cifar,
        "Residual network, 34 layers.",
        parameters=21_282_122,
    ),
    _resnet_record(
        "resnet50_cifar",
        _resnet.resnet50_cifar,
        "Residual network, 50 layers of bottlenecks.",
        parameters=23_520_842,
    ),
    _resnet_record(
        "resnet101_cifar",
        _resnet.resnet101_cifar,
        "Residual network, 101 layers of bottlenecks.",
        parameters=42_512_970,
    ),
    _narrow(
        "resnet20",
        _resnet.resnet20,
        "Narrow residual network, 20 layers.",
        parameters=269_722,
    ),
    _narrow(
        "resnet32",
        _resnet.resnet32,
        "Narrow residual network, 32 layers.",
        paper="He et al. 2015; P3",
        parameters=464_154,
    ),
    _narrow(
        "resnet44",
        _resnet.resnet44,
        "Narrow residual network, 44 layers.",
        parameters=658_586,
    ),
    _narrow(
        "resnet56",
        _resnet.resnet56,
        "Narrow residual network, 56 layers.",
        parameters=853_018,
    ),
    _narrow(
        "resnet110",
        _resnet.resnet110,
        "Narrow residual network, 110 layers.",
        parameters=1_727_962,
    ),
)

_preact = partial(_record, paper="He et al. 2016; P0", parameters_source=_SWA)
_next = partial(_record, paper="Xie et al. 2016; P0", parameters_source=_BEARPAW)
_RESIDUAL = (
    _preact(
        "preresnet56",
        _preresnet.preresnet56,
        "Residual network with pre-activation, 56 layers of bottlenecks.",
        parameters=590_426,
    ),
    _preact(
        "preresnet110",
        _preresnet.preresnet110,
        "Residual network with pre-activation, 110 layers of bottlenecks.",
        parameters=1_146_842,
        parameters_source=f"{_SWA}; He et al. print 1.7M, of basic blocks",
    ),
    _preact(
        "preresnet164",
        _preresnet.preresnet164,
        "Residual network with pre-activation, 164 layers of bottlenecks.",
        parameters=1_703_258,
    ),
    _record(
        "wide_resnet28_10",
        _wide_resnet.wide_resnet28_10,
        "Residual network with pre-activation, 28 layers, 10 times the width.",
        paper="Zagoruyko & Komodakis 2016; P0",
        parameters=36_479_194,
        parameters_source=f"{_BEARPAW}; the paper prints 36.5M",
    ),
    _next(
        "resnext29_8x64d",
        _resnext.resnext29_8x64d,
        "Residual network, 29 layers, 8 groups of 64 channels.",
        parameters=34_426_698,
    ),
    _next(
        "resnext29_16x64d",
        _resnext.resnext29_16x64d,
        "Residual network, 29 layers, 16 groups of 64 channels.",
        parameters=68_155_210,
        parameters_source=f"{_BEARPAW}; the paper prints 68.1M",
    ),
)

_pyramid = partial(
    _record,
    paper="Han et al. 2016; P3",
    parameters_source=_PYRAMID,
)
_DENSE_AND_PYRAMIDAL = (
    _record(
        "densenet_bc100_12",
        _densenet.densenet_bc100_12,
        "DenseNet with bottlenecks and compression, 100 layers, growth 12.",
        paper="Huang et al. 2016; P3",
        parameters=769_162,
        parameters_source=f"{_BEARPAW}; the paper prints 0.8M",
    ),
    _pyramid(
        "pyramidnet110_a48",
        _pyramidnet.pyramidnet110_a48,
        "Residual network of growing width, 110 layers, to 64 features.",
        parameters=1_772_706,
        parameters_source=f"{_PYRAMID}; the paper prints 1.7M",
    ),
    _pyramid(
        "pyramidnet110_a84",
        _pyramidnet.pyramidnet110_a84,
        "Residual network of growing width, 110 layers, to 100 features.",
        parameters=3_904_446,
        parameters_source=f"{_PYRAMID}; the paper prints 3.8M",
    ),
    _pyramid(
        "pyramidnet110_a270",
        _pyramidnet.pyramidnet110_a270,
        "Residual network of growing width, 110 layers, to 286 features.",
        parameters=28_485_477,
        parameters_source=f"{_PYRAMID}; the paper prints 28.3M",
    ),
    _pyramid(
        "pyramidnet110_a270_bottleneck",
        _pyramidnet.pyramidnet110_a270_bottleneck,
        "Residual network of growing width, 110 layers of bottlenecks.",
        parameters=18_323_787,
    ),
)

_gates = partial(_record, paper="Hu et al. 2017; P3, P4")
_shuffle = partial(_record, paper="Ma et al. 2018; P4")
_MOBILE = (
    _gates(
        "senet18",
        _senet.senet18,
        "Pre-activated ResNet-18 with squeeze-and-excitation.",
        parameters=11_260_354,
    ),
    _gates(
        "se_resnet18_cifar",
        _senet.se_resnet18_cifar,
        "ResNet-18 with squeeze-and-excitation.",
        parameters=11_263_042,
    ),
    _record(
        "mobilenet_v2_cifar",
        _mobilenet.mobilenet_v2_cifar,
        "Inverted residuals with linear bottlenecks and projected shortcuts.",
        paper="Sandler et al. 2018; P4",
        parameters=2_296_922,
    ),
    _shuffle(
        "shufflenet_v2_x0_5_cifar",
        _shufflenet.shufflenet_v2_x0_5_cifar,
        "Shuffled half convolutions, half the width.",
        parameters=352_042,
    ),
    _shuffle(
        "shufflenet_v2_x1_0_cifar",
        _shufflenet.shufflenet_v2_x1_0_cifar,
        "Shuffled half convolutions.",
        parameters=1_263_854,
    ),
    _shuffle(
        "shufflenet_v2_x1_5_cifar",
        _shufflenet.shufflenet_v2_x1_5_cifar,
        "Shuffled half convolutions, 1.5 times the width.",
        parameters=2_488_874,
    ),
    _shuffle(
        "shufflenet_v2_x2_0_cifar",
        _shufflenet.shufflenet_v2_x2_0_cifar,
        "Shuffled half convolutions, twice the width.",
        parameters=5_365_486,
        parameters_source=(
            "torchvision 0.28 with 10 classes; kuangliu/pytorch-cifar has 5,338,026, "
            "since its first stage has 224 channels and the paper's 244"
        ),
    ),
    _record(
        "efficientnet_b0_cifar",
        _efficientnet.efficientnet_b0_cifar,
        "Gated inverted residuals with stochastic depth.",
        paper="Tan & Le 2019; P4",
        parameters=4_020_358,
        parameters_source=(
            "torchvision 0.28 with 10 classes; kuangliu/pytorch-cifar has 3,599,686, "
            "since it leaves out the last convolution and keeps one it never uses"
        ),
    ),
)

CIFAR_RECORDS: tuple[ModelRecord, ...] = (
    *_VGG,
    *_RESNET,
    *_RESIDUAL,
    *_DENSE_AND_PYRAMIDAL,
    *_MOBILE,
)
