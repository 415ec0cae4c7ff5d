"""The records of the small networks, and of the tiny one of every family."""

from functools import partial

from optax_ia.models import (
    _densenet,
    _efficientnet,
    _inception,
    _mobilenet,
    _preresnet,
    _pyramidnet,
    _resnet,
    _resnext,
    _senet,
    _shufflenet,
    _simple,
    _vgg,
    _wide_resnet,
)
from optax_ia.models._record import ModelRecord

_digit = partial(ModelRecord, input_shape=(28, 28, 1))
_SIMPLE = (
    _digit(
        "logistic_regression",
        _simple.logistic_regression,
        "Logistic regression on the pixels.",
        paper="P0, P1",
        parameters=7_850,
        parameters_source="785 numbers for each of 10 classes",
    ),
    _digit(
        "mlp",
        _simple.mlp,
        "Multilayer perceptron, 256 and 128 hidden units.",
        parameters=235_146,
        parameters_source="by hand",
    ),
    _digit(
        "lenet",
        _simple.lenet,
        "LeNet-5 with full connections and max-pooling, for 32x32.",
        paper="LeCun et al. 1998",
        input_shape=(32, 32, 1),
        parameters=61_706,
        parameters_source="by hand; LeCun et al. have 60,000, of sparse connections",
    ),
    _digit(
        "autoencoder",
        _simple.autoencoder,
        "Autoencoder 784-1000-500-250-30, mirrored.",
        paper="Hinton & Salakhutdinov 2006",
        kind="generative",
        parameters=2_837_314,
        parameters_source="by hand",
    ),
)

_small = partial(ModelRecord, input_shape=(8, 8, 1))
_SMALL = (
    _small(
        "vgg_small",
        _vgg.vgg_small,
        "VGG with batch normalisation, 4 convolutions, for 8x8 images.",
    ),
    _small(
        "vgg_tiny",
        _vgg.vgg_tiny,
        "VGG with batch normalisation, 2 narrow convolutions, for tests.",
    ),
    _small(
        "vgg_tiny_plain",
        _vgg.vgg_tiny_plain,
        "VGG without normalisation, 2 narrow convolutions.",
    ),
)

_TINY = (
    _small("mlp_tiny", _simple.mlp_tiny, "Perceptron for tests."),
    _small(
        "lenet_tiny",
        _simple.lenet_tiny,
        "LeNet for tests, for 16x16 or more.",
        input_shape=(16, 16, 1),
    ),
    _small(
        "autoencoder_tiny",
        _simple.autoencoder_tiny,
        "Autoencoder for tests.",
        kind="generative",
    ),
    _small("resnet_tiny", _resnet.resnet_tiny, "Residual network for tests."),
    _small(
        "resnet_tiny_bottleneck",
        _resnet.resnet_tiny_bottleneck,
        "Residual network of bottlenecks for tests.",
    ),
    _small("preresnet_tiny", _preresnet.preresnet_tiny, "PreResNet for tests."),
    _small(
        "wide_resnet_tiny",
        _wide_resnet.wide_resnet_tiny,
        "Wide residual network with dropout for tests.",
    ),
    _small("resnext_tiny", _resnext.resnext_tiny, "ResNeXt for tests."),
    _small("densenet_tiny", _densenet.densenet_tiny, "DenseNet for tests."),
    _small("pyramidnet_tiny", _pyramidnet.pyramidnet_tiny, "PyramidNet for tests."),
    _small("senet_tiny", _senet.senet_tiny, "SENet for tests."),
    _small("mobilenet_tiny", _mobilenet.mobilenet_tiny, "MobileNetV2 for tests."),
    _small("shufflenet_tiny", _shufflenet.shufflenet_tiny, "ShuffleNetV2 for tests."),
    _small(
        "efficientnet_tiny", _efficientnet.efficientnet_tiny, "EfficientNet for tests."
    ),
    _small(
        "inception_tiny",
        _inception.inception_tiny,
        "Inception for tests, for 47x47 or more.",
        input_shape=(47, 47, 1),
    ),
)

SMALL_RECORDS: tuple[ModelRecord, ...] = (*_SIMPLE, *_SMALL, *_TINY)
