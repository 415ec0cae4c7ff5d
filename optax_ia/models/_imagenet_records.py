"""The records of the ImageNet networks, with 1000 classes.

The counts are torchvision 0.28's, whose layouts :func:`optax_ia.models.from_torch`
takes, unless a record says otherwise.
"""

from functools import partial

from optax_ia.models import (
    _densenet,
    _efficientnet,
    _inception,
    _mobilenet,
    _resnet,
    _resnext,
    _senet,
    _shufflenet,
    _vgg,
)
from optax_ia.models._record import ModelRecord

_record = partial(
    ModelRecord, input_shape=(224, 224, 3), parameters_source="torchvision 0.28"
)

_vgg_record = partial(_record, paper="Simonyan & Zisserman 2014")
_VGG = (
    _vgg_record(
        "vgg11",
        _vgg.vgg11,
        "VGG, 11 layers, without normalisation.",
        paper="Simonyan & Zisserman 2014; P2",
        parameters=132_863_336,
    ),
    _vgg_record(
        "vgg16",
        _vgg.vgg16,
        "VGG, 16 layers, without normalisation.",
        parameters=138_357_544,
    ),
    _vgg_record(
        "vgg19",
        _vgg.vgg19,
        "VGG, 19 layers, without normalisation.",
        parameters=143_667_240,
    ),
    _vgg_record(
        "vgg11_bn",
        _vgg.vgg11_bn,
        "VGG, 11 layers, with batch normalisation.",
        parameters=132_868_840,
    ),
    _vgg_record(
        "vgg16_bn",
        _vgg.vgg16_bn,
        "VGG, 16 layers, with batch normalisation.",
        parameters=138_365_992,
    ),
    _vgg_record(
        "vgg19_bn",
        _vgg.vgg19_bn,
        "VGG, 19 layers, with batch normalisation.",
        parameters=143_678_248,
    ),
)

_resnet_record = partial(_record, paper="He et al. 2015; P0, P1, P4")
_RESNET = (
    _resnet_record(
        "resnet18",
        _resnet.resnet18,
        "Residual network, 18 layers.",
        paper="He et al. 2015; P0, P2, P3, P4",
        parameters=11_689_512,
    ),
    _resnet_record(
        "resnet34",
        _resnet.resnet34,
        "Residual network, 34 layers.",
        paper="He et al. 2015; P4",
        parameters=21_797_672,
    ),
    _resnet_record(
        "resnet50",
        _resnet.resnet50,
        "Residual network, 50 layers of bottlenecks.",
        parameters=25_557_032,
    ),
    _resnet_record(
        "resnet101",
        _resnet.resnet101,
        "Residual network, 101 layers of bottlenecks.",
        paper="He et al. 2015; P0, P4",
        parameters=44_549_160,
    ),
    _record(
        "resnext50_32x4d",
        _resnext.resnext50_32x4d,
        "Residual network, 50 layers, 32 groups of 4 channels.",
        paper="Xie et al. 2016; P4",
        parameters=25_028_904,
    ),
    _record(
        "se_resnet50",
        _senet.se_resnet50,
        "Residual network, 50 layers, with squeeze-and-excitation.",
        paper="Hu et al. 2017",
        parameters=28_088_024,
        parameters_source="ResNet-50's and the gates' by hand; the paper prints 28.1M",
    ),
)

_OTHERS = (
    _record(
        "densenet121",
        _densenet.densenet121,
        "DenseNet with bottlenecks, 121 layers, growth 32.",
        paper="Huang et al. 2016",
        parameters=7_978_856,
    ),
    _record(
        "mobilenet_v2",
        _mobilenet.mobilenet_v2,
        "Inverted residuals with linear bottlenecks.",
        paper="Sandler et al. 2018; P4",
        parameters=3_504_872,
        parameters_source="torchvision 0.28; the paper prints 3.4M",
    ),
    _record(
        "inception_v3",
        _inception.inception_v3,
        "Parallel convolutions, with auxiliary outputs.",
        paper="Szegedy et al. 2015; P2",
        input_shape=(299, 299, 3),
        parameters=27_161_264,
        parameters_source="torchvision 0.28; P2 prints 27.2M",
    ),
)

_shuffle_record = partial(
    _record,
    paper="Ma et al. 2018; P4",
)
_SHUFFLENET = (
    _shuffle_record(
        "shufflenet_v2_x0_5",
        _shufflenet.shufflenet_v2_x0_5,
        "Shuffled half convolutions, half the width.",
        parameters=1_366_792,
    ),
    _shuffle_record(
        "shufflenet_v2_x1_0",
        _shufflenet.shufflenet_v2_x1_0,
        "Shuffled half convolutions.",
        parameters=2_278_604,
    ),
    _shuffle_record(
        "shufflenet_v2_x1_5",
        _shufflenet.shufflenet_v2_x1_5,
        "Shuffled half convolutions, 1.5 times the width.",
        parameters=3_503_624,
    ),
    _shuffle_record(
        "shufflenet_v2_x2_0",
        _shufflenet.shufflenet_v2_x2_0,
        "Shuffled half convolutions, twice the width.",
        parameters=7_393_996,
    ),
)

_efficient_record = partial(_record, paper="Tan & Le 2019")
_EFFICIENTNET = (
    _efficient_record(
        "efficientnet_b0",
        _efficientnet.efficientnet_b0,
        "Gated inverted residuals with stochastic depth.",
        paper="Tan & Le 2019; P2, P4",
        parameters=5_288_548,
        parameters_source=(
            "torchvision 0.28; the paper prints 5.3M; P2 prints 9.2M, which is what "
            "the paper prints for B2"
        ),
    ),
    _efficient_record(
        "efficientnet_b1",
        _efficientnet.efficientnet_b1,
        "EfficientNet, 1.1 times the depth; for 240x240.",
        input_shape=(240, 240, 3),
        parameters=7_794_184,
    ),
    _efficient_record(
        "efficientnet_b2",
        _efficientnet.efficientnet_b2,
        "EfficientNet, 1.1 times the width, 1.2 times the depth; for 260x260.",
        input_shape=(260, 260, 3),
        parameters=9_109_994,
        parameters_source="torchvision 0.28; the paper prints 9.2M",
    ),
)

IMAGENET_RECORDS: tuple[ModelRecord, ...] = (
    *_VGG,
    *_RESNET,
    *_OTHERS,
    *_SHUFFLENET,
    *_EFFICIENTNET,
)
