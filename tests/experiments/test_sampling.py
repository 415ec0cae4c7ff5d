"""Sampling with and without replacement: the draws, the pairs, the command."""

import csv
import json

import numpy as np
import pytest

from experiments import sampling, tune
from experiments.__main__ import main
from experiments.configs.p2.sampling import (
    PRESETS,
    RECORD,
    TUNING_RECORD,
    SamplingConfig,
)
from experiments.data import epoch_batches, epoch_draws, epoch_order, load_dataset
from experiments.run_folder import RunFolder
from experiments.statistics import Summary

ROWS = [
    {"draw": draw, "seed": seed, **dict.fromkeys(sampling.MEASURES, value)}
    for seed in (1, 0, 2)
    for draw, value in (("without", 0.5 + 0.1 * seed), ("with", 0.6 + 0.1 * seed))
]


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_draws_replace_and_are_a_function_of_seed_and_epoch():
    drawn = epoch_draws(2000, seed=3, epoch=5)
    assert drawn.shape == (2000,)
    assert drawn.dtype == np.int64
    assert 0 <= drawn.min() <= drawn.max() < 2000
    # 1 - 1/e of the examples come, give or take five deviations
    share = len(np.unique(drawn)) / 2000
    assert share == pytest.approx(1 - np.exp(-1), abs=5 * np.sqrt(0.0972 / 2000))
    assert np.array_equal(drawn, epoch_draws(2000, seed=3, epoch=5))
    assert not np.array_equal(drawn, epoch_draws(2000, seed=3, epoch=6))
    assert not np.array_equal(drawn, epoch_draws(2000, seed=4, epoch=5))


@pytest.mark.parametrize("replacement", [False, True])
def test_batches_are_cut_from_the_draw(replacement):
    split = load_dataset("digits").train
    draw = epoch_draws if replacement else epoch_order
    chosen = draw(len(split), seed=1, epoch=2)
    batches = list(
        epoch_batches(split, 64, seed=1, epoch=2, skip=3, replacement=replacement)
    )
    assert len(batches) == len(split) // 64 - 3
    np.testing.assert_array_equal(batches[0][1], split.labels[chosen[192:256]])
    np.testing.assert_array_equal(batches[0][0], split.images[chosen[192:256]])


def test_differences_are_paired_by_seed():
    found = sampling.differences(ROWS)
    assert set(found) == set(sampling.MEASURES)
    for measure, difference in found.items():
        scale = 100 if measure.endswith("accuracy") else 1
        assert difference.count == 3
        assert difference.mean == pytest.approx(-0.1 * scale)
        assert difference.std == pytest.approx(0, abs=1e-9)
        assert sampling.shows(difference)


def test_a_difference_shows_if_zero_is_left_out():
    assert sampling.shows(Summary(5, 1.0, 1.0, 0.1, 2.0))
    assert sampling.shows(Summary(5, -1.0, 1.0, -2.0, -0.1))
    assert not sampling.shows(Summary(5, 1.0, 1.0, -0.1, 2.0))


def test_command_writes_its_files_and_says_what_shows(tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["sampling", "--preset=smoke", f"--out={folder}"]) == 0
    shown = capsys.readouterr().out
    results = read(folder / "results.csv")
    seeds = PRESETS["smoke"].seeds
    assert [(row["draw"], int(row["seed"])) for row in results] == [
        (draw, seed) for seed in seeds for draw in sampling.DRAWS
    ]
    for row in results:
        assert row["commit"]
        assert json.loads(row["config"])["draw"] == row["draw"]
    rows = RunFolder.open(folder).rows()
    assert len(rows) == 2 * len(seeds) * PRESETS["smoke"].epochs
    last = [r for r in rows if (r["draw"], r["seed"], r["epoch"]) == ("with", 2, 2)]
    assert float(results[-1]["final_train_loss"]) == last[0]["fitted_loss"]
    assert (folder / "curves.png").stat().st_size > 10_000
    page = (folder / "report.html").read_text()
    for text in (shown, page):
        assert "On digits a difference in test accuracy" in text
        assert "paired over 3 seeds" in text
    table = (folder / "table.md").read_text().splitlines()
    assert len(table) == 2 + len(sampling.MEASURES)


def test_both_runs_of_a_pair_start_alike():
    """One step of rate zero: what was drawn changes nothing."""
    config = SamplingConfig(epochs=1, batch_size=897, learning_rate=1e-12)
    data = load_dataset("digits")
    losses = {
        draw: sampling.train(
            config,
            data,
            draw=draw,
            seed=0,
            on_epoch=lambda row: None,
            splits=("train",),
        ).steps[0]["loss"]
        for draw in sampling.DRAWS
    }
    assert losses["with"] == pytest.approx(losses["without"], rel=0.05)
    assert losses["with"] != losses["without"]


def test_the_rate_is_the_best_of_the_record():
    best = tune.best(tune.read_record(TUNING_RECORD))
    assert best["sgd"].learning_rate == SamplingConfig().learning_rate


def test_the_kept_results_are_as_the_lab_note_says():
    rows: list[dict] = read(RECORD)
    assert len(rows) == 2 * len(SamplingConfig().seeds)
    for row in rows:
        row |= {name: float(row[name]) for name in sampling.MEASURES}
        row["seed"] = int(row["seed"])
    found = sampling.differences(rows)
    assert sampling.shows(found["final_train_loss"])
    assert found["final_train_loss"].mean < 0
    assert not sampling.shows(found["final_test_accuracy"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "1", "1"], ["--seeds must differ"]),
        (["--learning-rate=0"], ["--learning-rate must be above 0"]),
        (["--epochs=0"], ["--epochs must be at least 1"]),
        (["--batch-size=900"], ["--batch-size must be at most 897"]),
    ],
)
def test_wrong_arguments_give_one_line(arguments, words, capsys):
    assert main(["sampling", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(word in error for word in words)
