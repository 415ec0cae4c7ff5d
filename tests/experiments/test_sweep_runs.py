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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    config = folder / "four.toml"
    config.write_text(FOUR)
    assert main(["sweep", str(config), f"--out={folder / 'out'}", "--workers=2"]) == 0
    return folder / "out"


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


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_two_by_two_stopped_in_the_middle_and_resumed(number, whole, tmp_path, capsys):
    config, out = tmp_path / "four.toml", tmp_path / "out"
    config.write_text(FOUR)
    words = [sys.executable, "-m", "experiments", "sweep", str(config)]
    process = subprocess.Popen(
        [*words, f"--out={out}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    # The first run is over and the second has saved.
    while not list(out.glob("gadam-seed0-*/checkpoints/[0-9]*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate()
    if number == signal.SIGTERM:
        assert process.returncode == 0
        assert error.splitlines()[-1] == (
            f"stopped; go on with: python -m experiments sweep {config} "
            f"--out={out} --resume"
        )
        states = [row["state"] for row in read_csv(out / "sweep.csv")]
        assert states == ["finished", "half done", "missing", "missing"]
    else:  # its run is alive, and ends by itself: until then no other may begin
        capsys.readouterr()
        while (status := main(["sweep", str(config), f"--out={out}", "--resume"])) == 2:
            assert "in use by another sweep" in capsys.readouterr().err
            assert time.monotonic() < deadline
            time.sleep(1)
        assert status == 0
    assert main(["sweep", str(config), f"--out={out}", "--resume"]) == 0

    pairs = zip(read_csv(whole / "sweep.csv"), read_csv(out / "sweep.csv"), strict=True)
    for expected, found in pairs:
        assert found["run"] == expected["run"]
        for name in ("steps", "validation_accuracy", "test_loss", "average_test_loss"):
            assert found[name] == expected[name]
        rows = [folder / found["run"] / "metrics.jsonl" for folder in (whole, out)]
        assert rows[0].read_bytes() == rows[1].read_bytes()
    resumed = read_csv(out / "sweep.csv")[1]["resumed_from_step"]
    assert (int(resumed) > 0) == (number == signal.SIGTERM)
