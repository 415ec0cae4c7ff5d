"""Masked language modelling: its loss, its schedule, every optimiser, resuming."""

import dataclasses
import functools
import hashlib
import json

import jax
import numpy as np
import pytest

import optax_ia
from experiments.__main__ import main
from experiments.checkpoints import Checkpoints
from experiments.configs.p2 import masked as config
from experiments.data._bpe import bpe_hash, load_bpe
from experiments.errors import ExperimentError
from experiments.loops import _masked_step as steps
from experiments.loops import masked
from experiments.loops._masked_optimizer import build_optimizer
from experiments.loops.engine import Preempted, fit
from experiments.optimizers import damping_of, rates_of
from experiments.run_folder import RunFolder
from experiments.tasks.masked import TrainConfig, plan, resolve_run

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "to", "it", ".")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder with a little language of its own."""
    folder = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    for name, number in (("train", 1500), ("valid", 200), ("test", 200)):
        words = " ".join(rng.choice(WORDS, number))
        (folder / f"{name}.txt").write_text(words)
    return folder


@functools.cache
def settings(folder):
    return config.MaskedRun(
        dataset="text_folder",
        data_dir=str(folder),
        vocab_size=280,
        max_length=16,
        hidden_size=8,
        intermediate_size=8,
        dropout=0.0,
        epochs=2,
        batch_size=16,
        average_every=2,
    )


def task(folder, **changes):
    run = dataclasses.replace(settings(folder), **changes)
    return masked.MaskedTask(run, masked.load(run))


def same(one, other):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


def test_the_loss_is_the_cross_entropy_of_chosen_tokens_alone():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 4, 7)).astype(np.float32)
    labels = rng.integers(0, 7, (3, 4)).astype(np.int32)
    weights = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    loss, sums = steps.masked_loss(logits, {"labels": labels, "weights": weights})
    terms = [
        np.log(np.exp(logits[place].astype(float)).sum()) - logits[place][labels[place]]
        for place in ((0, 0), (0, 1), (1, 0))
    ]
    np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-6)
    np.testing.assert_allclose(sums["masked_loss"], np.sum(terms), rtol=1e-6)
    assert sums["masked"] == 3
    nothing = {"labels": labels, "weights": np.zeros_like(weights)}
    assert steps.masked_loss(logits, nothing)[0] == 0


def test_logits_are_those_at_the_chosen_positions(texts):
    made = task(texts)
    batch = next(made.batches())
    state = made.init().state
    variables = {"params": state.params}
    got = state.apply_fn(variables, steps.inputs_of(batch), train=False)
    everywhere = np.asarray(made._model.apply(variables, batch["tokens"], train=False))
    wanted = np.take_along_axis(everywhere, batch["positions"][..., None], 1)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_evaluation_is_the_mean_over_all_masked_tokens(texts):
    made = task(texts)
    state = made.init().state
    row = steps.evaluate(state, made.data, ("validation",))
    total = right = count = 0.0
    batches = steps.evaluation_batches(
        made.data.validation, 3, vocab_size=made.data.vocab_size
    )
    for batch in batches:  # another size of batches, another sum, the same mean
        inputs = steps.inputs_of(batch)
        logits = np.asarray(
            state.apply_fn({"params": state.params}, inputs, train=False), np.float64
        )
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        picked = np.take_along_axis(logs, batch["labels"][..., None], -1)[..., 0]
        total -= (picked * batch["weights"]).sum()
        right += ((logits.argmax(-1) == batch["labels"]) * batch["weights"]).sum()
        count += batch["weights"].sum()
    np.testing.assert_allclose(row["validation_loss"], total / count, rtol=1e-5)
    np.testing.assert_allclose(
        row["validation_perplexity"], np.exp(total / count), rtol=1e-5
    )
    np.testing.assert_allclose(row["validation_accuracy"], right / count, atol=1e-6)
    assert row["average_validation_loss"] is None


def test_the_rate_rises_then_falls_in_lines(texts):
    run = dataclasses.replace(
        settings(texts), optimizer="sgd", learning_rate=1.0, warmup=0.2, epochs=10
    )
    transformation = build_optimizer(run, 10, None)  # 100 steps
    state = transformation.init(np.zeros(1, np.float32))
    rates = []
    for _ in range(100):
        _, state = transformation.update(
            np.zeros(1, np.float32), state, np.zeros(1, np.float32)
        )
        rates.append(float(optax_ia.diagnostics(state)["learning_rate"]))
    steps_ = np.arange(100)
    wanted = np.where(steps_ < 20, (steps_ + 1) / 20, 1 - (steps_ - 20) / 80)
    np.testing.assert_allclose(rates, wanted, atol=1e-6)


FAST = ("adam", "kfac", "svrg", "gadam")
OTHERS = [name for name in optax_ia.list_optimizers() if name not in FAST]


@pytest.mark.parametrize(
    "name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_every_optimizer_lowers_the_loss_of_a_batch(texts, name):
    rate, _ = rates_of(name, config.RATES)
    damping = damping_of(name, config.RATES)
    if name == "lanczos_newton":
        # its own damping, 0.001, is less than the negative curvature at the start
        rate, damping = 0.1, 1.0
    made = task(
        texts,
        optimizer=name,
        learning_rate=rate,
        damping=damping,
        weight_decay=None,
        warmup=0.0,
        epochs=40,
        average_from=0.0,
    )
    batch, training = next(made.batches()), made.init()
    losses, before = [], 0.0
    for step in range(8):
        training = made.step(training, batch, step)
        total = float(training.totals["loss"])
        losses.append(total - before)
        before = total
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_a_run_that_stops_anywhere_ends_in_the_same_bits(texts, tmp_path):
    changes = {"optimizer": "gadam", "dropout": 0.1}
    through_rows, rows = [], []
    through, _ = fit(task(texts, **changes), on_epoch=through_rows.append)
    assert through_rows[-1]["num_averaged"] > 0
    assert through_rows[-1]["average_validation_perplexity"] > 1
    stops = iter([False, False, True])
    with (
        Checkpoints(tmp_path, every=1) as checkpoints,
        pytest.raises(Preempted) as preempted,
    ):
        fit(
            task(texts, **changes),
            on_epoch=rows.append,
            checkpoints=checkpoints,
            preempted=lambda *_: next(stops),
        )
    assert preempted.value.step == 3  # inside the first epoch
    with Checkpoints(tmp_path, every=100) as checkpoints:
        resumed, fitted = fit(
            task(texts, **changes), on_epoch=rows.append, checkpoints=checkpoints
        )
    assert fitted.first_step == 3
    assert rows == through_rows
    assert same(through.state, resumed.state)


def test_the_command_compares(texts, tmp_path, capsys):
    arguments = [
        "compare",
        "--task=masked",
        "--preset=smoke",
        "--dataset=text_folder",
        f"--data-dir={texts}",
        "--vocab-size=280",
        "--max-length=16",
        "--hidden-size=8",
        "--intermediate-size=8",
        f"--out={tmp_path}",
        *("--optimizers", "sgd", "adam"),
    ]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "87.81" in shown  # the paper's
    folder = RunFolder.open(tmp_path)
    results = folder.results()
    assert [row["optimizer"] for row in results] == ["sgd", "adam"]
    rows = folder.rows()
    for row, result in zip(rows, results, strict=True):  # one epoch each
        assert row["validation_loss"] == result["validation_loss"]
        np.testing.assert_allclose(
            result["test_perplexity"], np.exp(result["test_loss"])
        )
    digest = hashlib.sha256()
    for name in ("train", "valid", "test"):
        digest.update((texts / f"{name}.txt").read_bytes() + b"\0")
    assert {row["text_hash"] for row in results} == {digest.hexdigest()}
    saved = load_bpe(tmp_path / "tokenizer.json")
    assert {row["bpe_hash"] for row in results} == {bpe_hash(saved)}
    assert json.loads(results[0]["config"])["max_length"] == 16


def test_arguments_are_checked(texts):
    for changes, message in (
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"batch_size": 10_000}, "--batch-size must be at most .* got 10000"),
        ({"dropout": 1.0}, "--dropout must be at least 0 and below 1, got 1.0"),
        ({"warmup": -0.1}, "--warmup must be between 0 and 1, got -0.1"),
        ({"clip_norm": 0.0}, "--clip-norm must be above 0 and finite, got 0.0"),
        ({"hidden_size": 7}, "roberta_tiny: num_heads must divide hidden_size 7"),
        ({"model": "resnet18"}, "unknown model 'resnet18'"),
        ({"vocab_size": 20}, "--vocab-size must be at least 261"),
    ):
        with pytest.raises(ExperimentError, match=message):
            masked.load(dataclasses.replace(settings(texts), **changes))
    for changes, message in (
        ({"optimizer": "adma"}, "unknown optimizer 'adma'"),
        ({"learning_rate": -1.0}, "--learning-rate must be above 0"),
        ({"checkpoint_every": 0}, "--checkpoint-every must be at least 1, got 0"),
    ):
        with pytest.raises(ExperimentError, match=message):
            resolve_run(TrainConfig(**changes))
    with pytest.raises(ExperimentError, match="--optimizers needs at least one name"):
        plan(config.MaskedCompare(optimizers=()))
    with pytest.raises(ExperimentError, match="--seeds must differ, got 1 1"):
        plan(config.MaskedCompare(seeds=(1, 1)))
    run = dataclasses.replace(settings(texts), optimizer="sls", weight_decay=0.1)
    with pytest.raises(ExperimentError, match="sls has no weight decay"):
        build_optimizer(run, 10, None)


def test_the_default_comparison_is_that_of_the_paper():
    runs = plan(config.MaskedCompare())
    assert [run.optimizer for run in runs] == list(config.REPORTED)
    assert all(run.damping is None for run in runs if run.optimizer != "kfac")
