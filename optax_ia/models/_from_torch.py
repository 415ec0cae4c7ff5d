"""Convert PyTorch weights to the variables of the model of the same name."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
from flax import traverse_util

from optax_ia.models._densenet import DenseNet
from optax_ia.models._from_torch_awd import awd_from_torch
from optax_ia.models._from_torch_roberta import roberta_from_torch
from optax_ia.models._inception import InceptionV3
from optax_ia.models._torch_layouts import LAYOUTS
from optax_ia.models._torch_weights import (
    as_array,
    as_float32,
    first_five,
    named_arrays,
)
from optax_ia.models._vgg import VGG
from optax_ia.models._zoo import (
    abstract_variables,
    create_model,
    get_model_record,
    list_models,
)

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_COUNTER = "num_batches_tracked"
_OLD_DENSE_LAYER = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)")
"""Names of DenseNet's published weights: ``norm.1`` for today's ``norm1``."""

_LANGUAGE: dict[str, Callable[..., dict[str, Any]]] = {
    "awd_*": awd_from_torch,
    "roberta_*": roberta_from_torch,
}
"""By pattern of names, the models whose layouts are not torchvision's."""


class Leaf(NamedTuple):
    """One array of ours and where PyTorch has it.

    Attributes:
      path: in our variables.
      name: in the state dict.
      shape: of theirs.
      convert: makes ours of theirs.
    """

    path: tuple[str, ...]
    name: str
    shape: tuple[int, ...]
    convert: Callable[[np.ndarray], np.ndarray]


def _axes(rank: int) -> tuple[int, ...]:
    """Their axes in our order: (out, in, height, width) to (height, width, in, out)."""
    return {4: (2, 3, 1, 0), 2: (1, 0)}.get(rank, tuple(range(rank)))


def _transposed(x: np.ndarray) -> np.ndarray:
    return x.transpose(_axes(x.ndim))


def _after_maps(channels: int, side: int) -> Callable[[np.ndarray], np.ndarray]:
    """For a dense layer on flattened maps: theirs have the channels first."""

    def convert(x: np.ndarray) -> np.ndarray:
        maps = x.reshape(-1, channels, side, side)
        return maps.transpose(2, 3, 1, 0).reshape(-1, len(x))

    return convert


def torch_leaves(name: str, **kwargs: Any) -> list[Leaf]:
    """Every array of a model with its place in torchvision's state dict.

    Args:
      name: of a model with a torchvision layout.
      **kwargs: attributes of the module.
    """
    model: nn.Module = create_model(name, **kwargs)
    layout = LAYOUTS[name](model)
    tree = abstract_variables(name, **kwargs)
    flat: dict[tuple[str, ...], Any] = dict(traverse_util.flatten_dict(tree))
    leaves = []
    for path, leaf in flat.items():
        _, *modules, last = path
        shape = tuple(leaf.shape)
        place = layout("/".join(modules))
        theirs = [0] * len(shape)
        for ours, axis in enumerate(_axes(len(shape))):
            theirs[axis] = shape[ours]
        convert = _transposed
        if isinstance(model, VGG) and place == "classifier.0" and last == "kernel":
            convert = _after_maps(model.stages[-1][-1], model.pool or 1)
        leaves.append(Leaf(path, f"{place}.{_LEAVES[last]}", tuple(theirs), convert))
    return leaves


def _weights(source: Any, model: nn.Module, wanted: set[str]) -> dict[str, Any]:
    """The weights under torchvision's names of today, without those never used."""
    given = named_arrays(source, wanted)
    if isinstance(model, DenseNet):
        given = {_OLD_DENSE_LAYER.sub(r"\1\2", name): x for name, x in given.items()}
    if isinstance(model, InceptionV3) and not model.aux:
        given = {k: x for k, x in given.items() if not k.startswith("AuxLogits.")}
    return {k: x for k, x in given.items() if not k.endswith(_COUNTER)}


def from_torch(name: str, state_dict: Any, **kwargs: Any) -> dict[str, Any]:
    """Variables of a model from PyTorch weights; PyTorch itself is not needed.

    Takes the state dicts of torchvision's VGG, ResNet, ResNeXt, DenseNet, MobileNetV2,
    ShuffleNetV2, EfficientNet and Inception v3 for the models of the same names, and
    of Hugging Face's ``RobertaForMaskedLM`` for the ``roberta_*`` models, and of the
    authors' AWD-LSTM and AWD-QRNN for the ``awd_*`` models. In evaluation the network
    then computes what the original computes; in train mode PyTorch's running variances
    are unbiased and Flax's are not.

    Args:
      name: one of :func:`list_models`, in its ImageNet form.
      state_dict: a mapping from names to PyTorch tensors, NumPy arrays or anything
        that NumPy reads; a module, whose ``state_dict()`` is called; or a checkpoint
        with the mapping under "state_dict", "model_state_dict" or "model". A prefix
        common to all names, such as ``module.`` or ``_orig_mod.``, is removed.
        DenseNet's names before torchvision 0.2 are renamed.
      **kwargs: attributes of the module, as for :func:`create_model`, such as the
        ``num_classes`` of a fine-tuned network, or ``aux=False`` for an Inception
        without auxiliary head, which ignores the weights of the head.

    Returns:
      ``{"params": ..., "batch_stats": ...}``, copied to float32, without the latter
      where there is no batch normalisation.

    Raises:
      ValueError: if there is no layout for the model, or names are missing or
        unexpected or arrays have other shapes; the message gives the first five of
        each and their number.
      TypeError: if ``state_dict`` is neither a mapping nor a module.

    Example:
      >>> from optax_ia import models
      >>> try:
      ...     models.from_torch("resnet18", {"fc.weight": [[0.0]]})
      ... except ValueError as error:
      ...     print(str(error)[:56])
      the state dict does not fit resnet18; missing: bn1.bias,
    """
    for pattern, convert in _LANGUAGE.items():
        if name in list_models(pattern):
            model: Any = create_model(name, **kwargs)
            return {"params": convert(model, state_dict)}
    get_model_record(name)
    if name not in LAYOUTS:
        others = (known for pattern in _LANGUAGE for known in list_models(pattern))
        known = ", ".join((*sorted(LAYOUTS), *others))
        raise ValueError(f"no PyTorch layout for {name!r}; there is one for: {known}")
    leaves = torch_leaves(name, **kwargs)
    expected = {leaf.name for leaf in leaves}
    weights = _weights(state_dict, create_model(name, **kwargs), expected)
    given = set(weights)
    wrong = []
    variables = {}
    for leaf in leaves:
        if leaf.name not in given:
            continue
        value = as_array(weights[leaf.name])
        if value.shape != leaf.shape:
            wrong.append(f"{leaf.name} is {value.shape}, not {leaf.shape}")
            continue
        variables[leaf.path] = as_float32(leaf.convert(value))
    problems = [
        f"{what}: {first_five(names)}"
        for what, names in (
            ("missing", expected - given),
            ("unexpected", given - expected),
            ("of another shape", wrong),
        )
        if names
    ]
    if problems:
        raise ValueError(f"the state dict does not fit {name}; {'; '.join(problems)}")
    return traverse_util.unflatten_dict(variables)
