"""Capture from NNX models: what Linen gives, with nothing of the library changed."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import optax_ia
import optax_ia.flax
from optax_ia.flax import _kfac_nnx
from tests.flax.kfac_problem import (
    IMAGES,
    KEY,
    LABELS,
    NNXNet,
    assert_factors,
    linen_net,
    normal,
)

X = normal((3, 2, 5))
TEXT = X, np.arange(6).reshape(3, 2) % 2
ORIGINALS = {layer: vars(layer)["__call__"] for layer in _kfac_nnx._KINDS}


def linear(rngs, inputs=5, outputs=5, **kwargs):
    return nnx.Linear(inputs, outputs, param_dtype=float, rngs=rngs, **kwargs)


def factors_of(model, batch=TEXT, **kwargs):
    value_and_grad = optax_ia.flax.kfac_value_and_grad(model, empirical=True, **kwargs)
    return nnx.jit(value_and_grad)(model, batch)[2]


@pytest.fixture(autouse=True)
def nothing_stays_replaced():
    yield
    assert {layer: vars(layer)["__call__"] for layer in ORIGINALS} == ORIGINALS


def test_an_nnx_model_gives_what_linen_gives():
    net, params, stats = linen_net()
    capture = jax.jit(optax_ia.flax.kfac_value_and_grad(net))
    (loss, aux), grads, factors = capture(params, (IMAGES, LABELS), KEY, stats)

    model = NNXNet()
    state = nnx.state(model, nnx.Param)
    nnx.replace_by_pure_dict(state, params)
    nnx.update(model, state)
    model.eval()
    capture = nnx.jit(optax_ia.flax.kfac_value_and_grad(model))
    (value, nothing), gradient, got = capture(model, (IMAGES, LABELS), KEY)

    np.testing.assert_allclose(value, loss, rtol=1e-12)
    assert nothing == ({}, None)
    assert_factors(got, factors, rtol=1e-9, atol=1e-14)
    assert jax.tree.structure(gradient) == jax.tree.structure(state)
    jax.tree.map(
        lambda mine, other: np.testing.assert_allclose(mine, other, atol=1e-12),
        nnx.to_pure_dict(gradient),
        grads,
    )
    # once, and on the model itself, which keeps its mode
    np.testing.assert_allclose(model.norm.mean[...], aux.batch_stats["norm"]["mean"])
    np.testing.assert_allclose(model.norm.var[...], aux.batch_stats["norm"]["var"])
    assert model.norm.use_running_average


def test_the_factors_of_an_optimizer_of_the_model():
    model = NNXNet()
    tx = optax_ia.kfac(0.1, damping=0.1)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    value_and_grad = optax_ia.flax.kfac_value_and_grad(model)

    @nnx.jit
    def step(model, optimizer, batch, key):
        (loss, _), grads, factors = value_and_grad(model, batch, key)
        optimizer.update(model, grads, kfac_factors=factors)
        return loss

    losses = [step(model, optimizer, (IMAGES, LABELS), key) for key in (KEY, KEY, KEY)]
    assert losses[2] < losses[1] < losses[0]


class Recurrent(nnx.Module):
    """An LSTM, by ``nnx.RNN`` or by a loop in Python."""

    def __init__(self, loop=False):
        rngs = nnx.Rngs(0)
        self.loop = loop
        self.rnn = nnx.RNN(nnx.LSTMCell(5, 3, param_dtype=float, rngs=rngs), rngs=rngs)
        self.head = linear(rngs, 3, 2)

    def __call__(self, x):
        if not self.loop:
            return self.head(self.rnn(x))
        carry, outputs = (jnp.zeros((3, 3)), jnp.zeros((3, 3))), []
        for time in range(x.shape[1]):
            carry, output = self.rnn.cell(carry, x[:, time])
            outputs.append(output)
        return self.head(jnp.stack(outputs, axis=1))


def test_recurrent_cells(monkeypatch):
    # flax 0.12.8: initialize_carry ignores param_dtype, float64 cells then fail
    monkeypatch.setattr(
        nnx.LSTMCell,
        "initialize_carry",
        lambda self, shape, rngs=None, carry_init=None: (jnp.zeros((3, 3)),) * 2,
    )
    got, wanted = factors_of(Recurrent()), factors_of(Recurrent(loop=True))
    assert len(got) == 9
    assert_factors(got, wanted, rtol=1e-9, atol=1e-13)


class Nested(nnx.Module):
    """A list of layers, one of them called twice, attention, a normalisation."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.blocks = nnx.List([linear(rngs), linear(rngs, use_bias=False)])
        self.attention = nnx.MultiHeadAttention(
            2, 5, 6, decode=False, param_dtype=float, rngs=rngs
        )
        self.norm = nnx.LayerNorm(5, param_dtype=float, rngs=rngs)
        self.alias = self.blocks[0]

    def __call__(self, x):
        for block in self.blocks:
            x = jnp.tanh(block(x))
        return self.alias(self.norm(self.attention(x)))


def test_nested_and_repeated_modules():
    factors = factors_of(Nested())
    shapes = {path: (a.shape, g.shape) for path, (a, g) in factors.items()}
    paths = set(shapes)
    first = (paths & {"alias", "blocks/0"}).pop()  # a shared module has one path
    assert paths == {first, "blocks/1"} | {
        f"attention/{name}" for name in ("query", "key", "value", "out")
    }
    assert shapes[first] == ((6, 6), (5, 5))
    assert shapes["blocks/1"] == ((5, 5), (5, 5))
    assert shapes["attention/query"] == ((6, 6), (6, 6))
    assert shapes["attention/out"] == ((7, 7), (5, 5))
    table = optax_ia.flax.kfac_coverage(Nested(), X)
    treatments = {row.path: row.treatment for row in table}
    assert treatments["norm/scale"] == "gradient: no rule for LayerNorm"
    assert treatments["attention/out/kernel"] == "kronecker"


class Awkward(nnx.Module):
    """Layers that cannot be captured, each for its own reason, and a head."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.stacked = nnx.vmap(lambda rngs: linear(rngs))(nnx.Rngs(0).split(3))
        self.one, self.other = linear(rngs), linear(rngs)
        self.other.kernel = self.one.kernel
        self.embed = nnx.Embed(4, 5, param_dtype=float, rngs=rngs)
        self.weights = nnx.WeightNorm(linear(rngs), rngs=rngs, param_dtype=float)
        self.head = linear(rngs)

    def __call__(self, x):
        x = nnx.scan(
            lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry
        )(x, self.stacked)
        x = self.weights(self.other(self.one(x)))
        return self.embed.attend(self.head(x) + self.embed(jnp.zeros((3, 2), int)))


def test_reasons():
    model = Awkward()
    with pytest.warns(UserWarning, match="no Kronecker factors for") as caught:
        factors = factors_of(model)
    assert len(caught) == 1
    assert [path for path in factors if factors[path] is not None] == ["head"]
    reasons = {
        row.path: row.treatment.removeprefix("gradient: ")
        for row in optax_ia.flax.kfac_coverage(model, X)
    }
    assert reasons["stacked/kernel"].startswith("stacked by a transform")
    assert reasons["embed/embedding"].startswith("used as an output layer too")
    assert reasons["weights/layer_instance/kernel"].endswith("changed by WeightNorm")
    for path in ("one/kernel", "one/bias", "other/bias"):
        assert reasons[path].startswith("its parameters are shared"), path
    assert reasons["head/kernel"] == "kronecker"


COMPILED = nnx.jit(lambda block, x: block(x))


class Compiled(nnx.Module):
    """A block under its own ``nnx.jit``, compiled before, and a head."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.block, self.head = linear(rngs), linear(rngs)

    def __call__(self, x):
        return self.head(COMPILED(self.block, x))


def test_a_block_under_its_own_jit():
    model = Compiled()
    model(X)
    first, second = factors_of(model), factors_of(model)
    assert set(first) == {"block", "head"}
    assert_factors(first, second)
    assert first["block"].outputs.any()


def test_other_threads_and_errors_see_the_library_unchanged():
    layer, seen = linear(nnx.Rngs(0)), []

    class Net(nnx.Module):
        def __init__(self):
            self.inner = layer

        def __call__(self, x):
            thread = threading.Thread(target=lambda: seen.append(layer(jnp.ones(5))))
            thread.start()
            thread.join()
            raise RuntimeError("stopped on the way")

    with pytest.raises(RuntimeError, match="stopped on the way"):
        factors_of(Net())
    np.testing.assert_allclose(seen[0], layer(jnp.ones(5)))
