"""A window's loss, the carried state, padding, perplexity, and every optimiser."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia
from experiments.configs.language import LanguageRun
from experiments.data.text import TextCorpus, Window, columns_of, passage_of, window_at
from experiments.errors import ExperimentError
from experiments.loops import _language_step as steps
from experiments.loops import language
from experiments.loops._language_optimizer import (
    build_optimizer,
    schedule_factor,
    waits_for_start,
)

VOCABULARY = 11
COLUMNS, SIZE = 3, 7

CONFIG = LanguageRun(
    model="awd_lstm_1",
    embedding_size=4,
    embedding_dropout=0.0,
    input_dropout=0.0,
    output_dropout=0.1,
    weight_dropout=0.0,
    epochs=4,
    batch_size=COLUMNS,
    bptt=5,
    bptt_deviation=1.0,
    validation_columns=2,
    learning_rate=0.1,
    weight_decay=1e-6,
    nonmonotone=1,
    patience=1,
)


def text(count, seed=0):
    """A text in which a word says much about the next."""
    rng = np.random.default_rng(seed)
    steps_ahead = rng.integers(1, 3, count)
    return (np.cumsum(steps_ahead) % VOCABULARY).astype(np.int32)


@pytest.fixture(scope="module")
def corpus():
    words = tuple(f"word{number}" for number in range(VOCABULARY))
    parts = [text(62), text(40, seed=1), text(30, seed=2)]
    return TextCorpus("toy", words, *parts, sha256="0")


TWO_LAYERS = dataclasses.replace(CONFIG, model="awd_lstm_2", hidden_size=5)


@pytest.fixture(scope="module", params=["awd_lstm_2", "awd_qrnn"])
def model(request):
    config = dataclasses.replace(TWO_LAYERS, model=request.param)
    if request.param == "awd_qrnn":
        config = dataclasses.replace(config, embedding_size=3, hidden_size=3)
    return language.model_of(config, VOCABULARY)


def params_of(model):
    return steps.init_params(model, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))


def read(window, model, carry=None):
    if carry is None:
        carry = model.initial_carry(len(window.tokens))
    return steps.Read(window, carry, jnp.float32(1))


def whole(model):
    return columns_of(text(62), COLUMNS)


@functools.partial(jax.jit, static_argnames="model")
def apply(model, params, given):
    return steps.apply_of(model)({"params": params}, given, train=False)


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
        outputs = steps.apply_of(model)({"params": params}, given, train=False)
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
        return loss(
            steps.apply_of(model)({"params": params}, given, train=False), given
        )

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

    one = steps.evaluate(model, params, passage_of(tokens, 1, 5))
    np.testing.assert_allclose(one, nll(tokens).mean(), rtol=1e-5)
    assert language.perplexity(one) == pytest.approx(np.exp(nll(tokens).mean()), 1e-4)
    # in three columns of 16, 16 and 15 targets, each from zeros
    pieces = tokens[:17], tokens[16:33], tokens[32:48]
    expected = np.concatenate([nll(piece) for piece in pieces])
    assert len(expected) == 47
    three = steps.evaluate(model, params, passage_of(tokens, 3, 5))
    np.testing.assert_allclose(three, expected.mean(), rtol=1e-5)
    assert abs(three - one) > 1e-4


def test_perplexity_beyond_floats_is_infinite():
    assert language.perplexity(1e4) == np.inf


def a_run(corpus, name, **changes):
    config = dataclasses.replace(CONFIG, optimizer=name, **changes)
    if "lanczos" in name or name in ("kfac", "shampoo"):
        config = dataclasses.replace(config, weight_decay=None)
    if name == "sls":
        config = dataclasses.replace(config, weight_decay=None)
    return language.LanguageRunTask(config, corpus)


IN_SHORT = (
    *("sgd", "adam", "sam", "sls", "svrg", "kfac", "rmsgd"),
    *("nt_asgd", "gadamx"),
)
"""One of each kind but one; the others run with the slow tests."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in IN_SHORT else [pytest.mark.slow])
        for name in optax_ia.list_optimizers()
    ],
)
def test_every_optimiser_takes_a_step(corpus, name):
    task = a_run(corpus, name)
    training = task.begin_epoch(task.init(), 0)
    before = jax.tree.map(np.array, training.state.params)
    batches = task.batches()
    carry = jax.tree.map(np.array, training.carry)
    training = task.step(training, next(batches), 0)
    assert int(training.state.step) == 1
    moved = jax.tree.map(
        lambda old, new: float(np.abs(new - old).max()), before, training.state.params
    )
    assert all(np.isfinite(list(jax.tree.leaves(moved))))
    assert max(jax.tree.leaves(moved)) > 0
    assert np.isfinite(float(training.totals["loss"]))
    assert int(training.totals["tokens"]) == COLUMNS * task._reader.length(0)
    changed = [
        np.abs(new - old).max()
        for old, new in zip(
            jax.tree.leaves(carry), jax.tree.leaves(training.carry), strict=True
        )
    ]
    assert min(changed) > 0


def test_all_lengths_share_one_program_and_move_in_proportion(corpus):
    task = a_run(corpus, "sgd", clip_norm=None, weight_decay=None)
    found = {}
    columns = columns_of(corpus.train, COLUMNS)
    for length in (3, 5):
        training = task.begin_epoch(task.init(), 0)
        start = jax.tree.map(np.array, training.state.params)
        window = window_at(columns, 0, length, SIZE)
        carry = training.carry
        after = task.step(training, window, 0)
        found[length] = jax.tree.map(
            lambda new, old: np.array(new) - old, after.state.params, start
        )
        # by hand: the gradient of that window, with the same dropout
        params = jax.tree.map(jnp.asarray, start)
        loss = steps.loss_of(steps.Penalties(CONFIG.alpha, CONFIG.beta))
        # the step splits its key in two, and the network's once more for its streams
        network = jax.random.split(jax.random.fold_in(task._key, 0))[1]
        dropout = jax.random.split(network, 1)[0]

        def value(params, window=window, carry=carry, dropout=dropout, loss=loss):
            given = read(window, task.model, carry)
            outputs = steps.apply_of(task.model)(
                {"params": params}, given, train=True, rngs={"dropout": dropout}
            )
            return loss(outputs, given)[0]

        gradient = jax.jit(jax.grad(value))(params)
        jax.tree.map(
            lambda moved, g, length=length: np.testing.assert_allclose(
                moved, -CONFIG.learning_rate * length / CONFIG.bptt * g, atol=2e-6
            ),
            found[length],
            gradient,
        )


def test_the_full_pass_is_the_mean_over_all_positions(corpus):
    """SVRG's gradient: windows of 5, 5, 5 and 4 against one of 19, carries included."""
    model = language.model_of(
        dataclasses.replace(CONFIG, bptt=19, bptt_deviation=0.0), VOCABULARY
    )
    params = params_of(model)
    windows = language._full_pass(corpus, COLUMNS, 5, model)
    windows.params = params
    reads = list(windows())
    assert [int(r.window.length) for r in reads] == [5, 5, 5, 4]
    loss = steps.loss_of(steps.Penalties(0.0, 0.0))
    values = [float(loss(apply(model, params, r), r)[0]) for r in reads]
    one = window_at(columns_of(corpus.train, COLUMNS), 0, 19, 19)
    given = read(one, model)
    expected = float(loss(apply(model, params, given), given)[0])
    assert np.mean(values) == pytest.approx(expected, rel=1e-5)


def test_decay_is_l2_whatever_the_rule(corpus):
    """P0 B.3: gadam's decay goes through Adam's moments, unless it is to be its own."""
    config = dataclasses.replace(CONFIG, optimizer="adamw", weight_decay=0.5)
    params = {"w": jnp.array([2.0, -3.0])}
    grads = {"w": jnp.array([0.0, 0.0])}
    moved = {}
    for decay in ("l2", "own"):
        tx = build_optimizer(dataclasses.replace(config, decay=decay), 10)
        updates, _ = tx.update(grads, tx.init(params), params)
        moved[decay] = np.array(updates["w"])
    # the rate is set before every step: here it is 1
    np.testing.assert_allclose(moved["l2"], [-1.0, 1.0], rtol=1e-4)
    np.testing.assert_allclose(moved["own"], [-1.0, 1.5], rtol=1e-5)


def test_schedules():
    def factors(**changes):
        config = dataclasses.replace(CONFIG, epochs=8, **changes)
        return [schedule_factor(config, epoch) for epoch in range(8)]

    stepped = pytest.approx([1.0] * 4 + [0.1] * 2 + [0.01] * 2)
    assert factors(optimizer="padam") == stepped
    assert factors(optimizer="adam", schedule="step") == stepped
    for config in (
        {"optimizer": "adam"},
        {"optimizer": "gadamx"},
        {"optimizer": "gadam", "schedule": "step"},
        {"optimizer": "padam", "schedule": "constant"},
    ):
        assert factors(**config) == [1.0] * 8


def test_errors_name_the_flag(corpus):
    for changes, message in (
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"bptt": 4}, "--bptt must be at least 5, the shortest window, got 4"),
        ({"output_dropout": 1.0}, "--output-dropout must be at least 0 and below 1"),
        ({"clip_norm": 0.0}, "--clip-norm must be above 0, got 0.0"),
        ({"decay_at": (0.5, 1.5)}, "--decay-at must be fractions between 0 and 1"),
        ({"partial": 0.6}, "--partial must be between 0 and 0.5, got 0.6"),
        ({"model": "roberta_tiny"}, "unknown model 'roberta_tiny'; .* awd_lstm_1"),
        ({"batch_size": 10**6}, "--batch-size must be at most .*half the .* training"),
    ):
        config = dataclasses.replace(CONFIG, dataset="pydocs", **changes)
        with pytest.raises(ExperimentError, match=message):
            language.load(config)
    config = dataclasses.replace(CONFIG, optimizer="sls", weight_decay=0.1)
    with pytest.raises(ExperimentError, match="sls has no weight decay"):
        build_optimizer(config, 3)
    with pytest.raises(ExperimentError, match="adam has no damping"):
        a_run(corpus, "adam", damping=0.1)


def test_which_averages_begin_at_an_epoch():
    waiting = {
        name
        for name in optax_ia.list_optimizers()
        if waits_for_start(dataclasses.replace(CONFIG, optimizer=name))
    }
    assert waiting == {"asgd", "gadam", "gadamx", "gadam_lookahead", "swa"}
