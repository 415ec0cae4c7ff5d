"""AWD-LSTM and AWD-QRNN: what they share, and each against a loop in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_ia import models
from optax_ia.models._awd_lstm import LSTMCarry, _loop, recurrence
from optax_ia.models._awd_qrnn import QRNNCarry
from optax_ia.models._from_torch_awd import awd_from_torch
from optax_ia.models._regularised import LanguageOutput

NAMES = ("awd_lstm_tiny", "awd_qrnn_tiny")
BATCH, TIME, WORDS = 3, 6, 50
TOKENS = jax.random.randint(jax.random.key(7), (BATCH, TIME + 1), 0, WORDS, jnp.int32)


@functools.cache
def build(name):
    model = models.create_model(name, weight_dropout=0.5, vocab_size=WORDS)
    init = jax.jit(functools.partial(model.init, train=False))
    return model, init(jax.random.key(0), TOKENS[:, :-1])["params"]


def loss_fn(model, params, carry, tokens, key):
    out = model.apply({"params": params}, tokens[:, :-1], carry, rngs={"dropout": key})
    loss = optax.softmax_cross_entropy_with_integer_labels(out.logits, tokens[:, 1:])
    return loss.mean() + models.activation_regularisation(out), out


@functools.partial(jax.jit, static_argnums=0)
def grad_fn(model, params, carry, tokens, key):
    function = functools.partial(loss_fn, model)
    return jax.value_and_grad(function, (0, 1), has_aux=True)(
        params, carry, tokens, key
    )


@functools.partial(jax.jit, static_argnums=0)
def evaluate(model, params, tokens, carry, length):
    return model.apply({"params": params}, tokens, carry, train=False, length=length)


def some_carry(model):
    leaves, structure = jax.tree.flatten(model.initial_carry(BATCH))
    rng = np.random.default_rng(3)
    return structure.unflatten(
        [jnp.asarray(rng.normal(size=x.shape), x.dtype) for x in leaves]
    )


@pytest.mark.parametrize("name", NAMES)
def test_one_step_lowers_the_loss_and_every_parameter_has_a_gradient(name):
    model, params = build(name)
    carry, key = some_carry(model), jax.random.key(1)
    (before, out), (grads, into_carry) = grad_fn(model, params, carry, TOKENS, key)
    for leaf in jax.tree.leaves(grads):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0
    # windows are truncated: nothing flows into the states that one begins with
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(into_carry))
    stepped = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    (after, _), _ = grad_fn(model, stepped, carry, TOKENS, key)
    assert after < before

    raw, dropped = np.asarray(out.raw), np.asarray(out.dropped)
    mask = dropped / raw
    # the mask of the output is the same at all positions, and one for each text
    np.testing.assert_allclose(mask, np.broadcast_to(mask[:, :1], mask.shape), 1e-5)
    assert set(np.round(mask.ravel(), 4)) == {0.0, np.float32(1.6667)}
    assert (mask[0, 0] != mask[1, 0]).any()
    # tied: one table, and no other matrix of the decoder
    assert set(params) == {"decoder_bias", "embedding", "layer_0", "layer_1"}
    table = np.asarray(params["embedding"]["embedding"])
    wanted = dropped @ table.T + np.asarray(params["decoder_bias"])
    np.testing.assert_allclose(out.logits, wanted, rtol=1e-5, atol=1e-6)

    # half the weights are out for the whole window: their gradient is exactly zero
    layer = grads["layer_0"]
    kernel = layer["gates"]["kernel"] if "gates" in layer else layer["recurrent_kernel"]
    assert 0.35 < np.mean(np.asarray(kernel) == 0) < 0.65

    (_, same), _ = grad_fn(model, params, carry, TOKENS, key)
    np.testing.assert_array_equal(same.logits, out.logits)
    (_, other), _ = grad_fn(model, params, carry, TOKENS, jax.random.key(2))
    assert (other.logits != out.logits).any()


@pytest.mark.parametrize("name", NAMES)
def test_two_windows_with_carried_state_are_one_long_window(name):
    model, params = build(name)
    tokens, carry = TOKENS[:, :-1], some_carry(model)
    whole = evaluate(model, params, tokens, carry, TIME)
    first = evaluate(model, params, tokens, carry, 4)
    second = evaluate(model, params, jnp.roll(tokens, -4, 1), first.carry, TIME - 4)
    logits = np.concatenate([first.logits[:, :4], second.logits[:, : TIME - 4]], 1)
    np.testing.assert_allclose(logits, whole.logits, rtol=2e-5, atol=1e-6)
    for got, wanted in zip(*map(jax.tree.leaves, (second, whole)), strict=True):
        if got.shape[:2] != (BATCH, TIME):
            np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-6)
    nothing = evaluate(model, params, tokens, carry, 0).carry
    jax.tree.map(np.testing.assert_array_equal, nothing, carry)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_lstm(params, x, carry):
    kernel, bias = params["input"]["kernel"], params["input"]["bias"]
    (hidden, cell), outputs = carry, []
    for now in x:
        gates = now @ kernel + bias + params["recurrent_bias"]
        gates = gates + hidden @ params["recurrent_kernel"]
        i, f, g, o = np.split(gates, 4, -1)  # PyTorch's order
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return np.stack(outputs), LSTMCarry(hidden, cell)


def numpy_qrnn(params, x, carry):
    kernel, bias = params["gates"]["kernel"], params["gates"]["bias"]
    cell, outputs = carry.cell, []
    before = None if carry.inputs is None else carry.inputs[:, 0]
    for now in x:
        source = now if before is None else np.concatenate([now, before], -1)
        z, f, o = np.split(source @ kernel + bias, 3, -1)
        cell = sigmoid(f) * np.tanh(z) + (1 - sigmoid(f)) * cell
        outputs.append(sigmoid(o) * cell)
        before = None if before is None else now
    return np.stack(outputs), QRNNCarry(
        cell, None if before is None else before[:, None]
    )


@pytest.mark.parametrize(
    ("name", "layer"), [("awd_lstm_tiny", numpy_lstm), ("awd_qrnn_tiny", numpy_qrnn)]
)
def test_against_a_loop_in_numpy(name, layer):
    model, params = build(name)
    carry = some_carry(model)
    out = evaluate(model, params, TOKENS[:, :-1], carry, TIME)
    params, carry = jax.tree.map(lambda x: np.asarray(x, np.float64), (params, carry))
    table = params["embedding"]["embedding"]
    x, left = table[np.asarray(TOKENS[:, :-1]).T], []
    for index, before in enumerate(carry):
        x, after = layer(params[f"layer_{index}"], x, before)
        left.append(after)
    wanted = (x @ table.T + params["decoder_bias"]).swapaxes(0, 1)
    np.testing.assert_allclose(out.logits, wanted, rtol=1e-5, atol=1e-6)
    for got, want in zip(
        jax.tree.leaves(out.carry), jax.tree.leaves(left), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_a_dropped_word_is_dropped_wherever_it_occurs():
    model = models.create_model(
        "awd_lstm_tiny",
        vocab_size=8,
        tied=False,
        embedding_dropout=0.5,
        input_dropout=0.0,
        hidden_dropout=0.0,
        output_dropout=0.0,
        weight_dropout=0.0,
    )
    tokens = TOKENS % 8
    init = jax.jit(functools.partial(model.init, train=False))
    params = init(jax.random.key(0), tokens[:, :-1])["params"]
    assert params["decoder"]["kernel"].shape == (12, 8)
    _, (grads, _) = grad_fn(
        model, params, model.initial_carry(BATCH), tokens, jax.random.key(0)
    )
    rows = np.abs(np.asarray(grads["embedding"]["embedding"])).sum(1)
    read, times = np.unique(np.asarray(tokens[:, :-1]), return_counts=True)
    # no path leads to a dropped word, however often it is read
    dropped = rows[read] == 0
    assert (dropped & (times > 1)).any()
    assert not dropped.all()


def test_gradients_of_all_orders_are_those_of_the_plain_loop():
    rng = np.random.default_rng(0)
    gates, kernel, hidden, cell, weigh = (
        jnp.asarray(rng.normal(size=shape))
        for shape in ((5, 2, 12), (3, 12), (2, 3), (2, 3), (5, 2, 3))
    )
    point = (gates, kernel, LSTMCarry(hidden, cell))
    direction = jax.tree.map(jnp.cos, point)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient_and_product(function, point, direction, length):
        def loss(point):
            outputs, final = function(*point, length)
            return jnp.sum(weigh * outputs**2) + jnp.sum(final.cell**3)

        return jax.jvp(jax.grad(loss), (point,), (direction,))

    got = gradient_and_product(recurrence, point, direction, 4)
    wanted = gradient_and_product(_loop, point, direction, 4)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), got, wanted)
    assert all((leaf[4] == 0).all() for leaf in (got[0][0], got[1][0]))


def test_zoneout_keeps_old_values():
    model = models.create_model("awd_qrnn_tiny", vocab_size=WORDS, zoneout=0.5)
    _, params = build("awd_qrnn_tiny")
    carry = some_carry(model)
    (_, out), _ = grad_fn(model, params, carry, TOKENS[:, :2], jax.random.key(5))
    # after one position about half of the states are those from before
    kept = np.asarray(out.carry[0].cell == carry[0].cell)
    assert 0.25 < kept.mean() < 0.75


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_dtypes(name, dtype):
    small = dtype == jnp.bfloat16
    model = models.create_model(name, dtype=dtype if small else None)
    params = build(name)[1]
    if not small:
        params = jax.eval_shape(
            lambda tree: jax.tree.map(lambda x: x.astype(dtype), tree), params
        )
    (loss, out), (grads, _) = jax.eval_shape(
        functools.partial(grad_fn, model),
        params,
        model.initial_carry(BATCH),
        TOKENS,
        jax.random.key(0),
    )
    wide = jnp.float32 if small else jnp.float64
    assert (out.logits.dtype, loss.dtype) == (wide, wide)
    assert (out.raw.dtype, out.dropped.dtype) == (dtype, dtype)
    assert out.carry[0].cell.dtype == wide
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(wide)}
    if small:  # what one window leaves is what the next one takes
        same = jax.tree.map(
            lambda a, b: a.dtype == b.dtype, out.carry, model.initial_carry(1)
        )
        assert all(jax.tree.leaves(same))


def test_activation_regularisation_counts_leading_positions():
    raw = np.random.default_rng(1).normal(size=(2, 5, 3))
    dropped = raw * np.array([0.0, 2.0, 2.0])
    out = LanguageOutput(None, (), jnp.asarray(raw), jnp.asarray(dropped))
    for length, count in ((None, 5), (3, 3)):
        got = models.activation_regularisation(out, 2.0, 0.5, length=length)
        wanted = 2 * np.mean(dropped[:, :count] ** 2)
        wanted += 0.5 * np.mean(np.diff(raw[:, :count], axis=1) ** 2)
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
    single = LanguageOutput(None, (), out.raw[:, :1], out.dropped[:, :1])
    got = models.activation_regularisation(single, 1.0, 1.0)
    np.testing.assert_allclose(got, np.mean(dropped[:, :1] ** 2), rtol=1e-12)


# The layers of salesforce/awd-lstm-lm as its model.py builds them, counted in PyTorch,
# for 10,000 words. In print: 24M for Penn Treebank, 33M for WikiText-2.
PUBLISHED = {
    "awd_lstm_1": 5_293_200,
    "awd_lstm_2": 13_632_400,
    "awd_lstm_3": 24_221_600,
    "awd_qrnn": 24_020_150,
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_sizes(name):
    assert models.count_parameters(name) == PUBLISHED[name]
    assert models.get_model_record(name).parameters == PUBLISHED[name]


def test_the_size_follows_vocabulary_and_tying():
    assert models.count_parameters("awd_lstm_3", vocab_size=33_278) == 33_556_078
    # the last layer has the size of the embedding only where they are tied
    tied, untied = (
        models.count_parameters("awd_lstm_tiny", tied=tied) for tied in (True, False)
    )
    assert untied - tied == 4 * 4 * (12 + 2) + (12 * 12 - 8 * 8) * 4 + 12 * 50


def authors_names(name, params):
    """The state dict of the authors' code, with weights dropped."""
    table = params["embedding"]["embedding"]
    state = {"encoder.weight": table, "decoder.weight": table}
    state["decoder.bias"] = params["decoder_bias"]
    for index in range(2):
        layer, theirs = params[f"layer_{index}"], f"rnns.{index}"
        if "qrnn" in name:
            state[f"{theirs}.linear.module.weight_raw"] = layer["gates"]["kernel"].T
            state[f"{theirs}.linear.module.bias"] = layer["gates"]["bias"]
            continue
        theirs = f"{theirs}.module"
        state[f"{theirs}.weight_ih_l0"] = layer["input"]["kernel"].T
        state[f"{theirs}.bias_ih_l0"] = layer["input"]["bias"]
        state[f"{theirs}.weight_hh_l0"] = 0 * layer["recurrent_kernel"].T
        state[f"{theirs}.weight_hh_l0_raw"] = layer["recurrent_kernel"].T
        state[f"{theirs}.bias_hh_l0"] = layer["recurrent_bias"]
    return jax.tree.map(np.asarray, state)


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_the_authors_code(name):
    model, params = build(name)
    state = authors_names(name, params)
    got = models.from_torch(name, state, weight_dropout=0.5, vocab_size=WORDS)
    jax.tree.map(np.testing.assert_array_equal, got, {"params": params})
    del state["encoder.weight"], state["decoder.weight"]
    with pytest.raises(ValueError, match=r"missing from.*encoder\.weight.*in.*: odd\."):
        awd_from_torch(model, state | {"odd": 0.0})
    state = authors_names(name, params)
    with pytest.raises(ValueError, match=r"decoder\.weight must equal encoder\.weight"):
        awd_from_torch(model, state | {"decoder.weight": np.zeros((WORDS, 8))})
    with pytest.raises(
        ValueError, match=r"decoder\.bias is \(3,\) and should be \(50,"
    ):
        awd_from_torch(model, state | {"decoder.bias": np.zeros(3)})


def test_wrong_attributes_are_named():
    with pytest.raises(ValueError, match=r"hidden_dropout must be < 1, got 1\.5"):
        models.create_model("awd_lstm_tiny", hidden_dropout=1.5)
    with pytest.raises(ValueError, match="num_layers must be >= 1, got 0"):
        models.create_model("awd_qrnn", num_layers=0)
    with pytest.raises(ValueError, match="zoneout must be < 1, got 1"):
        models.create_model("awd_qrnn", zoneout=1)
