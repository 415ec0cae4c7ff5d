"""What a sweep makes of its processes: done, failed, stopped, killed."""

import os
import signal
import threading
import time

import jax.numpy as jnp
import pytest

from experiments.loops import _finite
from experiments.sweep._failures import describe, is_diverged
from optax_ia.flax import TrainState
from tests.experiments.sweep_stand import WORDS, make_stand


@pytest.fixture
def stand(tmp_path, monkeypatch):
    return make_stand(tmp_path, monkeypatch)


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
    assert shown.out.endswith(f"table: {stand.out}/table.md\n")
    assert not shown.err

    assert stand.run() == 2
    assert "is not empty; go on with it by --resume" in capsys.readouterr().err
    before = (stand.out / "sweep.csv").read_bytes()
    assert stand.run("--resume") == 0  # nothing to do, the table is told again
    assert stand.calls() == []
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
    killed = "failed: ended by SIGKILL, as when memory is short"
    said = [
        ("sgd, learning_rate=0.1, seed 0", "stopped before its end", 0),
        ("sgd, learning_rate=0.01, seed 0", killed, 2),
        ("gadam, learning_rate=0.1, seed 1", f"failed: {WORDS['fail']}", 5),
    ]
    assert shown.err.splitlines() == [
        *(
            f"{label}: {text} ({stand.out}/logs/{stand.rows()[number]['run']}.err)"
            for label, text, number in said
        ),
        "try again with: python -m experiments sweep "
        f"{stand.config} --out={stand.out} --resume",
    ]
    states = [row["state"] for row in stand.rows()]
    assert states[:3] == ["half done", "finished", "failed"]
    assert states[5] == "failed"
    assert stand.rows()[5]["error"] == WORDS["fail"]
    table = (stand.out / "table.md").read_text()
    # gadam at 0.1 would be the best; with one seed of two it is not chosen.
    assert "| gadam | 1 of 2 | average | 80.00 | 70.00 | 2.5 |  |" in table
    assert "| learning_rate=0.01 | gadam | 2 | average | 71.50 ± 0.71" in table
    assert table.count("**best** |") == 1
    assert "Best by validation accuracy: gadam, learning_rate=0.01" in table
    assert "Best of sgd" not in table
    assert table.endswith(
        "Without a result:\n\n"
        f"- sgd, learning_rate=0.01, seed 0: {killed}\n"
        f"- gadam, learning_rate=0.1, seed 1: failed: {WORDS['fail']}\n"
    )

    stand.behave({})
    assert stand.run("--resume") == 0
    calls = stand.calls()
    assert len(calls) == 3
    assert all(call["words"][-1] == "--resume" for call in calls)
    assert [row["state"] for row in stand.rows()] == ["finished"] * 8
    assert [row["error"] for row in stand.rows()] == [""] * 8
    assert "Without a result" not in (stand.out / "table.md").read_text()


def test_diverged_runs_are_results_that_are_not_tried_again(stand, capsys):
    stand.behave({"gadam-learning_rate-0.1-seed1": "diverge"})
    assert stand.run() == 0
    assert len(stand.calls()) == 8
    error = capsys.readouterr().err
    row = stand.rows()[5]
    assert (row["state"], row["error"]) == ("diverged", WORDS["diverge"])
    said = "diverged: the loss is not finite at step 3, in epoch 1"
    assert error == (
        f"gadam, learning_rate=0.1, seed 1: {said} "
        f"({stand.out}/logs/{row['run']}.err)\n"
    )
    table = (stand.out / "table.md").read_text()
    assert "| gadam | 1 of 2, 1 diverged | average | 80.00 | 70.00 | 2.5 |  |" in table
    assert table.endswith(f"- gadam, learning_rate=0.1, seed 1: {said}\n")
    assert "Best by validation accuracy: gadam, learning_rate=0.01" in table

    assert stand.run("--dry-run") == 0
    assert capsys.readouterr().out == "# over: 8 of 8 runs\n"
    assert stand.run("--resume") == 0
    assert stand.calls() == []
    assert stand.rows()[5] == row
    assert (stand.out / "table.md").read_text() == table

    folder = stand.out / row["run"]  # whoever deletes it wants it repeated
    (folder / "config.json").unlink()
    folder.rmdir()
    stand.behave({})
    assert stand.run("--resume") == 0
    (call,) = stand.calls()
    assert (call["run"], call["words"][-1]) == (row["run"], f"--out={folder}")
    assert [row["state"] for row in stand.rows()] == ["finished"] * 8


class Training:
    def __init__(self, state):
        self.state = state


@pytest.mark.parametrize(
    ("on_nan", "state", "said"),
    [
        ("stop", None, "the loss is not finite at step 3, in epoch 1"),
        (
            "skip",
            object.__new__(TrainState),
            "loss or gradient is not finite at step 101 and at the 99 steps after it",
        ),
        (
            "skip",
            None,
            "loss or gradient is not finite at the latest 100 updates of the critic",
        ),
    ],
)
def test_what_a_run_says_that_diverged_is_understood(on_nan, state, said, monkeypatch):
    monkeypatch.setattr(_finite, "in_a_row", lambda state: (100, "critic"))
    nan = {"loss": jnp.float32(jnp.nan), "skipped": jnp.float32(0)}
    watch = _finite.Watch(on_nan, nan)
    watch.see(nan, 3)
    with pytest.raises(_finite.NotFiniteError) as caught:
        watch.check(Training(state), 200, epoch=1, done=200, checkpoints=None)
    text = str(caught.value)
    assert is_diverged(text)
    assert describe(text).startswith(f"diverged: {said}")
    assert "; " in text
    assert "; " not in describe(text)


def test_other_errors_are_no_divergence():
    assert not is_diverged("--learning-rate must be finite, got nan at step 3")
    assert not is_diverged(None)


def test_failures_are_remembered_until_they_are_made_good(stand, capsys):
    stand.behave({"sgd": "fail"})
    assert stand.run() == 1
    stand.calls()
    stand.behave({"sgd-learning_rate-0.1-seed0": "hang"})

    def send():
        stand.wait_for_hanging()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send).start()
    capsys.readouterr()
    assert stand.run("--resume") == 0
    # The first was tried again and stopped; the others' turn did not come.
    states = [row["state"] for row in stand.rows() if row["optimizer"] == "sgd"]
    assert states == ["half done", "failed", "failed", "failed"]
    assert (stand.out / "table.md").read_text().count(WORDS["fail"]) == 3
    assert len(stand.calls()) == 1


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
    assert "No row has all its seeds" in shown.out
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
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send).start()
    assert stand.run() == 130
    (pid,) = stand.out.glob("*/hanging")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert "once more to kill" in capsys.readouterr().err
