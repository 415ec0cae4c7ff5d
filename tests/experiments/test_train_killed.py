"""``train`` killed at any moment, many times, ends as if nothing had happened."""

import random
import signal
import time

import pytest

from experiments.run_folder import RunFolder
from tests.experiments.trained import assert_same_run, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*sharding.*:UserWarning"),
]

STEPS = 112
ARGUMENTS = [
    "--optimizer=gadamx",
    "--model=vgg_tiny",
    "--dataset=digits",
    "--epochs=8",
    "--batch-size=64",  # 14 steps an epoch, averaging from epoch 5 on
    "--checkpoint-every=3",
]

# Another thread kills the process as the kernel would, so many seconds after a step
# was made, whatever the loop and the writers of checkpoints are doing by then. Step 0
# is the reading of the checkpoint, before anything is compiled.
KILLED = """
import os, signal, sys, threading, time
from experiments.__main__ import main
from experiments.checkpoints import Checkpoints
from experiments.preemption import Preemption
wanted, delay = int(sys.argv[1]), float(sys.argv[2])
reached = threading.Event()
def kill():
    reached.wait()
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)
asked, restore = Preemption.__call__, Checkpoints.restore
def ask(self, step):
    if step >= wanted > 0:
        reached.set()
    return asked(self, step)
def restored(self, *arguments):
    if wanted == 0:
        reached.set()
    return restore(self, *arguments)
Preemption.__call__, Checkpoints.restore = ask, restored
threading.Thread(target=kill, daemon=True).start()
sys.exit(main(sys.argv[3:]))
"""


def moments():
    """Ten moments: once while it starts, once at the end, eight in order between."""
    rng = random.Random(20)
    steps = [0, *sorted(rng.sample(range(4, STEPS), 8)), STEPS]
    return [(step, rng.uniform(0, 0.1)) for step in steps]


def test_killed_ten_times_and_resumed_is_as_if_never_killed(tmp_path):
    command = ["train", *ARGUMENTS]
    whole = start("-m", "experiments", *command, f"--out={tmp_path / 'whole'}")
    _, complaint = whole.communicate()
    assert whole.returncode == 0, complaint
    expected = (tmp_path / "whole" / "metrics.jsonl").read_bytes()

    folder = tmp_path / "killed"
    command += [f"--out={folder}"]
    for step, delay in moments():
        process = start("-c", KILLED, str(step), str(delay), *command)
        _, complaint = process.communicate()
        assert process.returncode == -signal.SIGKILL, complaint
        if "--resume" not in command:
            command.append("--resume")
        metrics = folder / "metrics.jsonl"
        if metrics.exists():
            whole_lines = metrics.read_bytes().rpartition(b"\n")[0]
            assert expected.startswith(whole_lines)
        assert RunFolder.open(folder).results() == []

    resumed = start("-m", "experiments", *command)
    _, complaint = resumed.communicate()
    assert resumed.returncode == 0, complaint
    assert_same_run(folder, tmp_path / "whole")
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    assert not [name for name in names if not name.isdigit()]


def test_sigterm_from_outside(tmp_path):
    folder = tmp_path / "run"
    command = ["-m", "experiments", "train", *ARGUMENTS, "--epochs=2000"]
    process = start(*command, f"--out={folder}")
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None
        time.sleep(0.1)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert complaint.count("\n") == 1
    assert complaint.startswith("stopped by SIGTERM after step ")
    step = int(complaint.split()[5].rstrip(","))
    assert (folder / "checkpoints" / str(step)).is_dir()
