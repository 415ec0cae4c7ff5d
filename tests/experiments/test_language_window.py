"""A window's loss, the carried state, padding, smoothed targets, and perplexity."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.data.text import Window, columns_of, passage_of, window_at
from experiments.loops import _language_step as steps
from experiments.loops import language
from experiments.loops._language_evaluation import evaluate, perplexity
from experiments.loops._language_read import apply_of
from optax_ia import models
from tests.experiments.toy_language import (
    COLUMNS,
    CONFIG,
    SIZE,
    VOCABULARY,
    apply,
    params_of,
    read,
    text,
)

TWO_LAYERS = dataclasses.replace(CONFIG, model="awd_lstm_2", hidden_size=5)


@pytest.fixture(scope="module", params=["awd_lstm_2", "awd_qrnn"])
def model(request):
    config = dataclasses.replace(TWO_LAYERS, model=request.param)
    if request.param == "awd_qrnn":
        config = dataclasses.replace(config, embedding_size=3, hidden_size=3)
    return language.model_of(config, VOCABULARY)


def whole(model):
    return columns_of(text(62), COLUMNS)


def outputs_of(model, params, window, carry=None):
    return apply(model, params, read(window, model, carry))


def test_carried_state_equals_one_long_window(model):
    params, columns = params_of(model), whole(model)
    long = outputs_of(model, params, window_at(columns, 0, 18, 18))
    carry, begin = None, 0
    for length in (7, 2, 5, 4):
        window = window_at(columns, begin, length, SIZE)
        output = outputs_of(model, params, window, carry)
        np.testing.assert_allclose(
            output.logits[:, :length],
            long.logits[:, begin : begin + length],
            rtol=1e-4,
            atol=1e-6,
        )
        carry, begin = output.carry, begin + length
    for ours, expected in zip(
        jax.tree.leaves(carry), jax.tree.leaves(long.carry), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


def test_padding_changes_neither_loss_nor_gradient_nor_carry(model):
    params, columns = params_of(model), whole(model)
    loss = steps.loss_of(steps.Penalties(2.0, 1.0))

    def value(params, window):
        # dropout off: a mask would be drawn for the padded shape
        given = read(window, model)
        outputs = apply_of(model)({"params": params}, given, train=False)
        return loss(outputs, given)

    value_and_grad = jax.jit(jax.value_and_grad(value, has_aux=True))
    plain = window_at(columns, 2, 5, 5)
    padded = window_at(columns, 2, 5, SIZE)
    other = Window(  # whatever stands in the padding
        np.where(np.arange(SIZE) < 5, padded.tokens, 3).astype(np.int32),
        np.where(np.arange(SIZE) < 5, padded.targets, 7).astype(np.int32),
        padded.length,
    )
    (expected, aux), gradient = value_and_grad(params, plain)
    for window in (padded, other):
        (found, found_aux), found_gradient = value_and_grad(params, window)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        pairs = (found_gradient, gradient), (found_aux, aux)
        for ours, wanted in pairs:
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
                ours,
                wanted,
            )


def test_no_gradient_flows_into_the_carry(model):
    params, window = params_of(model), window_at(whole(model), 0, 5, SIZE)
    loss = steps.loss_of(steps.Penalties(2.0, 1.0))

    def value(carry):
        given = read(window, model, carry)
        return loss(apply_of(model)({"params": params}, given, train=False), given)

    carry = jax.tree.map(lambda leaf: leaf + 0.1, model.initial_carry(COLUMNS))
    gradient = jax.jit(jax.grad(value, has_aux=True))(carry)[0]
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradient))


def lstm_in_numpy(params, tokens):
    """The logits of an AWD-LSTM after every token, one at a time, in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    table = params["embedding"]["embedding"]
    layers = [params["layer_0"], params["layer_1"]]
    states = [
        (np.zeros(len(p["recurrent_kernel"])), np.zeros(len(p["recurrent_kernel"])))
        for p in layers
    ]
    logits = []
    for token in tokens:
        x = table[token]
        for number, p in enumerate(layers):
            h, c = states[number]
            gates = x @ p["input"]["kernel"] + p["input"]["bias"]
            gates += h @ p["recurrent_kernel"] + p["recurrent_bias"]
            i, f, g, o = np.split(gates, 4)
            i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
            c = f * c + i * np.tanh(g)
            x = h = o * np.tanh(c)
            states[number] = h, c
        logits.append(table @ x + params["decoder_bias"])
    return np.array(logits)


def test_perplexity_against_numpy():
    model = language.model_of(TWO_LAYERS, VOCABULARY)
    params = jax.tree.map(lambda leaf: 3 * leaf, params_of(model))
    tokens = text(48, seed=5)

    def nll(piece):
        logits = lstm_in_numpy(params, piece[:-1])
        top = logits.max(axis=1, keepdims=True)
        logs = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        return -logs[np.arange(len(piece) - 1), piece[1:]]

    one = evaluate(model, params, passage_of(tokens, 1, 5))
    np.testing.assert_allclose(one, nll(tokens).mean(), rtol=1e-5)
    assert perplexity(one) == pytest.approx(np.exp(nll(tokens).mean()), 1e-4)
    # in three columns of 16, 16 and 15 targets, each from zeros
    pieces = tokens[:17], tokens[16:33], tokens[32:48]
    expected = np.concatenate([nll(piece) for piece in pieces])
    assert len(expected) == 47
    three = evaluate(model, params, passage_of(tokens, 3, 5))
    np.testing.assert_allclose(three, expected.mean(), rtol=1e-5)
    assert abs(three - one) > 1e-4


def test_perplexity_beyond_floats_is_infinite():
    assert perplexity(1e4) == np.inf


def test_label_smoothing_is_the_formula_and_leaves_the_perplexity_alone():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(COLUMNS, SIZE, VOCABULARY)), jnp.float32)
    window = window_at(whole(None), 0, 5, SIZE)
    states = jnp.zeros((COLUMNS, SIZE, 1))
    outputs = models.LanguageOutput(logits, (), states, states)
    given = read(window, None, carry=())
    loss, metrics = steps.loss_of(steps.Penalties(2.0, 1.0, 0.2))(outputs, given)
    targets = optax.smooth_labels(jax.nn.one_hot(window.targets, VOCABULARY), 0.2)
    terms = optax.softmax_cross_entropy(logits, targets)[:, :5]
    assert float(loss) == pytest.approx(float(terms.mean()), rel=1e-6)
    exact, plain = steps.loss_of(steps.Penalties(2.0, 1.0))(outputs, given)
    assert float(loss) != pytest.approx(float(exact), rel=1e-2)
    assert float(metrics["nll"]) == float(plain["nll"]) == float(exact) * 5 * COLUMNS
