"""Whole language runs: resumed, triggered, averaged, compared, reported."""

import dataclasses
import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import optax_ia
from experiments.__main__ import main
from experiments.configs.language import LanguageRun
from experiments.loops import engine, language
from experiments.loops._language_evaluation import evaluate, laid_out
from experiments.parallel import place_over
from experiments.run_folder import RunFolder
from tests.experiments.toy_language import corpus_of

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


@pytest.fixture(scope="module")
def corpus():
    return corpus_of(90, 40, 30, VOCABULARY)


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
        passage = laid_out(corpus, "validation", 2, 6)
        nll = evaluate(task.model, chosen, passage)
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


@pytest.mark.parametrize("devices", [1, 4])
def test_an_update_that_is_not_finite_is_left_out_with_its_carry(corpus, devices):
    config = dataclasses.replace(CONFIG, optimizer="sgd")
    placement = place_over(devices)
    task = language.LanguageRunTask(config, corpus, skip=True, placement=placement)
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
    carry = before[1] if placement is None else placement.whole(before[1])
    good = task.step(bad.replace(carry=carry), next(batches), 2)
    assert int(good.totals["skipped"]) == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(good.state.params))


def tree_of(path):
    with ocp.CheckpointManager(path / "checkpoints") as manager:
        step = manager.latest_step()
        args = ocp.args.Composite(training=ocp.args.StandardRestore())
        return step, manager.restore(step, args=args)["training"]


@pytest.mark.filterwarnings("ignore:.*sharding.*:UserWarning")  # of tree_of
@pytest.mark.parametrize(
    "optimizer", ["nt_asgd", pytest.param("gadamx", marks=pytest.mark.slow)]
)
def test_interrupted_and_resumed_ends_in_the_same_bits(
    tmp_path, folder, monkeypatch, capsys, optimizer
):
    command = ["train", "--task=language", "--dataset=text_folder", *FLAGS]
    command += [f"--data-dir={folder}", f"--optimizer={optimizer}"]
    command += ["--learning-rate=3", "--clip-norm=1", "--checkpoint-every=3"]
    command += ["--devices=4"]
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
