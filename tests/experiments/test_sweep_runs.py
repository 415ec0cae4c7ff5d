"""Sweeps of real runs, in processes of their own."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.__main__ import main

ROOT = Path(__file__).parents[2]


FOUR = """
optimizers = ["sgd", "gadam"]
seeds = [0, 1]
[fixed]
model = "vgg_tiny"
epochs = 20
checkpoint_every = 5
"""


@pytest.fixture(autouse=True, scope="module")
def _one_device_and_the_checkout():
    flags = os.environ["XLA_FLAGS"].split()
    kept = [flag for flag in flags if "host_platform_device_count" not in flag]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", " ".join(kept))
        patch.chdir(ROOT)
        yield


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_one_run(tmp_path, capsys):
    config = tmp_path / "one.toml"
    config.write_text(
        'optimizers = ["sgd"]\nseeds = [3]\n'
        '[fixed]\nmodel = "vgg_tiny"\nepochs = 1\nbatch_size = 128\n'
        "[grid]\nlearning_rate = [0.02]\n"
    )
    out = tmp_path / "out"
    assert main(["sweep", str(config), f"--out={out}"]) == 0
    (row,) = read_csv(out / "sweep.csv")
    assert (row["state"], row["error"]) == ("finished", "")
    assert row["run"].startswith("sgd-learning_rate-0.02-seed3-")
    folder = out / row["run"]
    (result,) = read_csv(folder / "results.csv")
    assert {name: row[name] for name in result} == result
    asked = json.loads((folder / "config.json").read_text())["config"]
    assert (asked["seed"], asked["learning_rate"], asked["batch_size"]) == (
        3,
        0.02,
        128,
    )
    assert (row["steps"], row["seed"], row["--learning-rate"]) == ("7", "3", "0.02")
    score = f"{100 * float(result['validation_accuracy']):.2f}"
    assert f"validation accuracy {score} %" in capsys.readouterr().out
    assert f"| last iterate | {score} |" in (out / "table.md").read_text()
    assert "sgd, seed 3" in (out / "logs" / f"{row['run']}.log").read_text()


def start(config, out, *more):
    words = [sys.executable, "-m", "experiments", "sweep", str(config)]
    return subprocess.Popen(
        [*words, f"--out={out}", *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_checkpoint(process, out, run):
    deadline = time.monotonic() + 300
    while not list(out.glob(f"{run}-*/checkpoints/[0-9]*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_two_by_two_stopped_then_killed_and_resumed(tmp_path, capsys):
    config, out = tmp_path / "four.toml", tmp_path / "out"
    config.write_text(FOUR)
    whole = tmp_path / "whole"
    assert main(["sweep", str(config), f"--out={whole}", "--workers=2"]) == 0

    process = start(config, out)
    wait_for_checkpoint(process, out, "gadam-seed0")
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()
    assert process.returncode == 0
    assert error.splitlines()[-1] == (
        f"stopped; go on with: python -m experiments sweep {config} "
        f"--out={out} --resume"
    )
    states = [row["state"] for row in read_csv(out / "sweep.csv")]
    assert states == ["finished", "half done", "missing", "missing"]

    process = start(config, out, "--resume")
    wait_for_checkpoint(process, out, "sgd-seed1")
    process.kill()
    process.communicate()
    # Its run is alive, and ends by itself: until then no other may begin.
    capsys.readouterr()
    refused = 0
    deadline = time.monotonic() + 300
    while (status := main(["sweep", str(config), f"--out={out}", "--resume"])) == 2:
        assert "in use by another sweep" in capsys.readouterr().err
        assert time.monotonic() < deadline
        refused += 1
        time.sleep(1)
    assert status == 0
    assert refused

    found = read_csv(out / "sweep.csv")
    for expected, row in zip(read_csv(whole / "sweep.csv"), found, strict=True):
        assert row["run"] == expected["run"]
        for name in ("steps", "validation_accuracy", "test_loss", "average_test_loss"):
            assert row[name] == expected[name]
        rows = [folder / row["run"] / "metrics.jsonl" for folder in (whole, out)]
        assert rows[0].read_bytes() == rows[1].read_bytes()
    resumed = [int(row["resumed_from_step"]) > 0 for row in found]
    assert resumed == [False, True, False, False]


@pytest.mark.slow
def test_a_rate_that_diverges_is_named_and_loses_no_other_run(tmp_path, capsys):
    config, out = tmp_path / "rates.toml", tmp_path / "out"
    config.write_text(
        'optimizers = ["sgd"]\nseeds = [0]\n'
        '[fixed]\nmodel = "vgg_tiny"\nepochs = 1\n'
        "[grid]\nlearning_rate = [0.02, 1e30, 0.04]\n"
    )
    assert main(["sweep", str(config), f"--out={out}"]) == 0
    states = [row["state"] for row in read_csv(out / "sweep.csv")]
    assert states == ["finished", "diverged", "finished"]
    said = "sgd, learning_rate=1e+30, seed 0: diverged: the loss is not finite at step"
    assert capsys.readouterr().err.startswith(said)
    assert f"- {said}" in (out / "table.md").read_text()
