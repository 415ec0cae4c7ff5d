"""Whole language runs: resumed, triggered, averaged, compared, reported."""

import csv
import dataclasses
import inspect
import json
import re

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import optax_ia
from experiments.__main__ import main
from experiments.configs.language import LanguageRun
from experiments.configs.p0 import language as p0
from experiments.configs.p0.language import (
    PRESETS,
    RECORD,
    TUNING_RECORD,
    LanguageTuning,
)
from experiments.data.text import TextCorpus
from experiments.loops import _language_step as steps
from experiments.loops import engine, language
from experiments.run_folder import RunFolder
from experiments.tasks import language_tuning

VOCABULARY = 7

SMALL = {
    "model": "awd_lstm_1",
    "embedding_size": 4,
    "embedding_dropout": 0.0,
    "input_dropout": 0.0,
    "output_dropout": 0.1,
    "weight_dropout": 0.1,
    "epochs": 4,
    "batch_size": 4,
    "bptt": 6,
    "bptt_deviation": 1.0,
    "validation_columns": 2,
    "average_from": 0.5,
    "nonmonotone": 1,
    "patience": 1,
    "clip_norm": None,
}
CONFIG = LanguageRun(**SMALL, learning_rate=0.5)
FLAGS = [
    f"--{name.replace('_', '-')}={value}"
    for name, value in SMALL.items()
    if value is not None
]


def text(count, seed=0):
    rng = np.random.default_rng(seed)
    return (np.cumsum(rng.integers(1, 3, count)) % VOCABULARY).astype(np.int32)


@pytest.fixture(scope="module")
def corpus():
    words = tuple("abcdefg")
    return TextCorpus("toy", words, text(90), text(40, 1), text(30, 2), sha256="5e3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, corpus):
    """The same corpus as files, a line of ten words each."""
    path = tmp_path_factory.mktemp("text")
    for name, split in (
        ("train", corpus.train),
        ("valid", corpus.validation),
        ("test", corpus.test),
    ):
        lines = [" ".join(corpus.decode(line)) for line in split.reshape(-1, 10)]
        (path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return path


def rows_of(corpus, **changes):
    rows = []
    config = dataclasses.replace(CONFIG, **changes)
    result = language.run(config, corpus, on_epoch=rows.append)
    return rows, result


def test_a_run_ends_in_the_perplexities_of_its_parameters(corpus):
    config = dataclasses.replace(CONFIG, optimizer="asgd")
    task = language.LanguageRunTask(config, corpus)
    rows = []
    training, fitted = engine.fit(task, on_epoch=rows.append)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    lengths = [task.epoch_steps(epoch) for epoch in range(4)]
    assert [row["step"] for row in rows] == list(np.cumsum(lengths))
    # averaging begins with the third epoch, and takes all iterates
    counts = [row["num_averaged"] for row in rows]
    assert counts == [0, 0, lengths[2], lengths[2] + lengths[3]]
    averages = [row["average_validation_perplexity"] for row in rows]
    assert averages[:2] == [None, None]
    assert None not in averages[2:]
    state = training.state
    params = {
        "validation_perplexity": state.params,
        "average_validation_perplexity": optax_ia.averaged_params(
            state.opt_state, state.params
        ),
    }
    for name, chosen in params.items():
        passage = language._passage(corpus, "validation", 2, 6)
        nll = steps.evaluate(task.model, chosen, passage)
        assert rows[-1][name] == pytest.approx(np.exp(nll), rel=1e-6)
    assert all(row["learning_rate"] == 0.5 for row in rows)
    assert {"gradient_norm", "update_norm", "parameter_norm"} <= set(rows[0])
    assert fitted.step == sum(lengths)


def test_the_average_is_the_mean_of_the_iterates(corpus):
    config = dataclasses.replace(CONFIG, optimizer="asgd", epochs=2)
    task = language.LanguageRunTask(config, corpus)
    training, batches, step, iterates = task.init(), task.batches(), 0, []
    for epoch in range(2):
        training = task.begin_epoch(training, epoch)
        for leaf in jax.tree.leaves(training.carry):
            assert not leaf.any()  # zero at each epoch's start
        for _ in range(task.epoch_steps(epoch)):
            training = task.step(training, next(batches), step)
            step += 1
            if epoch == 1:
                iterates.append(jax.tree.map(np.array, training.state.params))
    expected = jax.tree.map(lambda *each: np.mean(each, axis=0), *iterates)
    state = training.state
    found = optax_ia.averaged_params(state.opt_state, state.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        found,
        expected,
    )


def test_the_trigger_of_nt_asgd_fires_on_validation_perplexity(corpus):
    rows, result = rows_of(corpus, optimizer="nt_asgd", learning_rate=30.0, epochs=8)
    seen, fired = [], None
    for row in rows:  # algorithm 1, with n = 1
        value = row["validation_perplexity"]
        if fired is None and len(seen) > 1 and value > min(seen[:-1]):
            fired = row["epoch"]
        seen.append(value)
    assert fired is not None
    assert fired < 8  # or nothing would be shown
    averaged = [row["num_averaged"] for row in rows]
    assert averaged[:fired] == [0] * fired
    steps_after = [row["step"] - rows[fired - 1]["step"] for row in rows[fired:]]
    assert averaged[fired:] == steps_after
    assert result["num_averaged"] == steps_after[-1]
    assert result["average_test_perplexity"] is not None


def test_gadam_auto_starts_and_stops_by_itself(corpus):
    rows, result = rows_of(corpus, optimizer="gadam_auto", learning_rate=0.5, epochs=30)
    assert result["epochs"] == len(rows) < 30
    phases = [row["averaging_phase"] for row in rows]
    assert phases[0] == 0
    assert phases[-1] == 2
    assert result["average_validation_perplexity"] is not None


def test_rmsgd_measures_at_the_ends_of_epochs(corpus):
    rows, _ = rows_of(corpus, optimizer="rmsgd", learning_rate=0.3, epochs=2)
    assert any(name.startswith("learning_rate/") for name in rows[0])


def test_a_run_learns_what_there_is_to_learn(corpus):
    rows, _ = rows_of(corpus, optimizer="adam", learning_rate=0.03, epochs=25)
    # a word is followed by one of two, alike: 2 is the least there can be
    assert 1.9 < rows[-1]["validation_perplexity"] < 3.5
    assert rows[0]["validation_perplexity"] > 5


def test_a_diverged_run_is_recorded(corpus):
    rows, result = rows_of(corpus, optimizer="sgd", learning_rate=1e30, epochs=1)
    assert rows[0]["validation_perplexity"] is None
    assert result["test_perplexity"] is None


def test_an_update_that_is_not_finite_is_left_out_with_its_carry(corpus):
    config = dataclasses.replace(CONFIG, optimizer="sgd")
    task = language.LanguageRunTask(config, corpus, skip=True)
    training, batches = task.begin_epoch(task.init(), 0), task.batches()
    training = task.step(training, next(batches), 0)
    before = jax.tree.map(np.array, (training.state.params, training.carry))
    poisoned = jax.tree.map(lambda leaf: leaf * np.inf, training.carry)
    # a state that makes the loss NaN for once
    bad = task.step(training.replace(carry=poisoned), next(batches), 1)
    assert int(bad.totals["skipped"]) == 1
    assert np.isfinite(float(bad.totals["loss"]))
    jax.tree.map(np.testing.assert_array_equal, bad.state.params, before[0])
    jax.tree.map(np.testing.assert_array_equal, bad.carry, poisoned)
    good = task.step(bad.replace(carry=before[1]), next(batches), 2)
    assert int(good.totals["skipped"]) == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(good.state.params))


def tree_of(path):
    with ocp.CheckpointManager(path / "checkpoints") as manager:
        step = manager.latest_step()
        args = ocp.args.Composite(training=ocp.args.StandardRestore())
        return step, manager.restore(step, args=args)["training"]


@pytest.mark.filterwarnings("ignore:.*sharding.*:UserWarning")
@pytest.mark.parametrize(
    "optimizer", ["nt_asgd", pytest.param("gadamx", marks=pytest.mark.slow)]
)
def test_interrupted_and_resumed_ends_in_the_same_bits(
    tmp_path, folder, monkeypatch, capsys, optimizer
):
    command = ["train", "--task=language", "--dataset=text_folder", *FLAGS]
    command += [f"--data-dir={folder}", f"--optimizer={optimizer}"]
    command += ["--learning-rate=3", "--clip-norm=1", "--checkpoint-every=3"]
    assert main([*command, f"--out={tmp_path / 'whole'}"]) == 0
    step = language.LanguageRunTask.step

    def interrupted(self, training, batch, number):
        if number == 11:  # two steps after a checkpoint, in the middle of an epoch
            raise KeyboardInterrupt
        return step(self, training, batch, number)

    monkeypatch.setattr(language.LanguageRunTask, "step", interrupted)
    broken = [*command, f"--out={tmp_path / 'broken'}"]
    assert main(broken) == 130
    shown = capsys.readouterr()
    assert "go on with: python -m experiments train --task language" in shown.err
    monkeypatch.setattr(language.LanguageRunTask, "step", step)
    assert main([*broken, "--resume"]) == 0
    files = [tmp_path / name / "metrics.jsonl" for name in ("whole", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()
    (last, expected), (step_found, found) = map(
        tree_of, (tmp_path / "whole", tmp_path / "broken")
    )
    assert step_found == last > 11
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(expected),
        jax.tree.leaves(found),
        strict=True,
    )
    for (path, wanted), leaf in pairs:
        np.testing.assert_array_equal(leaf, wanted, err_msg=str(path))
    (result,) = RunFolder.open(tmp_path / "broken").results()
    assert result["resumed_from_step"] == 9
    assert len(result["text_hash"]) == 64


def test_compare_reports_perplexities(tmp_path, folder, capsys):
    out = tmp_path / "run"
    command = ["compare", "--task=language", "--dataset=text_folder", *FLAGS]
    command += [f"--data-dir={folder}", "--optimizers", "sgd", "gadam"]
    command += ["--epochs=2", "--seeds", "0", "1", f"--out={out}"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "valid." in printed
    assert "58.77 ± 0.08" in printed
    results = RunFolder.open(out).results()
    assert [(row["optimizer"], row["seed"]) for row in results] == [
        ("sgd", 0),
        ("gadam", 0),
        ("sgd", 1),
        ("gadam", 1),
    ]
    for row in results:
        averages = row["optimizer"] == "gadam"
        for split in ("train", "validation", "test"):
            assert 1 < row[f"{split}_perplexity"] < 20
            assert (row[f"average_{split}_perplexity"] is not None) == averages
        assert json.loads(row["config"])["dataset"] == "text_folder"
    for name in ("test_perplexity.png", "validation_perplexity.png"):
        assert (out / name).read_bytes()[:4] == b"\x89PNG"
    table = (out / "table.md").read_text().splitlines()
    assert len(table) == 4
    sgd = [row["test_perplexity"] for row in results if row["optimizer"] == "sgd"]
    assert f"{np.mean(sgd):.2f} ± {np.std(sgd, ddof=1):.2f}" in table[2]
    page = (out / "report.html").read_text()
    assert "awd_lstm_1 on text_folder" in page

    # made again from the files alone, and the same
    before = (out / "report.html").read_bytes()
    assert main(["report", str(out)]) == 0
    assert (out / "report.html").read_bytes() == before


def test_presets_are_the_papers():
    paper = PRESETS["paper"]
    assert (paper.dataset, paper.model, paper.epochs) == ("ptb", "awd_lstm_3", 200)
    assert (paper.bptt, paper.bptt_deviation, paper.batch_size) == (70, 5.0, 20)
    assert (paper.clip_norm, paper.alpha, paper.beta) == (0.25, 2.0, 1.0)
    assert (paper.averaging_epoch, paper.partial) == (100, 0.2)
    rates = paper.rates()
    assert (rates["asgd"].learning_rate, rates["gadamx"].learning_rate) == (30.0, 1.0)
    assert {entry.weight_decay for entry in rates.values()} == {1.2e-6}


def test_wrong_arguments_are_one_line(capsys):
    for command, message in (
        (
            ["train", "--task=language", "--optimizer=adamm"],
            "unknown optimizer 'adamm'",
        ),
        (["train", "--task=language", "--bptt=3"], "--bptt must be at least 5"),
        (["train", "--task=language", "--dataset=ptb"], "ptb is read from a folder"),
        (["compare", "--task=language", "--seeds", "0", "0"], "--seeds must differ"),
        (
            ["train", "--task=language", "--checkpoint-every=0"],
            "--checkpoint-every must be at least 1, got 0",
        ),
    ):
        assert main(command) == 2
        shown = capsys.readouterr().err
        assert message in shown
        assert shown.count("\n") == 1


def test_the_search_has_every_rate_once():
    runs = language_tuning.plan(LanguageTuning(**SMALL, seeds=(100, 101)))
    assert (
        len({(r.optimizer, r.learning_rate, r.seed) for r in runs}) == len(runs) == 28
    )
    rates = {r.learning_rate for r in runs if r.optimizer == "sgd"}
    assert rates == {5.0, 10.0, 20.0, 40.0}


def records(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_rates_are_the_best_of_the_record():
    small = PRESETS["small"]
    for name in ("sgd", "adam", "padam"):
        tried = [r for r in records(TUNING_RECORD) if r["optimizer"] == name]
        best = min(tried, key=lambda row: float(row["validation_perplexity"]))
        rates = [float(row["learning_rate"]) for row in tried]
        chosen = getattr(small, name)
        assert float(best["learning_rate"]) == chosen.learning_rate
        assert min(rates) < chosen.learning_rate < max(rates)
    wanted = {(name, rates.learning_rate) for name, rates in LanguageTuning().grid()}
    found = {
        (row["optimizer"], float(row["learning_rate"]))
        for row in records(TUNING_RECORD)
    }
    assert found == wanted


def test_the_note_says_what_the_record_holds():
    note = " ".join(inspect.getdoc(p0).split())
    rows = records(RECORD)
    assert len(rows) == 12
    found = []
    for name in p0.OPTIMIZERS:
        own = [row for row in rows if row["optimizer"] == name]
        assert {row["seed"] for row in own} == {"0", "1"}
        parts = []
        for entry in ("test_perplexity", "average_test_perplexity"):
            if own[0][entry]:
                parts.append(f"{np.mean([float(row[entry]) for row in own]):.1f}")
        found.append((name, ", ".join(parts)))
    said = re.search(r"of the average: (.*?)\. Every", note)[1]
    assert said.lower() == "; ".join(f"{name} {numbers}" for name, numbers in found)
