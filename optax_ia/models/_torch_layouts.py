"""Where torchvision keeps the layers of the image networks.

A layout maps the path of one of our modules, such as ``stage1_block2/conv1``, to the
name of torchvision's, such as ``layer1.1.conv1``.
"""

import re
from collections.abc import Callable
from typing import Any

from optax_ia.models._efficientnet import EfficientNet
from optax_ia.models._mobilenet import MobileNetV2
from optax_ia.models._vgg import VGG

Layout = Callable[[str], str]

_BLOCK = re.compile(r"(?:stage|block)(\d+)_(?:block|layer)(\d+)/(.*)")
_UNIT = {"conv": "0", "norm": "1"}


def _split(path: str) -> tuple[int, int, str]:
    """Stage and block, from 1, and the path inside the block."""
    match = _BLOCK.fullmatch(path)
    if match is None:
        raise ValueError(f"no layout for {path!r}")
    return int(match[1]), int(match[2]), match[3]


def vgg(model: VGG) -> Layout:
    """``features.N`` counts convolutions, normalisations, activations and poolings."""
    layers = 3 if model.normalise else 2
    starts: list[int] = []
    position = 0
    for widths in model.stages:
        starts += [position + layers * index for index in range(len(widths))]
        position += layers * len(widths) + 1

    def name(path: str) -> str:
        layer, *inner = path.split("/")
        index = int(layer.rpartition("_")[2])
        if not inner:  # dense: with an activation and a dropout after each
            return f"classifier.{3 * index}"
        return f"features.{starts[index] + (inner[0] == 'BatchNorm_0')}"

    return name


def resnet(model: Any) -> Layout:
    """``layerS.B``; the convolutions are numbered as ours."""
    del model
    outer = {"stem/conv": "conv1", "stem/norm": "bn1", "head": "fc"}
    shortcut = {"shortcut/conv": "downsample.0", "shortcut/norm": "downsample.1"}

    def name(path: str) -> str:
        if path in outer:
            return outer[path]
        stage, block, inner = _split(path)
        inner = shortcut.get(inner) or inner.replace("norm", "bn")
        return f"layer{stage}.{block - 1}.{inner}"

    return name


def densenet(model: Any) -> Layout:
    """``features.denseblockB.denselayerL``; the names inside are ours."""
    last = len(model.blocks) + 1
    outer = {
        "stem/conv": "features.conv0",
        "stem/norm": "features.norm0",
        "norm": f"features.norm{last}",
        "head": "classifier",
    }

    def name(path: str) -> str:
        if path in outer:
            return outer[path]
        if path.startswith("transition"):
            return "features." + path.replace("/", ".")
        block, layer, inner = _split(path)
        return f"features.denseblock{block}.denselayer{layer}.{inner}"

    return name


def mobilenet(model: MobileNetV2) -> Layout:
    """``features.N`` counts blocks over all stages."""
    before = [1]
    for _, _, blocks, _ in model.stages:
        before.append(before[-1] + blocks)
    units = {"expand": "0.", "depthwise": "1."}

    def name(path: str) -> str:
        if path == "head":
            return "classifier.1"
        first, _, kind = path.partition("/")
        if first in ("stem", "last"):
            return f"features.{0 if first == 'stem' else before[-1]}.{_UNIT[kind]}"
        stage, block, inner = _split(path)
        unit, _, kind = inner.partition("/")
        number = before[stage - 1] + block - 1
        expands = model.stages[stage - 1][0] != 1
        if unit == "project":  # not a unit there: convolution and normalisation
            return f"features.{number}.conv.{1 + expands + (kind == 'norm')}"
        position = units[unit] if expands else "0."
        return f"features.{number}.conv.{position}{_UNIT[kind]}"

    return name


def shufflenet(model: Any) -> Layout:
    """``stageS.B`` from 2; a branch is a flat sequence with its activations."""
    del model
    outer = {
        "stem/conv": "conv1.0",
        "stem/norm": "conv1.1",
        "last/conv": "conv5.0",
        "last/norm": "conv5.1",
        "head": "fc",
    }
    starts = {
        "left1": ("branch1", 0),
        "left2": ("branch1", 2),
        "right1": ("branch2", 0),
        "right2": ("branch2", 3),
        "right3": ("branch2", 5),
    }

    def name(path: str) -> str:
        if path in outer:
            return outer[path]
        stage, block, inner = _split(path)
        unit, _, kind = inner.partition("/")
        branch, start = starts[unit]
        return f"stage{stage + 1}.{block - 1}.{branch}.{start + int(_UNIT[kind])}"

    return name


def efficientnet(model: EfficientNet) -> Layout:
    """``features.S.B.block.U``, without the expansion's unit where there is none."""
    units = ("expand", "depthwise", "se", "project")
    gates = {"reduce": "fc1", "expand": "fc2"}

    def name(path: str) -> str:
        if path == "head":
            return "classifier.1"
        first, _, kind = path.partition("/")
        if first in ("stem", "last"):
            number = 0 if first == "stem" else len(model.stages) + 1
            return f"features.{number}.{_UNIT[kind]}"
        stage, block, inner = _split(path)
        unit, _, kind = inner.partition("/")
        number = units.index(unit) - (model.stages[stage - 1][0] == 1)
        part = gates[kind] if unit == "se" else _UNIT[kind]
        return f"features.{stage}.{block - 1}.block.{number}.{part}"

    return name


def inception(model: Any) -> Layout:
    """Our names with capitals; ``bn`` for the normalisation."""
    del model
    first = {
        "conv_1a": "Conv2d_1a_3x3",
        "conv_2a": "Conv2d_2a_3x3",
        "conv_2b": "Conv2d_2b_3x3",
        "conv_3b": "Conv2d_3b_1x1",
        "conv_4a": "Conv2d_4a_3x3",
        "aux": "AuxLogits",
        "head": "fc",
    }

    def name(path: str) -> str:
        layer, *inner = path.split("/")
        layer = first.get(layer) or layer.replace("mixed", "Mixed")
        inner = [{"norm": "bn", "Dense_0": "fc"}.get(part, part) for part in inner]
        return ".".join((layer, *inner))

    return name


LAYOUTS: dict[str, Callable[[Any], Layout]] = {
    **dict.fromkeys(("vgg11", "vgg16", "vgg19"), vgg),
    **dict.fromkeys(("vgg11_bn", "vgg16_bn", "vgg19_bn"), vgg),
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101"), resnet),
    "resnext50_32x4d": resnet,
    "densenet121": densenet,
    "mobilenet_v2": mobilenet,
    **dict.fromkeys(
        [f"shufflenet_v2_{width}" for width in ("x0_5", "x1_0", "x1_5", "x2_0")],
        shufflenet,
    ),
    **dict.fromkeys([f"efficientnet_b{number}" for number in range(3)], efficientnet),
    "inception_v3": inception,
}
