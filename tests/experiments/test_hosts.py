"""Two processes that train together are one: rows, result, checkpoints, resuming."""

import pytest

from experiments.files import read_json_lines
from experiments.run_folder import RunFolder
from tests.experiments.hosts import alone, two

ARGUMENTS = [
    "--optimizer=gadamx",
    "--model=mlp_tiny",
    "--dataset=digits",
    "--epochs=2",  # of 14 steps
    "--batch-size=64",
    "--average-from=0",
    "--shard=full",
]

# Dies in the second epoch, once the checkpoint of step 20 is whole in both processes.
KILLED = """
import os, signal, sys
from experiments import checkpoints
from experiments.__main__ import main
due = checkpoints.Checkpoints.due
def killed(self, step):
    if step == 23:
        self._manager.wait_until_finished()
        os.kill(os.getpid(), signal.SIGKILL)
    return due(self, step)
checkpoints.Checkpoints.due = killed
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The run in one process with as many devices."""
    out = tmp_path_factory.mktemp("one") / "run"
    alone([*ARGUMENTS, f"--out={out}"])
    return out


def assert_same_run(out, one):
    assert read_json_lines(out / "metrics.jsonl") == read_json_lines(
        one / "metrics.jsonl"
    )
    (found,), (expected,) = (RunFolder.open(path).results() for path in (out, one))
    for name in ("steps", "test_loss", "test_accuracy", "average_test_loss"):
        assert found[name] == expected[name]


@pytest.mark.slow
def test_two_processes_are_one(tmp_path, one):
    out = tmp_path / "run"
    (shown, error, code), (shown_by_other, error_of_other, code_of_other) = two(
        [*ARGUMENTS, f"--out={out}"]
    )
    assert (code, code_of_other) == (0, 0), error + error_of_other
    assert_same_run(out, one)
    assert "epoch 2/2" in shown
    assert "epoch" not in shown_by_other


@pytest.mark.slow
def test_two_killed_processes_go_on_to_the_same_bits(tmp_path, one):
    out = tmp_path / "run"
    arguments = [*ARGUMENTS, f"--out={out}"]
    every = "--checkpoint-every=10"
    for _, error, code in two([*arguments, every], program=("-c", KILLED)):
        assert code != 0, error
    assert len(read_json_lines(out / "metrics.jsonl")) == 1
    for _, error, code in two([*arguments, every, "--resume"]):
        assert code == 0, error
    assert_same_run(out, one)
    (result,) = RunFolder.open(out).results()
    assert result["resumed_from_step"] == 20
    # begun anew, the folder is not empty: said once, and both leave
    (_, error, code), (_, error_of_other, code_of_other) = two(arguments)
    assert (code, code_of_other) == (2, 2)
    assert "is not empty" in error
    assert "is not empty" not in error_of_other
