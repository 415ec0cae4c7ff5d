"""Which layer's rate a parameter takes: by module, outputs, names, order of calls."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from optax_ia._src.paths import path_string
from optax_ia.adaptive._layer_order import layers_followed


def followed(params, order=None):
    shapes = {
        path_string(path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    return layers_followed(shapes, order)


def convolution(number, inputs, outputs):
    return {f"Conv_{number}": {"kernel": (3, 3, inputs, outputs), "bias": (outputs,)}}


def norm(name, size):
    return {name: {"scale": (size,), "bias": (size,)}}


def tree(*parts):
    """Abstract parameters of nested dictionaries of shapes."""
    merged = {name: value for part in parts for name, value in part.items()}
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        merged,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def test_numbers_pair_norms_with_layers_and_ten_comes_after_two():
    """In flat key order all norms would come before all convolutions."""
    params = tree(
        *(convolution(i, 8, 8) for i in range(12)),
        *(norm(f"BatchNorm_{i}", 8) for i in range(12)),
        {"Dense_0": {"kernel": (8, 10), "bias": (10,)}},
    )
    found = followed(params)
    for i in range(12):
        assert found[f"BatchNorm_{i}/scale"] == f"Conv_{i}/kernel"
        assert (
            found[f"Conv_{i}/bias"] == found[f"Conv_{i}/kernel"] == f"Conv_{i}/kernel"
        )
    assert found["Dense_0/bias"] == "Dense_0/kernel"


def test_names_pair_where_there_are_no_numbers_and_outputs_decide_first():
    params = tree(
        {"conv_init": {"kernel": (7, 7, 3, 64)}},
        norm("bn_init", 64),
        {
            "Block_0": {
                **convolution(0, 64, 16),
                **convolution(1, 16, 64),
                "conv_proj": {"kernel": (1, 1, 64, 64)},
                **norm("BatchNorm_0", 16),
                **norm("BatchNorm_1", 64),
                **norm("norm_proj", 64),
            }
        },
    )
    found = followed(params)
    assert found["bn_init/scale"] == "conv_init/kernel"
    assert found["Block_0/BatchNorm_0/bias"] == "Block_0/Conv_0/kernel"
    assert found["Block_0/BatchNorm_1/scale"] == "Block_0/Conv_1/kernel"
    assert found["Block_0/norm_proj/scale"] == "Block_0/conv_proj/kernel"


def test_a_list_goes_by_position():
    params = tree(
        {"layers": [{"kernel": (4, 8)}, {"scale": (8,)}, {"kernel": (8, 8)}]},
        {"layers_2": {"scale": (3,)}},
    )
    found = followed(params)
    assert found["layers/1/scale"] == "layers/0/kernel"
    raw = followed(tree({"w1": (4, 8), "b1": (8,), "w2": (8, 8), "b2": (8,)}))
    assert raw == {"w1": "w1", "b1": "w1", "w2": "w2", "b2": "w2"}
    assert followed(tree({"b": (3,), "scale": ()})) == {"b": None, "scale": None}


def test_an_order_of_calls_overrides_names():
    params = tree(
        {"head": {"kernel": (8, 8)}, "body": {"kernel": (8, 8), "bias": (8,)}},
        norm("norm_head", 8),
        norm("early", 8),
    )
    order = ["early", "body", "norm_head", "head"]
    found = followed(params, order)
    assert found["norm_head/scale"] == "body/kernel"
    assert found["early/scale"] == "body/kernel"  # none is called before it
    assert found["body/bias"] == "body/kernel"
    assert followed(params)["norm_head/scale"] == "head/kernel"
    with pytest.raises(ValueError, match=r"every module without a kernel; 'early'"):
        followed(params, ["body", "norm_head"])
    with pytest.raises(ValueError, match="must name modules that have kernels"):
        followed(params, ["early", "norm_head"])


def test_biases_and_scales_of_two_axes_are_no_layers():
    """As attention's, one bias for each head."""
    params = tree({"query": {"kernel": (24, 4, 6), "bias": (4, 6)}})
    assert followed(params)["query/bias"] == "query/kernel"


class Block(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.GroupNorm(2)(nn.Conv(self.features, (3, 3))(x)))
        y = nn.GroupNorm(2)(nn.Conv(self.features, (3, 3))(y))
        return y + nn.GroupNorm(2, name="norm_proj")(
            nn.Conv(self.features, (1, 1), name="conv_proj")(x)
        )


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.GroupNorm(2)(nn.Conv(6, (3, 3))(x))
        for features in (6, 8):
            x = Block(features)(x)
        return nn.Dense(10)(x.mean((1, 2)))


def test_a_linen_network():
    variables = jax.eval_shape(
        Network().init, jax.random.key(0), jnp.zeros((1, 4, 4, 3))
    )
    found = followed(variables["params"])
    assert found["GroupNorm_0/scale"] == "Conv_0/kernel"
    for block in ("Block_0", "Block_1"):
        assert found[f"{block}/GroupNorm_0/scale"] == f"{block}/Conv_0/kernel"
        assert found[f"{block}/GroupNorm_1/bias"] == f"{block}/Conv_1/kernel"
        assert found[f"{block}/norm_proj/scale"] == f"{block}/conv_proj/kernel"
    assert found["Dense_0/bias"] == "Dense_0/kernel"


def test_an_nnx_network():
    class Nnx(nnx.Module):
        def __init__(self, rngs):
            self.conv1 = nnx.Conv(3, 8, (3, 3), rngs=rngs)
            self.bn1 = nnx.BatchNorm(8, rngs=rngs)
            self.conv2 = nnx.Conv(8, 8, (3, 3), rngs=rngs)
            self.bn2 = nnx.BatchNorm(8, rngs=rngs)

    found = followed(nnx.state(Nnx(nnx.Rngs(0)), nnx.Param))
    assert found["bn1/scale"] == found["conv1/bias"] == "conv1/kernel"
    assert found["bn2/scale"] == found["conv2/bias"] == "conv2/kernel"
