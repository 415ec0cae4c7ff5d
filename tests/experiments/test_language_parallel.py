"""Language runs on meshes and on two hosts, in groups of columns, and in bfloat16."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.text import passage_of
from experiments.files import read_json_lines
from experiments.loops import language
from experiments.loops._language_evaluation import _sums, evaluate, laid_out
from experiments.loops._language_read import _carry_after, apply_of, groups_of
from experiments.parallel import place_over
from experiments.run_folder import RunFolder
from tests.experiments.compilations import counted
from tests.experiments.hosts import alone, two
from tests.experiments.meshes import assert_close, cutting
from tests.experiments.toy_language import CONFIG, VOCABULARY, corpus_of, params_of

# Epochs of four windows; the average begins after the second, by the trigger.
TRIGGERED = dataclasses.replace(
    CONFIG,
    optimizer="nt_asgd",
    batch_size=8,
    embedding_size=8,
    epochs=5,
    bptt_deviation=0.0,
    validation_columns=3,  # eight devices do not divide them
    learning_rate=4.0,
)
PLAIN = dataclasses.replace(
    TRIGGERED,
    optimizer="gadamx",
    output_dropout=0.0,
    average_from=0.0,
    clip_norm=0.1,
    epochs=2,
)


@pytest.fixture(scope="module")
def corpus():
    return corpus_of(8 * 21, 50, 30)


def trained(config, corpus, placement=None, steps=20):
    """The training after so many steps, the rows of its epochs, and what compiled.

    On a mesh a step moves nothing from device to device but what it computes.
    """
    guard = "allow" if placement is None else "disallow"
    task = language.LanguageRunTask(config, corpus, placement=placement)
    training, batches, rows, later = task.init(), task.batches(), [], 0
    for step in range(steps):
        epoch, done = divmod(step, 4)
        if not done:
            training = task.begin_epoch(training, epoch)
        with counted() as count, jax.transfer_guard_device_to_device(guard):
            training = task.step(training, next(batches), step)
        later += count.programs if step else 0
        if done == 3:
            means = {name: float(x) / 4 for name, x in training.totals.items()}
            training, row = task.end_epoch(training, means, epoch + 1, step + 1)
            rows.append(row)
            zeros = jax.tree.map(jnp.zeros_like, training.totals)
            training = training.replace(totals=zeros)
    return training, rows, later


def visible(training):
    return training.state.params, training.state.opt_state, training.carry


@pytest.fixture(scope="module")
def one(corpus):
    return trained(TRIGGERED, corpus)


@pytest.fixture(scope="module")
def plain(corpus):
    return trained(PLAIN, corpus, steps=8)


@pytest.mark.parametrize("shard", ["replicated", "full"])
def test_eight_devices_equal_one_after_twenty_steps(corpus, one, shard):
    expected, rows, _ = one
    placement = place_over(8) if shard == "replicated" else cutting()
    found, found_rows, later = trained(TRIGGERED, corpus, placement)
    assert_close(visible(found), visible(expected))
    # laid out after the steps as before them: nothing was moved, or compiled again
    assert later == 0
    for leaf in jax.tree.leaves((found.state, found.totals)):
        assert leaf.sharding.is_equivalent_to(placement.sharding(leaf.shape), leaf.ndim)
    for leaf in jax.tree.leaves(found.carry):
        assert leaf.sharding.is_equivalent_to(placement.by_rows, leaf.ndim)
    paths = [
        str(path)
        for path, leaf in jax.tree.leaves_with_path(found.state)
        if not leaf.sharding.is_fully_replicated
    ]
    assert any("offset" in path for path in paths) == (shard == "full")
    assert [row["num_averaged"] for row in rows] == [0, 0, 0, 4, 8]
    for row, wanted in zip(found_rows, rows, strict=True):
        assert row.keys() == wanted.keys()
        for name, value in wanted.items():
            if isinstance(value, float):
                assert row[name] == pytest.approx(value, rel=1e-4), name
            else:
                assert row[name] == value, name


def test_evaluation_is_exact_where_devices_do_not_divide_the_columns(corpus):
    model = language.model_of(TRIGGERED, VOCABULARY)
    params = jax.tree.map(lambda leaf: 3 * leaf, params_of(model))
    expected = evaluate(model, params, passage_of(corpus.validation, 3, 5))
    for placement in (cutting(), place_over(2)):
        passage = laid_out(corpus, "validation", 3, 5, placement)
        placed = placement.place(params)
        found = evaluate(model, placed, passage, placement)
        assert found == pytest.approx(expected, rel=1e-6)
        assert not passage.tokens.sharding.is_fully_replicated
        _, counts = _sums(model, placed, passage, placement)
        assert counts.sum() == len(corpus.validation) - 1


def test_cut_parameters_are_gathered_before_the_loop_over_positions(corpus):
    placement = cutting()
    task = language.LanguageRunTask(TRIGGERED, corpus, placement=placement)
    training = task.init()
    (window,) = groups_of(next(task.batches()), placement=placement)
    apply = apply_of(task.model, placement)
    lowered = _carry_after.lower(apply, training.state.params, window, training.carry)
    loops, entry = lowered.compile().as_text().split("\nENTRY ")
    assert "all-gather(" in entry
    assert "all-gather(" not in loops


@pytest.mark.parametrize("devices", [1, 4])
def test_accumulation_equals_the_whole_batch(corpus, plain, devices):
    whole, rows, _ = plain
    config = dataclasses.replace(PLAIN, accumulate=2)
    groups, found, _ = trained(config, corpus, place_over(devices), steps=8)
    assert_close(groups.state.params, whole.state.params, 1e-5)
    carry = jax.tree.map(lambda *leaves: np.concatenate(leaves), *groups.carry)
    assert_close(carry, whole.carry, 1e-5)
    # schedules and averages count updates, means are over whole windows
    for row, wanted in zip(found, rows, strict=True):
        assert row["num_averaged"] == row["step"]
        for name in ("train_loss", "train_perplexity", "gradient_norm", "update_norm"):
            assert row[name] == pytest.approx(wanted[name], rel=1e-4)
    assert int(groups.state.step) == 2 * int(whole.state.step)


def test_smoothed_targets_are_trained_on_and_perplexities_are_without(corpus):
    totals, params = [], []
    for smoothing in (0.0, 0.5):
        config = dataclasses.replace(
            PLAIN, label_smoothing=smoothing, alpha=0.0, beta=0.0
        )
        training, _, _ = trained(config, corpus, steps=1)
        totals.append({name: float(x) for name, x in training.totals.items()})
        params.append(training.state.params)
    exact, smooth = totals
    assert exact["nll"] == smooth["nll"] == pytest.approx(exact["loss"] * 40, rel=1e-6)
    assert abs(smooth["loss"] - exact["loss"]) > 1e-4  # a fresh network says little
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), *params)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_bfloat16_computes_in_it_and_keeps_float32(corpus, plain):
    exact, rows, _ = plain
    config = dataclasses.replace(PLAIN, precision="bf16")
    training, found, _ = trained(config, corpus, steps=8)
    dtypes, expected = (
        [leaf.dtype for leaf in jax.tree.leaves(each.state)]
        for each in (training, exact)
    )
    assert dtypes == expected
    floats = {x.dtype for x in jax.tree.leaves(training.state.params)}
    assert floats == {jnp.dtype("float32")}
    (carry,) = training.carry
    assert (carry.hidden.dtype, carry.cell.dtype) == (jnp.bfloat16, jnp.float32)
    for row, wanted in zip(found, rows, strict=True):
        assert row["train_loss"] == pytest.approx(wanted["train_loss"], rel=1e-2)
        assert row["train_loss"] != wanted["train_loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["sam_sgd", "svrg_sgd", "kfac", "shampoo", "sls", "rmsgd"]
)
def test_other_optimizers_train_fully_sharded(corpus, name):
    decay = None if name in ("kfac", "shampoo", "sls") else PLAIN.weight_decay
    config = dataclasses.replace(
        PLAIN, optimizer=name, learning_rate=0.1, weight_decay=decay
    )
    expected, _, _ = trained(config, corpus, steps=5)
    found, _, _ = trained(config, corpus, cutting(), steps=5)
    assert_close(found.state.params, expected.state.params, 1e-5)


@pytest.mark.slow
def test_two_processes_are_one(tmp_path, corpus):
    data = tmp_path / "text"
    data.mkdir()
    for name in ("train", "validation", "test"):
        words = corpus.decode(getattr(corpus, name))
        (data / f"{name}.txt").write_text(" ".join(words) + "\n")
    arguments = ["--task=language", "--dataset=text_folder", f"--data-dir={data}"]
    arguments += ["--preset=smoke", "--batch-size=8", "--bptt=5", "--optimizer=gadamx"]
    arguments += ["--epochs=2", "--average-from=0.5", "--shard=full", "--accumulate=2"]
    alone([*arguments, f"--out={tmp_path / 'one'}"])
    for _, error, code in two([*arguments, f"--out={tmp_path / 'two'}"]):
        assert code == 0, error
    rows, expected = (
        read_json_lines(tmp_path / name / "metrics.jsonl") for name in ("two", "one")
    )
    assert rows == expected
    (found,), (result,) = (
        RunFolder.open(tmp_path / name).results() for name in ("two", "one")
    )
    assert found["num_averaged"] > 0
    for name in ("steps", "test_perplexity", "average_test_perplexity"):
        assert found[name] == result[name]
