"""Every network's parameters, outputs and types, with nothing computed."""

import math

import jax
import jax.numpy as jnp
import pytest

from optax_ia import models
from tests.models.test_training import FAST, some

# torchvision 0.28, `sum(p.numel() for p in model.parameters())`. In print: VGG 133, 138
# and 144 million; ResNet-18 11.7 (P2); MobileNetV2 3.4, which the network has not;
# ShuffleNetV2 1.4, 2.3, 3.5, 7.4; EfficientNet 5.3, 7.8, 9.2 (B2; P2 gives B0 this
# number); Inception 27.2 (P2), with the auxiliary head.
TORCHVISION = {
    "vgg11": 132_863_336,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnext50_32x4d": 25_028_904,
    "densenet121": 7_978_856,
    "mobilenet_v2": 3_504_872,
    "shufflenet_v2_x0_5": 1_366_792,
    "shufflenet_v2_x1_0": 2_278_604,
    "shufflenet_v2_x1_5": 3_503_624,
    "shufflenet_v2_x2_0": 7_393_996,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "inception_v3": 27_161_264,
    # 1000 classes replaced by 10: 1001 - 11 numbers of the last layer's inputs less
    "efficientnet_b0_cifar": 5_288_548 - 990 * 1280 - 990,
    "shufflenet_v2_x2_0_cifar": 7_393_996 - 990 * 2048 - 990,
}

# kuangliu/pytorch-cifar, its code counted. Its ShuffleNetV2 x2.0 (5,338,026) has 224
# channels where the paper has 244, its EfficientNet-B0 (3,599,686) no last convolution.
KUANGLIU = {
    "vgg11_bn_cifar": 9_231_114,
    "vgg16_bn_cifar": 14_728_266,
    "vgg19_bn_cifar": 20_040_522,
    # without the two numbers a channel of batch normalisation
    "vgg11_cifar": 9_231_114 - 2 * (64 + 128 + 2 * 256 + 4 * 512),
    "vgg16_cifar": 14_728_266 - 2 * (2 * 64 + 2 * 128 + 3 * 256 + 6 * 512),
    "vgg19_cifar": 20_040_522 - 2 * (2 * 64 + 2 * 128 + 4 * 256 + 8 * 512),
    "resnet18_cifar": 11_173_962,
    "resnet34_cifar": 21_282_122,
    "resnet50_cifar": 23_520_842,
    "resnet101_cifar": 42_512_970,
    "senet18": 11_260_354,
    "se_resnet18_cifar": 11_263_042,
    "mobilenet_v2_cifar": 2_296_922,
    "shufflenet_v2_x0_5_cifar": 352_042,
    "shufflenet_v2_x1_0_cifar": 1_263_854,
    "shufflenet_v2_x1_5_cifar": 2_488_874,
}

# timgaripov/swa, its code counted: what P0 builds on.
SWA = {
    "vgg16_swa": 15_245_130,
    "vgg16_bn_swa": 15_253_578,
    "preresnet56": 590_426,
    "preresnet110": 1_146_842,  # He et al.: 1.7 million, of basic blocks
    "preresnet164": 1_703_258,  # He et al.: 1.7 million
}

# bearpaw/pytorch-classification, its code counted. Its narrow ResNets project two
# shortcuts, with 16 * 32 + 64 and 32 * 64 + 128 parameters, where He et al. pad;
# they print 0.27, 0.46, 0.66, 0.85 and 1.7 million.
PROJECTIONS = 16 * 32 + 64 + 32 * 64 + 128
BEARPAW = {
    "resnet20": 272_474 - PROJECTIONS,
    "resnet32": 466_906 - PROJECTIONS,
    "resnet44": 661_338 - PROJECTIONS,
    "resnet56": 855_770 - PROJECTIONS,
    "resnet110": 1_730_714 - PROJECTIONS,
    "wide_resnet28_10": 36_479_194,  # the paper: 36.5 million
    "resnext29_8x64d": 34_426_698,  # the paper: 34.4 million
    "resnext29_16x64d": 68_155_210,  # the paper: 68.1 million, not rounded but cut
    "densenet_bc100_12": 769_162,  # the paper: 0.8 million
}

# dyhan0920/PyramidNet-PyTorch, the authors' code counted. Their paper prints 1.7, 3.8
# and 28.3 million for the first three, a little less than their networks have.
PYRAMID = {
    "pyramidnet110_a48": 1_772_706,
    "pyramidnet110_a84": 3_904_446,
    "pyramidnet110_a270": 28_485_477,
    "pyramidnet110_a270_bottleneck": 18_323_787,
}


def _gates(channels, blocks):
    """Of the squeeze-and-excitations of a stage: two dense layers by way of 1/16."""
    return blocks * (2 * channels * (channels // 16) + channels // 16 + channels)


def _dense(*widths):
    return sum(a * b + b for a, b in zip(widths[:-1], widths[1:], strict=True))


BY_HAND = {
    # Hu et al. print 28.1 million
    "se_resnet50": 25_557_032
    + _gates(256, 3)
    + _gates(512, 4)
    + _gates(1024, 6)
    + _gates(2048, 3),
    "logistic_regression": 785 * 10,
    "mlp": _dense(784, 256, 128, 10),
    "lenet": (25 + 1) * 6 + (25 * 6 + 1) * 16 + _dense(16 * 25, 120, 84, 10),
    "autoencoder": _dense(784, 1000, 500, 250, 30, 250, 500, 1000, 784),
    # 9*in*out per convolution, 2*out per normalisation, the head
    "vgg_small": 9 * (16 + 16 * 16 + 16 * 32 + 32 * 32)
    + 2 * (16 + 16 + 32 + 32)
    + 2 * 2 * 32 * 10
    + 10,
    "vgg_tiny": 9 * (4 + 4 * 8) + 2 * (4 + 8) + 2 * 2 * 8 * 10 + 10,
    # a bias per channel in place of the normalisation's two numbers
    "vgg_tiny_plain": 9 * (4 + 4 * 8) + (4 + 8) + 2 * 2 * 8 * 10 + 10,
}

COUNTS = {**TORCHVISION, **KUANGLIU, **SWA, **BEARPAW, **PYRAMID, **BY_HAND}
NAMES = [
    *models.list_models(kind="image"),
    *models.list_models("autoencoder*", kind="generative"),
]
TINY = [name for name in NAMES if "tiny" in name]
LARGE = {
    *("resnet44", "resnet56", "resnet110", "preresnet110", "preresnet164"),
    *("resnet101", "resnet101_cifar", "resnext29_16x64d", "densenet121"),
    *("resnet50_cifar", "resnext50_32x4d", "se_resnet50"),
    *("pyramidnet110_a84", "pyramidnet110_a270", "pyramidnet110_a270_bottleneck"),
    *("efficientnet_b1", "efficientnet_b2", "vgg19_bn", "vgg19_bn_cifar"),
    *("shufflenet_v2_x1_5", "shufflenet_v2_x1_5_cifar"),
    *("shufflenet_v2_x2_0", "shufflenet_v2_x2_0_cifar"),
}
"""Deeper or wider ones of a family that is counted without them, for runs by hand."""

over_networks = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name
        for name in NAMES
    ],
)


def test_every_network_has_a_count():
    assert sorted({*COUNTS, *TINY}) == sorted(NAMES)


@over_networks
def test_parameters_outputs_and_types(name):
    """In bfloat16: it computes there, and keeps parameters and outputs in float32."""
    record = models.get_model_record(name)
    model = models.create_model(name, dtype=jnp.bfloat16)
    example = jax.ShapeDtypeStruct((2, *record.input_shape), record.input_dtype)
    outputs, variables = jax.eval_shape(
        lambda key, x: model.init_with_output(key, x, train=False),
        jax.random.key(0),
        example,
    )
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    if name in COUNTS:
        assert count == COUNTS[name]
    assert record.parameters in (None, count)
    if "tiny" not in name and name != "vgg_small":
        assert record.parameters == count
        assert record.parameters_source
    assert set(variables) <= {"params", "batch_stats"}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert outputs.dtype == jnp.float32
    if record.kind == "image":
        assert outputs.shape == (2, model.num_classes)
    else:
        assert outputs.shape == example.shape


@pytest.mark.parametrize("name", some((*FAST, "vgg_tiny"), TINY))
def test_layers_compute_in_bfloat16(name):
    record = models.get_model_record(name)
    model = models.create_model(name, dtype=jnp.bfloat16)
    example = jax.ShapeDtypeStruct((2, *record.input_shape), jnp.float32)
    key = jax.random.key(0)
    _, found = jax.eval_shape(
        lambda x: model.init_with_output(
            key, x, train=False, capture_intermediates=True
        ),
        example,
    )
    layers = jax.tree_util.tree_leaves_with_path(found["intermediates"])
    inner = [
        leaf.dtype
        for path, leaf in layers
        if len(path) > 2 and path[0].key != "Dropout_0"  # which takes what it gets
    ]
    assert inner
    assert set(inner) == {jnp.dtype("bfloat16")}


def test_count_follows_the_options():
    assert models.count_parameters("resnet18", num_classes=10) == 11_689_512 - 990 * 513
    assert models.count_parameters("vgg16_swa", num_classes=100) == 15_291_300
    # bearpaw's networks of basic blocks; the second is to the first as at depth 110
    assert models.count_parameters("resnet20", shortcut="projection") == 272_474
    basic = {"block": "basic", "depth": 20}
    assert models.count_parameters("preresnet110", **basic) == 272_474 - 192
    # torchvision's, of another width; the paper prints 1.7 million
    assert models.count_parameters("mobilenet_v2", width=0.35) == 1_677_128


@pytest.mark.slow  # deep networks
def test_count_follows_the_options_of_large_networks():
    # Inception without its auxiliary head: "less than 25 million" in the paper
    assert models.count_parameters("inception_v3", aux=False) == 23_834_568
    # bearpaw's networks of basic blocks
    basic = {"block": "basic", "depth": 110}
    assert models.count_parameters("preresnet110", **basic) == 1_730_522
    assert models.count_parameters("resnet56", shortcut="projection") == 855_770
    # torchvision's, of another width; the paper prints 6.9 million
    assert models.count_parameters("mobilenet_v2", width=1.4) == 6_108_776
