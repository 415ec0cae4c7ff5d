"""Whole masked language runs: resumed, on eight devices, on two hosts, compared."""

import dataclasses
import hashlib
import json

import jax
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.checkpoints import Checkpoints
from experiments.configs.p2 import masked as config
from experiments.configs.settings import fields_of
from experiments.data._bpe import bpe_hash, load_bpe
from experiments.files import read_json_lines
from experiments.loops.engine import Preempted, fit
from experiments.optimizers import damping_of, rates_of
from experiments.parallel import place_over
from experiments.run_folder import RunFolder
from experiments.tasks.masked import plan
from tests.experiments import hosts
from tests.experiments.meshes import assert_close, cutting
from tests.experiments.tiny_masked import (
    flags,
    settings,
    task,
    write_texts,
)
from tests.experiments.trained import last_checkpoint

CHANGES = {
    "dropout": 0.1,
    "clip_norm": 0.5,
    "average_from": 0.2,
    "label_smoothing": 0.1,
}
STEPS = 22  # of two epochs


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def run(texts):
    """What the commands make of ``CHANGES``, so that programs are compiled once."""
    own = dataclasses.replace(settings(texts), **CHANGES)
    shared = fields_of(own, config.MaskedConfig)
    (run,) = plan(config.MaskedCompare(**shared, optimizers=("gadam",)))
    return dataclasses.asdict(run)


@pytest.fixture(scope="module")
def alone(texts, run):
    """A run on one device: its rows and how it ended."""
    rows = []
    training, fitted = fit(task(texts, **run), on_epoch=rows.append)
    assert fitted.step == STEPS
    return rows, training


def assert_same_rows(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        for name, value in other.items():
            numeric = isinstance(value, float)
            assert one[name] == (pytest.approx(value, rel=1e-4) if numeric else value)


def assert_placed(training, placement):
    for leaf in jax.tree.leaves(training):
        assert leaf.sharding.is_equivalent_to(placement.sharding(leaf.shape), leaf.ndim)


def test_a_run_that_stops_anywhere_ends_in_the_same_bits(texts, run, alone, tmp_path):
    through_rows, through = alone
    rows = []
    assert through_rows[-1]["num_averaged"] > 0
    assert through_rows[-1]["average_validation_perplexity"] > 1
    stops = iter([False, False, True])
    with (
        Checkpoints(tmp_path, every=100) as checkpoints,
        pytest.raises(Preempted) as preempted,
    ):
        fit(
            task(texts, **run),
            on_epoch=rows.append,
            checkpoints=checkpoints,
            preempted=lambda *_: next(stops),
        )
    assert preempted.value.step == 3  # inside the first epoch
    with Checkpoints(tmp_path, every=100) as checkpoints:
        resumed, fitted = fit(
            task(texts, **run), on_epoch=rows.append, checkpoints=checkpoints
        )
    assert fitted.first_step == 3
    assert rows == through_rows
    leaves = zip(*map(jax.tree.leaves, (through.state, resumed.state)), strict=True)
    assert all(np.array_equal(one, other) for one, other in leaves)


def test_the_command_trains_on_eight_devices_as_on_one(texts, alone, tmp_path, capsys):
    given = flags(texts, **CHANGES, shard="full", on_nan="skip")
    command = ["train", "--task=masked", "--optimizer=gadam", *given]
    assert main([*command, f"--out={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    folder = RunFolder.open(tmp_path)
    rows, one = folder.rows(), alone[1]
    assert_same_rows(rows, alone[0])
    assert [row["skipped"] for row in rows] == [0, 0]
    step, found = last_checkpoint(tmp_path)
    assert step == STEPS
    for path, leaf in jax.tree.leaves_with_path(one.state.params):
        name = "['state']['params']" + jax.tree_util.keystr(path)
        (own,) = [array for key, array in found.items() if key.endswith(name)]
        assert_close(own, leaf)
    (result,) = folder.results()
    assert json.loads(result["config"])["label_smoothing"] == 0.1
    for average in ("", "average_"):
        name = f"{average}validation_perplexity"
        assert result[name] == rows[-1][name]
        assert f"{result[name]:.1f}" in shown
    assert f"report: {tmp_path / 'report.html'}" in shown
    assert (tmp_path / "validation_perplexity.png").read_bytes()[:4] == b"\x89PNG"
    assert "WikiText-103 and 80.4" in (tmp_path / "report.html").read_text()


def test_updates_that_are_not_finite_are_left_out(texts, run):
    # the programs of the test before
    placement = place_over(8, "full")
    made = task(texts, **run, placement=placement, skip=True)
    training, batches = made.init(), made.batches()
    training = made.step(training, next(batches), 0)
    loss, means, count = (
        float(training.totals[name]) for name in ("loss", "masked_loss", "masked")
    )
    assert loss != pytest.approx(means / count, rel=1e-4)  # smoothed

    def kept():
        state = training.state
        inner = state.opt_state.inner_state
        return jax.device_get((state.params, inner, training.totals))

    batch, before = next(batches), kept()
    spoilt = [part | {"weights": part["weights"] * np.nan} for part in batch]
    training = made.step(training, spoilt, 1)
    after = kept()
    assert before[2].pop("skipped") == 0
    assert after[2].pop("skipped") == 1
    jax.tree.map(np.testing.assert_array_equal, after, before)
    training = made.step(training, batch, 2)
    batches.close()
    assert float(training.totals["loss"]) > loss
    assert float(training.totals["skipped"]) == 1
    assert_placed(training, placement)
    cut = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(training.state)
        if not leaf.sharding.is_fully_replicated
    ]
    assert any(path.startswith(".params") for path in cut)
    assert any("offset" in path for path in cut)


def test_states_on_eight_devices_are_those_on_one(texts, run, alone):
    placement = place_over(8)
    made = task(texts, **run, placement=placement)
    training, batches = made.init(), made.batches()
    for step in range(STEPS):
        training = made.step(training, next(batches), step)
    batches.close()
    assert_close(training.state, alone[1].state)
    assert_placed(training, placement)


@pytest.mark.slow
def test_a_state_of_which_all_is_cut_is_the_same(texts, run, alone):
    rows = []
    made = task(texts, **run, placement=cutting())
    eight, _ = fit(made, on_epoch=rows.append)
    assert_close(eight.state, alone[1].state)
    assert_same_rows(rows, alone[0])
    assert_placed(eight, cutting())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["kfac", "svrg_sgd", "sam_sgd", "shampoo", "gadam_auto"]
)
def test_other_optimizers_train_fully_sharded(texts, name):
    rate, _ = rates_of(name, config.RATES)
    damping = damping_of(name, config.RATES)
    changes = {"optimizer": name, "learning_rate": rate, "damping": damping}

    def trained(placement):
        rows = []
        made = task(texts, **changes, epochs=1, placement=placement)
        return fit(made, on_epoch=rows.append)[0], rows

    one, expected = trained(None)
    eight, rows = trained(cutting())
    assert_close(eight.state.params, one.state.params, 1e-5)
    assert_same_rows(rows, expected)
    assert_placed(eight, cutting())


def test_the_command_compares(texts, alone, tmp_path, capsys):
    arguments = [*flags(texts, **CHANGES), "--optimizers", "gadam", "sgd"]
    assert main(["compare", "--task=masked", *arguments, f"--out={tmp_path}"]) == 0
    assert "87.81" in capsys.readouterr().out  # the paper's
    folder = RunFolder.open(tmp_path)
    results = folder.results()
    assert [row["optimizer"] for row in results] == ["gadam", "sgd"]
    rows = folder.rows()
    assert rows[:2] == alone[0]
    for row, result in zip(rows[1::2], results, strict=True):
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
    table = (tmp_path / "table.md").read_text().splitlines()
    assert len(table) == 4
    cells = table[2].split("|")
    assert cells[6].strip() == f"{rows[1]['train_perplexity']:.2f}"
    assert cells[7].strip() == f"{results[0]['validation_perplexity']:.2f}"
    # made again from the files alone, and the same
    before = (tmp_path / "report.html").read_bytes()
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_bytes() == before


@pytest.mark.slow
def test_two_processes_are_one(texts, tmp_path):
    # small batches too: each is that of one process, not the hosts' own quarters
    given = flags(texts, **CHANGES, accumulate=2, shard="full", optimizer="gadam")
    one, out = tmp_path / "one", tmp_path / "two"
    hosts.alone(["--task=masked", *given, f"--out={one}"])
    (shown, error, code), (shown_by_other, error_of_other, code_of_other) = hosts.two(
        ["--task=masked", *given, f"--out={out}"]
    )
    assert (code, code_of_other) == (0, 0), error + error_of_other
    for name in ("metrics.jsonl", "tokenizer.json"):
        assert (out / name).read_bytes() == (one / name).read_bytes()
    assert len(read_json_lines(out / "metrics.jsonl")) == 2
    (found,), (expected,) = (RunFolder.open(path).results() for path in (out, one))
    for name in ("steps", "test_loss", "test_accuracy", "average_test_loss"):
        assert found[name] == expected[name]
    assert "epoch 2/2" in shown
    assert "epoch" not in shown_by_other
