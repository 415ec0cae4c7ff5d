"""``train`` interrupted or killed goes on to the same bits."""

import signal

import pytest

from experiments.__main__ import main
from experiments.loops import image
from experiments.run_folder import RunFolder
from tests.experiments.trained import assert_same_run, last_checkpoint, start

ARGUMENTS = [
    "--optimizer=gadamx",
    "--model=vgg_tiny",
    "--dataset=digits",
    "--epochs=4",
    "--batch-size=64",  # 14 steps an epoch, averaging from epoch 3 on
    "--checkpoint-every=5",
]

# Kills itself as the kernel would, once the checkpoint of step 30, which is in the
# middle of the third epoch, is whole; steps, rows and saves after it are lost.
KILLED = """
import os, signal, sys
from experiments import checkpoints
from experiments.__main__ import main
due = checkpoints.Checkpoints.due
def killed(self, step):
    if step == 33:
        self._manager.wait_until_finished()
        assert self.latest == 30
        os.kill(os.getpid(), signal.SIGKILL)
    return due(self, step)
checkpoints.Checkpoints.due = killed
main(sys.argv[1:])
"""


def train(folder, *more):
    return start("-m", "experiments", "train", *ARGUMENTS, f"--out={folder}", *more)


@pytest.mark.filterwarnings("ignore:.*sharding.*:UserWarning")
def test_killed_in_mid_epoch_and_resumed_is_as_if_never_killed(tmp_path):
    whole = train(tmp_path / "whole")
    killed = start("-c", KILLED, "train", *ARGUMENTS, f"--out={tmp_path / 'killed'}")
    _, complaint = whole.communicate()
    assert whole.returncode == 0, complaint
    _, complaint = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, complaint
    metrics = tmp_path / "killed" / "metrics.jsonl"
    assert len(metrics.read_text().splitlines()) == 2  # two of four epochs
    with open(metrics, "a") as file:
        file.write('{"optimizer": "gadamx", "se')  # torn by the kill

    resumed = train(tmp_path / "killed", "--resume")
    _, complaint = resumed.communicate()
    assert resumed.returncode == 0, complaint
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    step, _ = last_checkpoint(tmp_path / "killed")
    assert step == 56
    results = (tmp_path / "killed" / "results.csv").read_text().splitlines()
    assert len(results) == 2
    assert ",30," in results[1]  # resumed_from_step


@pytest.mark.slow
def test_interrupted_and_resumed(tmp_path, monkeypatch, capsys):
    arguments = ["train", *ARGUMENTS, "--optimizer=swa", f"--out={tmp_path / 'run'}"]
    log = RunFolder.log

    def log_twice(folder, row):
        log(folder, row)
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "log", log_twice)
    assert main(arguments) == 130
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("interrupted; go on with: python -m experiments train")
    assert "Partial: 0 of 1 runs" in shown.out

    monkeypatch.setattr(RunFolder, "log", log)
    assert main(arguments) == 2  # not without --resume
    assert main([*arguments, "--resume"]) == 0
    folder = RunFolder.open(tmp_path / "run")
    assert [row["epoch"] for row in folder.rows()] == [1, 2, 3, 4]
    (result,) = folder.results()
    assert result["resumed_from_step"] == 25  # the last checkpoint before step 28
    assert result["num_averaged"] == 2

    # Finished: resuming trains nothing, but tells the result again.
    monkeypatch.setattr(image, "run", None)
    capsys.readouterr()
    assert main([*arguments, "--resume"]) == 0
    assert "swa" in capsys.readouterr().out
    assert folder.results() == [result]
