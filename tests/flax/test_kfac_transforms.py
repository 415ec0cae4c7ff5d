"""Capture inside lifted transforms, of recurrent cells and of shared layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia.flax
from tests.flax.kfac_problem import KEY, assert_factors, compiled, dense, normal

X = normal((3, 4, 5))
LABELS = np.arange(12).reshape(3, 4) % 2


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.tanh(dense(5)(x))


class Step(nn.Module):
    """A block as ``nn.scan`` wants it."""

    @nn.compact
    def __call__(self, x, _):
        return Block(name="block")(x), None


class Stack(nn.Module):
    """The same block three times, then a head; written plainly or by a transform."""

    transform: str = ""
    stacked: bool = False

    @nn.compact
    def __call__(self, x):
        if self.transform == "scan":
            shared = {"variable_broadcast": "params"}
            apart = {"variable_axes": {"params": 0}}
            scan = nn.scan(
                Step,
                length=3,
                split_rngs={"params": self.stacked},
                **(apart if self.stacked else shared),
            )
            x, _ = scan(name="steps")(x, None)
            return dense(2, name="head")(x)
        kinds = {
            "": Block,
            "remat": nn.remat(Block),
            "jit": nn.jit(Block),
            "vmap": nn.vmap(
                Block,
                variable_axes={"params": None},
                split_rngs={"params": False},
                in_axes=1,
                out_axes=1,
            ),
        }
        block = kinds[self.transform](name="block")
        for _ in range(3):
            x = block(x)
        return dense(2, name="head")(x)


def factors_of(net, params, x=X, labels=LABELS, **kwargs):
    value_and_grad = optax_ia.flax.kfac_value_and_grad(
        net, apply_kwargs={}, empirical=True, **kwargs
    )
    return compiled(value_and_grad)(params, (x, labels))[2]


def params_of(net, x=X):
    shapes = jax.eval_shape(net.init, KEY, x)["params"]
    leaves, structure = jax.tree.flatten(shapes)
    values = [0.5 * normal(leaf.shape, seed) for seed, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, values)


@pytest.fixture(scope="module")
def plain():
    """Parameters and factors of the stack written plainly."""
    params = params_of(Stack())
    return params, factors_of(Stack(), params)


def test_uses_of_a_shared_layer_add_up(plain):
    params, factors = plain
    block, rows, x = params["block"]["Dense_0"], [], X
    for _ in range(3):
        rows.append(x.reshape(-1, 5))
        x = np.tanh(x @ block["kernel"] + block["bias"])
    a = np.concatenate(rows)
    np.testing.assert_allclose(
        factors["block/Dense_0"].inputs[:5, :5], a.T @ a / len(a), rtol=1e-12
    )


@pytest.mark.parametrize("transform", ["remat", "jit", "vmap"])
def test_transforms_change_nothing(plain, transform):
    params, factors = plain
    assert_factors(
        factors_of(Stack(transform), params), factors, rtol=1e-10, atol=1e-14
    )


def test_shared_parameters_in_a_scan(plain):
    params, factors = plain
    moved = {"steps": {"block": params["block"]}, "head": params["head"]}
    got = factors_of(Stack("scan"), moved)
    wanted = {"head": factors["head"], "steps/block/Dense_0": factors["block/Dense_0"]}
    assert_factors(got, wanted, rtol=1e-10, atol=1e-14)


def test_stacked_parameters_are_left_out_and_named():
    net = Stack("scan", stacked=True)
    params = params_of(net)
    assert params["steps"]["block"]["Dense_0"]["kernel"].shape == (3, 5, 5)
    with pytest.warns(UserWarning, match=r"steps/block/Dense_0 \(stacked by a transf"):
        factors = factors_of(net, params)
    assert factors["steps/block/Dense_0"] is None
    assert set(factors) == {"steps/block/Dense_0", "head"}
    layers = optax_ia.flax.kfac_layers(net, params, X, apply_kwargs={})
    assert set(factors_of(net, params, layers=layers)) == {"head"}  # and no warning


class Recurrent(nn.Module):
    """An LSTM, by ``nn.RNN`` or by a loop in Python."""

    loop: bool = False

    @nn.compact
    def __call__(self, x):
        cell = nn.LSTMCell(3, param_dtype=float)
        if not self.loop:
            return dense(2, name="head")(nn.RNN(cell)(x))
        carry, outputs = cell.initialize_carry(KEY, x[:, 0].shape), []
        for time in range(x.shape[1]):
            carry, output = cell(carry, x[:, time])
            outputs.append(output)
        return dense(2, name="head")(jnp.stack(outputs, axis=1))


def test_recurrent_cells():
    x, labels = X[:, :2], LABELS[:, :2]
    params = params_of(Recurrent(), x)
    got = factors_of(Recurrent(), params, x, labels)
    wanted = factors_of(Recurrent(loop=True), params, x, labels)
    assert len(got) == 9
    assert_factors(got, wanted, rtol=1e-9, atol=1e-13)


JIT_BLOCK = nn.jit(Block)


class Compiled(nn.Module):
    """A block whose compiled form outlives a pass, unlike one made in the call."""

    @nn.compact
    def __call__(self, x):
        return dense(2, name="head")(JIT_BLOCK(name="block")(x))


def test_a_block_compiled_before_is_left_out_and_named():
    net = Compiled()
    params = params_of(net)
    jax.jit(net.apply)({"params": params}, X)
    with pytest.warns(UserWarning, match="block/Dense_0"):
        factors = factors_of(net, params)
    assert factors["block/Dense_0"] is None
    assert factors["head"].inputs.shape == (6, 6)


class Embedding(nn.Module):
    """Embedding and dense layer, the output layer perhaps the embedding again."""

    tied: bool = False

    @nn.compact
    def __call__(self, numbers):
        embed = nn.Embed(4, 3, param_dtype=float, name="embed")
        x = dense(3, name="dense")(embed(numbers))
        return embed.attend(x) if self.tied else x


def test_embeddings():
    numbers = np.array([[0, 1], [1, 3]])
    labels = np.array([[0, 1], [2, 0]])
    params = params_of(Embedding(), numbers)
    factors = factors_of(Embedding(), params, numbers, labels)
    np.testing.assert_array_equal(factors["embed"].inputs, [0.25, 0.5, 0, 0.25])
    # the gradient of the rows is that of the dense layer's inputs
    kernel = params["dense"]["kernel"]
    through = kernel @ factors["dense"].outputs @ kernel.T
    np.testing.assert_allclose(factors["embed"].outputs, through, rtol=1e-12)


def test_an_embedding_that_is_the_output_layer_too_is_left_out():
    numbers = np.array([[0, 1], [1, 3]])
    params = params_of(Embedding(), numbers)
    with pytest.warns(UserWarning, match=r"embed \(used as an output layer too"):
        factors = factors_of(Embedding(tied=True), params, numbers, numbers)
    assert factors["embed"] is None
    assert factors["dense"].outputs.shape == (3, 3)


def test_projections_of_attention():
    net = nn.MultiHeadDotProductAttention(2, qkv_features=6, param_dtype=float)
    params = params_of(net)
    factors = factors_of(net, params, labels=LABELS)
    assert {path: (a.shape, g.shape) for path, (a, g) in factors.items()} == {
        "query": ((6, 6), (6, 6)),
        "key": ((6, 6), (6, 6)),
        "value": ((6, 6), (6, 6)),
        "out": ((7, 7), (5, 5)),
    }
    rows = np.concatenate([X.reshape(-1, 5), np.ones((12, 1))], axis=1)
    for name in ("query", "key", "value"):
        np.testing.assert_allclose(factors[name].inputs, rows.T @ rows / 12, rtol=1e-12)
