"""The table of parameters, the layers found, the messages and the errors."""

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import optax_ia.flax
from optax_ia.second_order import infer_kfac_layers
from tests.flax.kfac_problem import IMAGES, KEY, LABELS, NNXNet, linen_net, normal

X = normal((6, 5, 3))
BATCH = X, np.zeros(6, int)


class Mixed(nn.Module):
    """Captured layers, layers that are not, and one that this pass does not use."""

    @nn.compact
    def __call__(self, x, whole=False):
        x = nn.ConvTranspose(4, (3,), name="transposed")(x)
        x = nn.Conv(4, (3,), feature_group_count=2, name="grouped")(x)
        x = nn.Conv(4, (3,), mask=np.ones((3, 4, 4)), name="masked")(x)
        x = nn.DenseGeneral(4, batch_dims=(0,), name="batched")(x)
        x = nn.WeightNorm(nn.Dense(4, name="normal"), name="changed")(x)
        x = nn.LayerNorm(name="norm")(x)
        if whole:
            x = nn.Dense(4, name="unused")(x)
        x = nn.ConvLocal(2, (2,), name="local")(x)
        return nn.DenseGeneral(3, axis=(-2, -1), use_bias=False, name="head")(x)


def mixed():
    net = Mixed()
    return net, jax.eval_shape(lambda: net.init(KEY, X, whole=True))["params"]


def test_table():
    net, params = mixed()
    table = optax_ia.flax.kfac_coverage(net, params, X, apply_kwargs={})
    reasons = {
        "transposed": "gradient: no rule for ConvTranspose",
        "grouped": "kronecker",
        "masked": "gradient: a masked kernel",
        "batched": "gradient: a kernel of its own for each row of batch_dims",
        "normal": "gradient: its kernel is changed by WeightNorm",
        "changed": "gradient: of no module called in this pass",
        "norm": "gradient: no rule for LayerNorm",
        "unused": "gradient: of no module called in this pass",
        "local": "gradient: no rule for ConvLocal",
        "head": "kronecker",
    }
    assert len(table) == len(jax.tree.leaves(params))
    for row in table:
        assert row.treatment == reasons[row.path.split("/")[0]], row.path
    shapes = {row.path: row.shape for row in table}
    assert shapes["head/kernel"] == params["head"]["kernel"].shape == (5, 2, 3)
    lines = str(table).splitlines()
    assert lines[0].split() == ["parameter", "shape", "treatment"]
    assert len(lines) == len(table) + 1
    assert len({line.index("gradient") for line in lines if "gradient" in line}) == 1


def test_layers_found_are_those_the_optimizer_needs():
    net, params = mixed()
    grouped, head = optax_ia.flax.kfac_layers(
        net, {"params": params}, X, apply_kwargs={}
    )
    assert (grouped.path, grouped.groups, grouped.bias) == ("grouped", 2, "bias")
    assert (head.path, head.num_input_axes, head.bias) == ("head", 2, None)


def test_plain_networks_are_inferred_alike():
    net, params, stats = linen_net()
    variables = {"params": params, "batch_stats": stats}
    shapes = jax.eval_shape(lambda: (variables, IMAGES))
    for max_dim in (100, 10):
        found = optax_ia.flax.kfac_layers(net, *shapes, max_dim=max_dim)
        assert set(found) == set(infer_kfac_layers(params, max_dim=max_dim))
        same = optax_ia.flax.kfac_layers(NNXNet(), shapes[1], max_dim=max_dim)
        assert same == found
    table = optax_ia.flax.kfac_coverage(net, variables, IMAGES, max_dim=12)
    assert {row.treatment for row in table if "norm" not in row.path} == {
        "diagonal inputs"
    }


def test_diagonals_asked_for():
    net, params, stats = linen_net()
    arguments = (params, (IMAGES, LABELS), KEY, stats)
    layers = infer_kfac_layers(params, max_dim=12)[:1]
    capture = optax_ia.flax.kfac_value_and_grad(net, layers=layers)
    shapes = jax.eval_shape(capture, *arguments)[2]
    assert {path: (a.shape, g.shape) for path, (a, g) in shapes.items()} == {
        "conv": ((19,), (3, 3))
    }


def test_layers_left_out_are_named_once():
    net, params = mixed()
    capture = optax_ia.flax.kfac_value_and_grad(net, apply_kwargs={})
    with pytest.warns(UserWarning, match="no Kronecker factors for") as caught:
        factors = jax.eval_shape(capture, params, BATCH, KEY)[2]
    jax.eval_shape(capture, params, (X, np.zeros(6, np.int32)), KEY)  # no error now
    assert len(caught) == 1
    message = str(caught[0].message)
    for name in ("transposed", "masked", "batched", "normal", "unused", "local"):
        assert name in message
        assert factors[name] is None
    assert "norm " not in message  # no kernel
    layers = optax_ia.flax.kfac_layers(net, params, X, apply_kwargs={})
    capture = optax_ia.flax.kfac_value_and_grad(net, apply_kwargs={}, layers=layers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        factors = jax.eval_shape(capture, params, BATCH, KEY)[2]
    assert set(factors) == {"grouped", "head"}


def test_layers_that_do_not_fit():
    net, params = mixed()
    layers = infer_kfac_layers(params)
    capture = optax_ia.flax.kfac_value_and_grad(net, apply_kwargs={}, layers=layers)
    with pytest.raises(ValueError, match="layers do not fit the model: .*groups=1"):
        jax.eval_shape(capture, params, BATCH, KEY)


def test_a_model_without_any_layer():
    net = nn.ConvTranspose(3, (3,))
    params = net.init(KEY, X)["params"]
    capture = optax_ia.flax.kfac_value_and_grad(net, apply_kwargs={})
    with pytest.raises(ValueError, match="no layer with Kronecker factors.*ConvTransp"):
        capture(params, BATCH, KEY)
    model = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="no layer with Kronecker factors.*BatchNorm"):
        optax_ia.flax.kfac_coverage(model, X.astype(np.float32))


@pytest.mark.parametrize("model", [nn.Dense(2), nnx.Linear(3, 2, rngs=nnx.Rngs(0))])
def test_wrong_numbers_of_arguments(model):
    for function in (optax_ia.flax.kfac_layers, optax_ia.flax.kfac_coverage):
        with pytest.raises(TypeError, match=r"\(model, variables, batch\) for Linen"):
            function(model)


def test_a_key_is_needed_to_draw_labels():
    net, params, stats = linen_net()
    capture = optax_ia.flax.kfac_value_and_grad(net)
    with pytest.raises(ValueError, match="need a key.*empirical=True"):
        capture(params, (IMAGES, LABELS), batch_stats=stats)


@pytest.mark.parametrize("wanted", ["labels", "weights", "none"])
def test_labels_and_weights_of_the_wrong_shape(wanted):
    kwargs = {
        "labels": {"labels": lambda batch: batch[1][:, None]},
        "weights": {"weights": lambda batch: jnp.ones((8, 1))},
        "none": {"inputs": lambda batch: batch, "labels": None},
    }
    matches = {
        "labels": r"integers of shape \(8, 4\).*got shape \(8, 1\)".replace(", 4", ","),
        "weights": r"weights must give .* \(8,\), got shape \(8, 1\)",
        "none": "has no labels",
    }
    net, params, stats = linen_net()
    batch = IMAGES if wanted == "none" else (IMAGES, LABELS)
    capture = optax_ia.flax.kfac_value_and_grad(net, **kwargs[wanted])
    with pytest.raises(ValueError, match=matches[wanted]):
        jax.eval_shape(capture, params, batch, KEY, stats)
