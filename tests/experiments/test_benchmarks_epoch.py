"""The benchmark of epochs: what it measures, not how fast anything is."""

import csv

import pytest

from experiments.benchmarks import epoch
from experiments.errors import ExperimentError

QUICK = ["--optimizers", "sgd", "svrg_sgd", "--model", "vgg_tiny", "--repeats", "2"]


def test_rows_are_ratios_to_sgd(tmp_path):
    out = tmp_path / "out"
    assert epoch.main([*QUICK, "--batch-size", "256", "--out", str(out)]) == 0
    with open(out / "epoch.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["optimizer"] for row in table] == ["sgd", "svrg_sgd"]
    for row in table:
        assert row["steps_per_epoch"] == "3"
        for name in ("milliseconds", "ratio"):
            low, mid, high = (float(row[name + end]) for end in ("_q1", "", "_q3"))
            assert 0 < low <= mid <= high
        assert float(row["first_seconds"]) > 0
    assert float(table[0]["ratio"]) == 1.0
    assert float(table[1]["ratio"]) > 1.0  # two gradients a step, and a full one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeats", "0"], "--repeats must be >= 1, got 0"),
        (["--optimizers", "nothing"], "unknown optimizer 'nothing'"),
        (["--width", "4"], "vgg_small takes no --width"),
    ],
)
def test_wrong_arguments_name_what_is_wrong(arguments, message, tmp_path):
    with pytest.raises(ExperimentError, match=message):
        epoch.main([*arguments, "--out", str(tmp_path / "out")])
