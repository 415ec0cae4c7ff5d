"""What a sweep makes of its processes: done, failed, stopped, gone on with.

The processes are a stand-in for ``train`` that starts in milliseconds. It writes the
files of a run folder and behaves as a file tells it to.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from experiments import sweep
from experiments.__main__ import main
from experiments.sweep import _slots

CONFIG = """
optimizers = ["sgd", "gadam"]
seeds = [0, 1]
[grid]
learning_rate = [0.1, 0.01]
"""

# Every call adds a line to calls.jsonl; behaviour.json maps part of a folder's name to
# what happens there. Scores are 0.5 + rate + seed / 100, gadam's average 0.2 more.
STUB = """
import json, os, signal, sys, time
from pathlib import Path
here = Path(__file__).parent
words = dict(word[2:].split("=", 1) for word in sys.argv[1:] if "=" in word)
out = Path(words["out"])
gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
call = {"run": out.name, "words": sys.argv[1:], "gpu": gpu, "began": time.monotonic()}
behaviour = json.loads((here / "behaviour.json").read_text())
how = next((how for part, how in behaviour.items() if part in out.name), "")
def note():
    with open(here / "calls.jsonl", "a") as file:
        file.write(json.dumps(call | {"ended": time.monotonic()}) + "\\n")
def saved(*_):
    (out / "checkpoint").write_text("saved")
    note()
    sys.exit(0)
if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, saved)
if "--resume" not in sys.argv:
    assert not (out.is_dir() and any(out.iterdir()))
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text("{}")
print("working")
if how == "fail":
    print("a warning", file=sys.stderr)
    print("error: the loss is not finite at step 3", file=sys.stderr)
    print("E0000 last words of a library", file=sys.stderr)
    note()
    sys.exit(2)
if how == "crash":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "stop":
    saved()
if how in ("hang", "stubborn"):
    (out / "hanging").write_text(str(os.getpid()))
    time.sleep(60)
if how.startswith("sleep"):
    time.sleep(float(how.split()[1]))
score = 0.5 + float(words["learning-rate"]) + int(words["seed"]) / 100
average = score + 0.2 if words["optimizer"] == "gadam" else ""
(out / "results.csv").write_text(
    "optimizer,seed,learning_rate,validation_accuracy,average_validation_accuracy,"
    "test_accuracy,average_test_accuracy,seconds\\n"
    f"{words['optimizer']},{words['seed']},{words['learning-rate']},{score},{average},"
    f"{score - 0.1},{average and average - 0.1},2.5\\n"
)
note()
"""


class Stand:
    """A sweep whose processes are the stand-in."""

    def __init__(self, folder):
        self.folder = folder
        self.out = folder / "out"
        self.config = folder / "small.toml"
        self.config.write_text(CONFIG)
        (folder / "stub.py").write_text(STUB)
        self.program = (sys.executable, "-I", str(folder / "stub.py"))
        self.behave({})

    def behave(self, behaviour):
        (self.folder / "behaviour.json").write_text(json.dumps(behaviour))

    def run(self, *more):
        return main(["sweep", str(self.config), f"--out={self.out}", *more])

    def calls(self):
        path = self.folder / "calls.jsonl"
        found = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        return found

    def rows(self):
        with open(self.out / "sweep.csv", newline="") as file:
            return list(csv.DictReader(file))

    def wait_for_hanging(self, count=1):
        deadline = time.monotonic() + 30
        while len(list(self.out.glob("*/hanging"))) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def stand(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    made = Stand(tmp_path)
    monkeypatch.setattr(sweep, "PROGRAM", made.program)
    return made


def test_all_runs_are_done_in_order_and_tabled(stand, capsys):
    assert stand.run() == 0
    calls = stand.calls()
    assert [call["words"][1:4] for call in calls[:3]] == [
        ["--optimizer=sgd", "--seed=0", "--learning-rate=0.1"],
        ["--optimizer=gadam", "--seed=0", "--learning-rate=0.1"],
        ["--optimizer=sgd", "--seed=0", "--learning-rate=0.01"],
    ]
    assert len(calls) == 8
    assert {call["words"][0] for call in calls} == {"train"}
    for before, after in zip(calls, calls[1:], strict=False):  # one after another
        assert before["ended"] < after["began"]
    rows = stand.rows()
    assert [row["state"] for row in rows] == ["finished"] * 8
    assert [row["run"] for row in rows] == [call["run"] for call in calls]
    assert rows[3]["setting"] == "learning_rate=0.01"
    assert rows[3]["--learning-rate"] == rows[3]["learning_rate"] == "0.01"
    assert float(rows[3]["average_validation_accuracy"]) == pytest.approx(0.71)

    # Over seeds 0 and 1: gadam at 0.1 has 0.8 and 0.81, a deviation of 0.01 / sqrt(2).
    lines = (stand.out / "table.md").read_text().splitlines()
    chosen = [line for line in lines if line.endswith("| **best** |")]
    assert chosen == [
        "| learning_rate=0.1 | gadam | 2 | average | 80.50 ± 0.71 [80.00, 81.00] | "
        "70.50 ± 0.71 [70.00, 71.00] | 2.5 | **best** |"
    ]
    second = [line for line in lines if line.endswith("| *best of sgd* |")]
    assert second == [
        "| learning_rate=0.1 | sgd | 2 | last iterate | 60.50 ± 0.71 [60.00, 61.00] | "
        "50.50 ± 0.71 [50.00, 51.00] | 2.5 | *best of sgd* |"
    ]
    shown = capsys.readouterr()
    assert "[8/8] gadam, learning_rate=0.01, seed 1: validation accuracy 72.00 %" in (
        shown.out
    )
    assert (
        "Best by validation accuracy: gadam, learning_rate=0.1: validation "
        "80.50 ± 0.71 [80.00, 81.00] %, test 70.50 ± 0.71 [70.00, 71.00] %."
    ) in shown.out
    assert not shown.err

    assert stand.run() == 2
    assert "is not empty; go on with it by --resume" in capsys.readouterr().err
    before = (stand.out / "sweep.csv").read_bytes()
    assert stand.run("--resume") == 0  # nothing to do, the table is told again
    assert not (stand.folder / "calls.jsonl").exists()
    assert (stand.out / "sweep.csv").read_bytes() == before
    assert "Best by validation accuracy: gadam" in capsys.readouterr().out


def test_failed_runs_are_named_and_tried_again(stand, capsys):
    stand.behave(
        {
            "gadam-learning_rate-0.1-seed1": "fail",
            "sgd-learning_rate-0.01-seed0": "crash",
            "sgd-learning_rate-0.1-seed0": "stop",
        }
    )
    assert stand.run() == 1
    assert len(stand.calls()) == 7  # the killed one could not say so
    shown = capsys.readouterr()
    assert shown.err.splitlines()[:-1] == [
        f"not finished: {label}: {error} ({stand.out}/logs/{row['run']}.err)"
        for label, error, row in (
            (
                "sgd, learning_rate=0.1, seed 0",
                "stopped before its end",
                stand.rows()[0],
            ),
            (
                "sgd, learning_rate=0.01, seed 0",
                "ended by SIGKILL, as when memory is short",
                stand.rows()[2],
            ),
            (
                "gadam, learning_rate=0.1, seed 1",
                "the loss is not finite at step 3",
                stand.rows()[5],
            ),
        )
    ]
    assert shown.err.splitlines()[-1] == (
        "try again with: python -m experiments sweep "
        f"{stand.config} --out={stand.out} --resume"
    )
    states = [row["state"] for row in stand.rows()]
    assert states[:3] == ["half done", "finished", "failed"]
    assert states[5] == "failed"
    assert stand.rows()[5]["error"] == "the loss is not finite at step 3"
    table = (stand.out / "table.md").read_text()
    # gadam at 0.1 would be the best; with one seed of two it is not chosen.
    assert "| gadam | 1 of 2 | average | 80.00 | 70.00 | 2.5 |  |" in table
    assert "| learning_rate=0.01 | gadam | 2 | average | 71.50 ± 0.71" in table
    assert table.count("**best** |") == 1
    assert "Best by validation accuracy: gadam, learning_rate=0.01" in table
    assert "Best of sgd" not in table

    stand.behave({})
    assert stand.run("--resume") == 0
    calls = stand.calls()
    assert len(calls) == 3
    assert all(call["words"][-1] == "--resume" for call in calls)
    assert [row["state"] for row in stand.rows()] == ["finished"] * 8
    assert [row["error"] for row in stand.rows()] == [""] * 8


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 0, "stopped")],
)
def test_a_signal_stops_the_runs_and_says_how_to_go_on(
    number, status, word, stand, capsys
):
    stand.behave({"learning_rate-0.01": "hang"})

    def send():
        stand.wait_for_hanging(2)
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    assert stand.run("--workers=2") == status
    shown = capsys.readouterr()
    stopping, go_on = shown.err.splitlines()
    assert stopping.startswith("stopping ")
    assert go_on == (
        f"{word}; go on with: python -m experiments sweep {stand.config} "
        f"--out={stand.out} --workers=2 --resume"
    )
    assert "No row has all its seeds yet" in shown.out
    assert [row["state"] for row in stand.rows()] == (
        ["finished"] * 2 + ["half done"] * 2 + ["missing"] * 4
    )
    assert len(list(stand.out.glob("*/checkpoint"))) == 2  # they had time to save
    assert len(stand.calls()) == 4

    stand.behave({})
    assert stand.run("--resume") == 0
    resumed = [call["words"][-1] == "--resume" for call in stand.calls()]
    assert resumed == [True] * 2 + [False] * 4


def test_a_second_signal_kills(stand, capsys):
    stand.behave({"": "stubborn"})

    def send():
        stand.wait_for_hanging()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send).start()
    assert stand.run() == 130
    (pid,) = stand.out.glob("*/hanging")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert "once more to kill" in capsys.readouterr().err


def test_one_run_on_each_device(stand, monkeypatch):
    stand.behave({"": "sleep 0.2"})
    assert stand.run("--devices=3,GPU-5f") == 0
    calls = stand.calls()
    assert {call["gpu"] for call in calls} == {"3", "GPU-5f"}
    for gpu in ("3", "GPU-5f"):
        own = sorted(
            (call for call in calls if call["gpu"] == gpu), key=lambda c: c["began"]
        )
        assert len(own) >= 2
        for before, after in zip(own, own[1:], strict=False):
            assert before["ended"] < after["began"]
    first, second = sorted(calls, key=lambda call: call["began"])[:2]
    assert second["began"] < first["ended"]  # side by side


def test_slots(monkeypatch):
    gpu = "CUDA_VISIBLE_DEVICES"
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    monkeypatch.setattr(_slots, "visible_gpus", lambda: ["0", "2"])
    assert _slots.slots(None, None) == [{}]
    assert _slots.slots(None, 2) == [{gpu: "0"}, {gpu: "2"}]
    assert _slots.slots("0,1", None) == [{gpu: "0"}, {gpu: "1"}]
    assert _slots.slots("0,1", 1) == [{gpu: "0"}]
    shared = {gpu: "1", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.450"}
    assert _slots.slots("0, 1,1", None) == [{gpu: "0"}, shared, shared]
    monkeypatch.setattr(_slots, "visible_gpus", lambda: [])
    assert _slots.slots(None, 3) == [{}, {}, {}]


def test_visible_gpus(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    assert _slots.visible_gpus() == ["4", "6"]
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert _slots.visible_gpus() == []
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    assert _slots.visible_gpus() == ["4", "6"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert _slots.visible_gpus() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers=0"], "--workers must be at least 1, got 0"),
        (["--devices=0,,1"], "--devices must be names such as 0,1, got '0,,1'"),
        (["--devices=0,1", "--workers=3"], "--workers must be at most 2"),
        (["--resume"], "nothing to resume"),
        (
            ["--out=/dev/null/sweep"],
            "cannot write to /dev/null/sweep (Not a directory)",
        ),
    ],
)
def test_wrong_arguments(words, said, stand, capsys):
    assert stand.run(*words) == 2
    assert said in capsys.readouterr().err
    assert not stand.out.exists()


def test_more_workers_than_gpus(stand, monkeypatch, capsys):
    monkeypatch.setattr(_slots, "visible_gpus", lambda: ["0"])
    assert stand.run("--workers=2") == 2
    error = capsys.readouterr().err
    assert "--workers must be at most 1 (the GPUs that are visible), got 2" in error
    assert "--devices 0,0" in error


def test_dry_run_prints_what_is_left(stand, capsys):
    assert stand.run("--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[0].startswith(
        "python -m experiments train --optimizer=sgd --seed=0 --learning-rate=0.1 "
        f"--out={stand.out}/sgd-learning_rate-0.1-seed0-"
    )
    assert not stand.out.exists()
    stand.behave({"sgd-learning_rate-0.1-seed1": "fail"})
    assert stand.run() == 1
    capsys.readouterr()
    assert stand.run("--dry-run") == 0
    line, finished = capsys.readouterr().out.splitlines()
    assert "--seed=1 --learning-rate=0.1" in line
    assert line.endswith(" --resume")
    assert finished == "# finished: 7 of 8 runs"


def test_a_sweep_may_grow(stand, capsys):
    stand.config.write_text(
        'optimizers = ["sgd"]\nseeds = [0, 1]\n[fixed]\nlearning_rate = 0.1\n'
    )
    assert stand.run() == 0
    first = stand.calls()
    stand.config.write_text(
        'optimizers = ["sgd"]\nseeds = [1, 2]\n[grid]\nlearning_rate = [0.1, 0.2]\n'
    )
    capsys.readouterr()
    assert stand.run("--resume") == 0
    done = {
        (call["words"][2], call["words"][3], len(call["words"]))
        for call in stand.calls()
    }
    assert done == {
        ("--seed=1", "--learning-rate=0.2", 5),
        ("--seed=2", "--learning-rate=0.1", 5),
        ("--seed=2", "--learning-rate=0.2", 5),
    }
    assert stand.rows()[0]["run"] == first[1]["run"]  # found under its older name
    assert len(stand.rows()) == 4
    assert capsys.readouterr().err == (
        f"left alone, not in {stand.config}: {stand.out / first[0]['run']}\n"
    )
    stand.config.rename(stand.folder / "other.toml")
    stand.config = stand.folder / "other.toml"
    assert stand.run("--resume") == 2
    assert "is the folder of the sweep small, not of other" in capsys.readouterr().err


def test_one_sweep_at_a_time_and_none_beside_a_run_left_behind(stand, capsys):
    stand.behave({"": "hang"})
    code = (
        "import sys; from experiments import sweep; from experiments.__main__ import "
        f"main; sweep.PROGRAM = {stand.program!r}; main(sys.argv[1:])"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, "sweep", str(stand.config), f"--out={stand.out}"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
    )
    stand.wait_for_hanging()
    assert stand.run("--resume") == 2
    assert f"in use by another sweep (process {other.pid})" in capsys.readouterr().err
    other.kill()
    other.wait()
    assert stand.run("--resume") == 2  # its run is alive
    assert "or by a run that it left behind" in capsys.readouterr().err
    (pid,) = stand.out.glob("*/hanging")
    os.kill(int(pid.read_text()), signal.SIGKILL)
    stand.behave({})
    deadline = time.monotonic() + 30
    while (status := stand.run("--resume")) == 2 and time.monotonic() < deadline:
        time.sleep(0.05)  # until the kernel has cleared it away
    assert status == 0


def test_what_a_killed_start_left_is_cleared_and_nothing_else(stand, capsys):
    stand.behave({"": "fail"})
    assert stand.run() == 1
    first, second = (stand.out / row["run"] for row in stand.rows()[:2])
    stand.calls()
    stand.behave({})
    (first / "config.json").rename(first / ".config.json.1.tmp")
    assert stand.run("--resume") == 0
    (again, *_) = stand.calls()
    assert (again["run"], again["words"][-1]) == (first.name, f"--out={first}")
    (second / "results.csv").unlink()
    (second / "config.json").rename(second / "precious")
    capsys.readouterr()
    assert stand.run("--resume") == 2
    error = capsys.readouterr().err
    assert f"{second} has no config.json, but precious; move it away" in error
    assert (second / "precious").exists()
