"""Two processes that train together are one: rows, result, checkpoints, resuming."""

import re
import signal

import pytest

from experiments.files import read_json_lines
from experiments.run_folder import RunFolder
from tests.experiments.hosts import alone, ended, two
from tests.experiments.trained import start

pytestmark = pytest.mark.slow

ARGUMENTS = [
    "--optimizer=gadamx",
    "--model=mlp_tiny",
    "--dataset=digits",
    "--epochs=2",  # of 14 steps
    "--batch-size=64",
    "--average-from=0",
    "--shard=full",
    "--checkpoint-every=10",
]

# Dies before it saves a step, once the checkpoint before is whole in all processes.
KILLED = """
import os, signal, sys
from experiments import checkpoints
from experiments.__main__ import main
last = int(sys.argv[1])
due = checkpoints.Checkpoints.due
def killed(self, step):
    if step == last:
        self._manager.wait_until_finished()
        os.kill(os.getpid(), signal.SIGKILL)
    return due(self, step)
checkpoints.Checkpoints.due = killed
main(sys.argv[2:])
"""

# Sends itself SIGTERM after the step that is meant for it, and goes on in slow steps:
# JAX looks for the signal once a second.
TERMINATED = """
import os, signal, sys, time
import jax
from experiments.__main__ import main
from experiments.preemption import Preemption
wanted = [int(step) for step in sys.argv[1].split(",")]
asked = Preemption.__call__
def ask(self, step):
    if step == wanted[jax.process_index()]:
        os.kill(os.getpid(), signal.SIGTERM)
    if step >= min(step for step in wanted if step):
        time.sleep(0.25)
    return asked(self, step)
Preemption.__call__ = ask
sys.exit(main(sys.argv[2:]))
"""

# One process fails where the other does not hear of it.
FAILING = """
import sys
import jax
from experiments.__main__ import main
from experiments.errors import ExperimentError
from experiments.preemption import Preemption
asked = Preemption.__call__
def ask(self, step):
    if step == 5 and jax.process_index() == int(sys.argv[1]):
        raise ExperimentError("the disk of this one is full")
    return asked(self, step)
Preemption.__call__ = ask
sys.exit(main(sys.argv[2:]))
"""

# The newest of two checkpoints is damaged in what the second process alone reads.
DAMAGED = """
import sys
from pathlib import Path
import jax, numpy as np
from jax.experimental.multihost_utils import sync_global_devices
from experiments.checkpoints import Checkpoints
from experiments.data._pipeline import Batches
from experiments.parallel import ParallelArguments, begin
given = dict(word.split("=") for word in sys.argv[1:] if "=" in word)
folder, process = Path(given["--out"]), int(given["--process-id"])
meeting = given["--coordinator"], 2, process
placement = begin(ParallelArguments(None, "full", True, *meeting))
def at(step):
    batches = Batches(lambda step: step, 100, threads=0, prefetch=0)
    batches.set_state({"step": step})
    return batches
def training(step):
    numbers = np.random.default_rng(step).normal(size=100_000)
    return placement.place({"weights": jax.numpy.asarray(numbers, "float32")})
with Checkpoints(folder, every=5) as checkpoints:
    for step in (5, 10):
        checkpoints.save(step, training(step), at(step))
sync_global_devices("written")
if process == 0:
    files = (folder / "10" / "training" / "ocdbt.process_1" / "d").iterdir()
    largest = max(files, key=lambda file: file.stat().st_size)
    assert largest.stat().st_size > 100_000  # half of the array
    largest.write_bytes(largest.read_bytes()[:100])
sync_global_devices("damaged")
batches = at(0)
with Checkpoints(folder, every=5) as checkpoints:
    found, step = checkpoints.restore(training(0), batches)
    checkpoints.save(10, training(10), at(10))  # in its place
for part, same in zip(found["weights"].addressable_shards,
                      training(5)["weights"].addressable_shards, strict=True):
    np.testing.assert_array_equal(part.data, same.data)
with Checkpoints(folder, every=5) as checkpoints:
    print("found", step, next(batches), checkpoints.restore(training(0), batches)[1])
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
    return found


def test_two_processes_are_one(tmp_path, one):
    out = tmp_path / "run"
    (shown, error, code), (shown_by_other, error_of_other, code_of_other) = two(
        [*ARGUMENTS, f"--out={out}"]
    )
    assert (code, code_of_other) == (0, 0), error + error_of_other
    assert_same_run(out, one)
    assert "epoch 2/2" in shown
    assert "epoch" not in shown_by_other


def test_killed_they_go_on_in_another_number_of_processes_to_the_same_bits(
    tmp_path, one
):
    """Two are killed after a checkpoint, one goes on and is killed, two end it."""
    out = tmp_path / "run"
    arguments = [*ARGUMENTS, f"--out={out}"]
    for _, error, code in two(arguments, program=("-c", KILLED, "13")):
        assert code == -signal.SIGKILL, error
    command = ["-c", KILLED, "23", "train", *arguments, "--resume"]
    ((_, error, code),) = ended([start(*command, devices=2)])
    assert code == -signal.SIGKILL, error
    assert len(read_json_lines(out / "metrics.jsonl")) == 1
    for _, error, code in two([*arguments, "--resume"]):
        assert code == 0, error
    assert assert_same_run(out, one)["resumed_from_step"] == 20
    # begun anew, the folder is not empty: said once, and both leave
    (_, error, code), (_, error_of_other, code_of_other) = two(arguments)
    assert (code, code_of_other) == (2, 2)
    assert "is not empty" in error
    assert "is not empty" not in error_of_other


def test_sigterm_to_one_or_both_stops_both_after_the_same_step(tmp_path, one):
    """Then they go on, and in the end one process does."""
    out = tmp_path / "run"
    arguments = [*ARGUMENTS, f"--out={out}"]

    def terminated(wanted, *more):
        steps = []
        for _, error, code in two([*arguments, *more], ("-c", TERMINATED, wanted)):
            assert code == 0, error
            pattern = r"^stopped by SIGTERM after step (\d+), all of it saved; go on"
            steps += re.findall(pattern, error, re.MULTILINE)
        assert len(steps) == 2
        assert steps[0] == steps[1]
        assert (out / "checkpoints" / steps[0]).is_dir()
        return int(steps[0])

    first = terminated("0,2")  # the second alone
    assert first >= 2  # the same, where JAX looks before the next is asked for
    both = first + 2
    second = terminated(f"{both},{both}", "--resume")
    assert both <= second < 28
    alone([*arguments, "--resume"])
    assert assert_same_run(out, one)["resumed_from_step"] == second


@pytest.mark.parametrize("failing", [0, 1])
def test_what_one_alone_fails_for_ends_both(tmp_path, failing):
    out = tmp_path / "run"
    found = two([*ARGUMENTS, f"--out={out}"], ("-c", FAILING, str(failing)))
    _, error, code = found[failing]
    assert code == 2
    lines = [line for line in error.splitlines() if not line.startswith("[Gloo]")]
    assert lines == ["error: the disk of this one is full"]
    assert found[1 - failing][2] != 0


def test_a_checkpoint_that_one_cannot_read_is_left_out_by_both(tmp_path):
    found = two([f"--out={tmp_path}"], ("-c", DAMAGED))
    for shown, error, code in found:
        assert code == 0, error
        assert "found 5 5 10" in shown
        assert "cannot be read" in error
    assert "(another process cannot read it); going on from step 5" in found[0][1]
