"""What language runs are given: arguments, presets, rates, and the kept records."""

import csv
import inspect
import re

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.configs.p0 import language as p0
from experiments.configs.p0.language import (
    PRESETS,
    RECORD,
    TUNING_RECORD,
    LanguageTuning,
)
from experiments.tasks import language_tuning


def test_presets_are_the_papers():
    paper = PRESETS["paper"]
    assert (paper.dataset, paper.model, paper.epochs) == ("ptb", "awd_lstm_3", 200)
    assert (paper.bptt, paper.bptt_deviation, paper.batch_size) == (70, 5.0, 20)
    assert (paper.clip_norm, paper.alpha, paper.beta) == (0.25, 2.0, 1.0)
    assert (paper.averaging_epoch, paper.partial) == (100, 0.2)
    rates = paper.rates()
    assert (rates["asgd"].learning_rate, rates["gadamx"].learning_rate) == (30.0, 1.0)
    assert {entry.weight_decay for entry in rates.values()} == {1.2e-6}


def test_the_search_has_every_rate_once():
    runs = language_tuning.plan(LanguageTuning(seeds=(100, 101)))
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


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --optimizer=adamm", "unknown optimizer 'adamm'"),
        ("train --bptt=3", "--bptt must be at least 5"),
        ("train --dataset=ptb --devices=1", "--data-dir"),
        ("train --checkpoint-every=0", "--checkpoint-every must be at least 1, got 0"),
        ("train", "--batch-size must be a multiple of 8 (8 devices; --devices takes"),
        (
            "train --devices=2 --accumulate=3",
            "must be a multiple of 6 (2 devices times --accumulate 3; --devices takes",
        ),
        ("train --devices=1 --accumulate=2 --on-nan=skip", "--accumulate must be 1"),
        ("train --accumulate=0", "--accumulate must be at least 1, got 0"),
        ("train --label-smoothing=1", "--label-smoothing must be at least 0 and below"),
        ("compare --seeds 0 0", "--seeds must differ"),
        ("compare --accumulate=2 --optimizers sgd svrg_sgd", "must be 1 for svrg_sgd"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path, capsys, command, message):
    out = tmp_path / "run"
    assert main([*command.split(), "--task=language", f"--out={out}"]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1
    assert not out.exists()
