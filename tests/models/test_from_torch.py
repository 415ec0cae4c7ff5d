"""PyTorch's names, shapes and layouts; no PyTorch is needed."""

import hashlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia import models
from optax_ia.models._from_torch import torch_leaves
from optax_ia.models._from_torch_awd import _weights as awd_weights
from optax_ia.models._from_torch_roberta import _weights as roberta_weights
from optax_ia.models._regularised import RegularisedLanguageModel
from optax_ia.models._roberta import RobertaForMaskedLM
from optax_ia.models._torch_layouts import LAYOUTS
from optax_ia.models._torch_weights import params_shapes
from tests.models.test_layers import convolved

# Number of arrays in the state dict of torchvision 0.28's model, without
# num_batches_tracked, and the SHA-256 of its sorted "name shape" lines, 16 digits.
STATE_DICTS = {
    "vgg11": (22, "b11acd4f90d9643f"),
    "vgg16": (32, "ba63c2556d912509"),
    "vgg19": (38, "393fac8b08b63fbe"),
    "vgg11_bn": (54, "eb52f2d89ad478d4"),
    "vgg16_bn": (84, "d8308b804a50efac"),
    "vgg19_bn": (102, "8f342fea647d72df"),
    "resnet18": (102, "2bb53b15765c4651"),
    "resnet34": (182, "b945021fb00b779b"),
    "resnet50": (267, "cf11dad974eadeaa"),
    "resnet101": (522, "d916ed2068e1af5d"),
    "resnext50_32x4d": (267, "f6c1ee50d9878439"),
    "densenet121": (606, "222a58d1fd8d2818"),
    "mobilenet_v2": (262, "d613ea65450d5318"),
    "shufflenet_v2_x0_5": (282, "cfd56088815d0861"),
    "shufflenet_v2_x1_0": (282, "c95a672d46729790"),
    "shufflenet_v2_x1_5": (282, "24ba8d5b6dea8896"),
    "shufflenet_v2_x2_0": (282, "0402cbc7fa88c28b"),
    "efficientnet_b0": (311, "b5ec7b4b5e4fedbb"),
    "efficientnet_b1": (439, "1f5cde5a1ed036f9"),
    "efficientnet_b2": (439, "0dbc4ac8a0f40c25"),
    "inception_v3": (484, "b57ada785681682b"),
}


def test_every_layout_is_listed():
    assert STATE_DICTS.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("name", STATE_DICTS)
def test_names_and_shapes_are_torchvision_s(name):
    leaves = torch_leaves(name)
    lines = sorted(f"{leaf.name} {leaf.shape}" for leaf in leaves)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert (len(lines), digest) == STATE_DICTS[name]


SMALL = {"stages": ((2,), (3, 4)), "hidden": (5,), "num_classes": 3, "pool": 2}


def small_state(batch_norm):
    """Weights of a small VGG, named and laid out as torchvision's would be."""
    rng = np.random.default_rng(0)
    step = 3 if batch_norm else 2
    layers = [(0, 3, 2), (step + 1, 2, 3), (2 * step + 1, 3, 4)]
    state = {}
    for index, inputs, outputs in layers:
        state[f"features.{index}.weight"] = rng.normal(size=(outputs, inputs, 3, 3))
        state[f"features.{index}.bias"] = rng.normal(size=outputs)
        if batch_norm:
            for leaf in ("weight", "bias", "running_mean"):
                state[f"features.{index + 1}.{leaf}"] = rng.normal(size=outputs)
            variance = rng.uniform(0.5, 2, size=outputs)
            state[f"features.{index + 1}.running_var"] = variance
            state[f"features.{index + 1}.num_batches_tracked"] = np.array(7)
    state["classifier.0.weight"] = rng.normal(size=(5, 4 * 2 * 2))
    state["classifier.0.bias"] = rng.normal(size=5)
    state["classifier.3.weight"] = rng.normal(size=(3, 5))
    state["classifier.3.bias"] = rng.normal(size=3)
    return {
        name: value if "batches" in name else value.astype(np.float32)
        for name, value in state.items()
    }


def small_forward(state, images, batch_norm):
    """What PyTorch computes, in NumPy; images are (batch, channels, height, width)."""
    x = images
    for index in (0, *((4, 7) if batch_norm else (3, 5))):
        kernel = state[f"features.{index}.weight"].transpose(2, 3, 1, 0)
        maps = convolved(x.transpose(0, 2, 3, 1), kernel, 1, (1, 1))
        x = maps.transpose(0, 3, 1, 2) + state[f"features.{index}.bias"][:, None, None]
        if batch_norm:
            scale, bias, mean, var = (
                state[f"features.{index + 1}.{leaf}"][:, None, None]
                for leaf in ("weight", "bias", "running_mean", "running_var")
            )
            x = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
        x = np.maximum(x, 0)
        if index != (4 if batch_norm else 3):
            shape = (*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2)
            x = x.reshape(shape).max((3, 5))
    x = x.reshape(len(x), -1)
    x = np.maximum(x @ state["classifier.0.weight"].T + state["classifier.0.bias"], 0)
    return x @ state["classifier.3.weight"].T + state["classifier.3.bias"]


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_a_small_vgg_computes_what_pytorch_s_would(name):
    batch_norm = name.endswith("bn")
    state = small_state(batch_norm)
    variables = models.from_torch(name, state, **SMALL)
    assert set(variables) == ({"params", "batch_stats"} if batch_norm else {"params"})
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    images = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    wanted = small_forward(state, images.astype(float), batch_norm)
    model = models.create_model(name, **SMALL)
    got = model.apply(variables, images.transpose(0, 2, 3, 1), train=False)
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-5 * np.abs(wanted).max())


def aligned(x):
    """A copy at an address that lets JAX share the memory on the CPU."""
    buffer = np.empty(x.nbytes + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    copy = buffer[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


@pytest.mark.parametrize("name", ["vgg11_bn", "roberta_tiny", "awd_lstm_tiny"])
def test_variables_are_copies(name):
    options, state = model_state(name)
    state = {key: aligned(value.astype(np.float32)) for key, value in state.items()}
    variables = models.from_torch(name, state, **options)
    before = jax.tree.map(lambda x: np.array(x, copy=True), variables)
    for value in state.values():
        value[...] = 7
    jax.tree.map(np.testing.assert_array_equal, variables, before)


class Module:
    """Has the one method of a PyTorch module that is used."""

    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state


def prefixed(*prefixes):
    return lambda state: {"".join(prefixes) + name: x for name, x in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        Module,
        prefixed("module."),
        prefixed("_orig_mod."),
        prefixed("model."),
        prefixed("module.", "_orig_mod."),
        prefixed("_orig_mod.", "model.", "net."),
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model_state_dict": prefixed("module.")(state), "epoch": 3},
        lambda state: {"optimizer": {"state": {}}, "model": state},
        lambda state: {"model": Module(state)},
        lambda state: {"state_dict": {"model": prefixed("model.")(state)}},
        lambda state: {"n_averaged": np.array(3)} | prefixed("module.")(state),
    ],
)
@pytest.mark.parametrize("name", ["vgg11_bn", "roberta_tiny", "awd_lstm_tiny"])
def test_prefixes_and_containers(name, wrap):
    options, state = model_state(name)
    jax.tree.map(
        np.testing.assert_array_equal,
        models.from_torch(name, wrap(state), **options),
        models.from_torch(name, state, **options),
    )


def model_state(name):
    """Options and weights of a small model."""
    if name == "vgg11_bn":
        return SMALL, small_state(batch_norm=True)
    model = models.create_model(name)
    if isinstance(model, RobertaForMaskedLM):
        weights = roberta_weights(model.num_layers)
    else:
        assert isinstance(model, RegularisedLanguageModel)
        weights = awd_weights(model)
    rng, shapes = np.random.default_rng(0), params_shapes(model)
    return {}, {
        weight.name: rng.normal(size=weight.their_shape(shapes[weight.path].shape))
        for weight in weights
    }


def numbered(name, **kwargs):
    """Weights that fit a model, each array filled with a number of its own."""
    return {
        leaf.name: np.full(leaf.shape, index, np.float32)
        for index, leaf in enumerate(torch_leaves(name, **kwargs))
    }


def test_densenets_old_names():
    options = {"blocks": (2, 1), "growth": 4}
    state = numbered("densenet121", **options)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): value
        for name, value in state.items()
    }
    assert "features.denseblock1.denselayer2.norm.1.running_mean" in old
    jax.tree.map(
        np.testing.assert_array_equal,
        models.from_torch("densenet121", old, **options),
        models.from_torch("densenet121", state, **options),
    )


def test_inception_without_its_auxiliary_head():
    options = {"width": 1 / 16, "num_classes": 3}
    state = numbered("inception_v3", **options)
    with_head = models.from_torch("inception_v3", state, **options)
    without = models.from_torch("inception_v3", state, aux=False, **options)
    assert "aux" not in without["params"]
    for collection in with_head:
        del with_head[collection]["aux"]
    jax.tree.map(np.testing.assert_array_equal, without, with_head)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn"])
def test_short_floats_are_exact(dtype):
    state = small_state(batch_norm=False)
    short = {name: value.astype(jnp.dtype(dtype)) for name, value in state.items()}
    wide = {name: value.astype(np.float32) for name, value in short.items()}
    got = models.from_torch("vgg11", short, **SMALL)
    wanted = models.from_torch("vgg11", wide, **SMALL)
    jax.tree.map(np.testing.assert_array_equal, got, wanted)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("dtype", ["torch.bfloat16", "torch.float8_e5m2"])
def test_anything_like_a_tensor_will_do(dtype):
    """A tensor on a device, with a graph, of a type that NumPy does not know."""

    class Tensor:
        def __init__(self, array, where="device"):
            self.array, self.where, self.dtype = array, where, dtype

        def detach(self):
            return Tensor(self.array, "detached")

        def cpu(self):
            assert self.where == "detached"
            return Tensor(self.array, "host")

        def float(self):
            assert self.where == "host"
            return self.array.astype(np.float32)

    state = small_state(batch_norm=False)
    tensors = {name: Tensor(value.astype(float)) for name, value in state.items()}
    jax.tree.map(
        np.testing.assert_array_equal,
        models.from_torch("vgg11", tensors, **SMALL),
        models.from_torch("vgg11", state, **SMALL),
    )


def test_misfits_are_listed():
    state = small_state(batch_norm=False)
    del state["features.0.bias"], state["classifier.3.weight"]
    state["features.9.weight"] = state["fc.bias"] = np.zeros(1)
    state["classifier.0.bias"] = np.zeros(4)
    with pytest.raises(ValueError, match="does not fit vgg11") as caught:
        models.from_torch("vgg11", state, **SMALL)
    assert str(caught.value).split("; ")[1:] == [
        "missing: classifier.3.weight, features.0.bias",
        "unexpected: fc.bias, features.9.weight",
        "of another shape: classifier.0.bias is (4,), not (5,)",
    ]


@pytest.mark.parametrize("name", ["resnet101", "roberta_base", "awd_lstm_tiny"])
def test_messages_are_short(name):
    with pytest.raises(ValueError, match="missing.* more") as caught:
        models.from_torch(name, {f"extra.odd.{i}": 0 for i in range(1234)})
    assert "extra.odd.0, " in str(caught.value)
    assert "and 1,229 more" in str(caught.value)
    assert len(str(caught.value)) < 800


def test_neither_a_mapping_nor_a_module():
    with pytest.raises(TypeError, match=r"mapping.*got str; .*torch\.load"):
        models.from_torch("resnet18", "resnet18.pth")


def test_models_without_a_layout():
    with pytest.raises(ValueError, match="no PyTorch layout for 'resnet20'.*resnet18"):
        models.from_torch("resnet20", {})
    with pytest.raises(ValueError, match="unknown model 'resnet'"):
        models.from_torch("resnet", {})
    with pytest.raises(ValueError, match="missing"):
        models.from_torch("roberta_tiny", {})
