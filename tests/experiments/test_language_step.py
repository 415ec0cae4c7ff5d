"""The step of a language run: every optimiser, rates, schedules, what is wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia
from experiments.data.text import columns_of, window_at
from experiments.errors import ExperimentError
from experiments.loops import _language_step as steps
from experiments.loops import language
from experiments.loops._language_optimizer import (
    build_optimizer,
    schedule_factor,
    waits_for_start,
)
from experiments.loops._language_read import apply_of, full_pass
from tests.experiments.toy_language import (
    COLUMNS,
    CONFIG,
    SIZE,
    VOCABULARY,
    apply,
    corpus_of,
    params_of,
    read,
)


@pytest.fixture(scope="module")
def corpus():
    return corpus_of(62, 40, 30)


def a_run(corpus, name, **changes):
    config = dataclasses.replace(CONFIG, optimizer=name, **changes)
    if "lanczos" in name or name in ("kfac", "shampoo"):
        config = dataclasses.replace(config, weight_decay=None)
    if name == "sls":
        config = dataclasses.replace(config, weight_decay=None)
    return language.LanguageRunTask(config, corpus)


IN_SHORT = (
    *("sgd", "adam", "sam_sgd", "sls", "svrg_sgd", "kfac", "rmsgd"),
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
            outputs = apply_of(task.model)(
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
    windows = full_pass(corpus, COLUMNS, 5, model)
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
