"""What ``train`` does around a run of any task: signals, NaN, event files, progress."""

import contextlib
import os
import signal
import struct
import sys

import pytest
from tensorboardX.proto.event_pb2 import Event

from experiments.__main__ import main
from experiments.loops import TASKS
from experiments.run_folder import RunFolder
from tests.experiments import tiny


@pytest.fixture(autouse=True)
def task(monkeypatch):
    monkeypatch.setitem(TASKS, "tiny", "tests.experiments.tiny")
    monkeypatch.setattr(tiny, "AFTER_STEP", [])


def train(folder, *arguments):
    return main(["train", "--task=tiny", f"--out={folder}", *arguments])


def metrics(folder):
    return (folder / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "tiny", "tests.experiments.tiny")
        assert train(folder) == 0
    return folder


@pytest.mark.parametrize("step", [5, 7, 14])  # inside an epoch, at its end, the last
def test_sigterm_saves_says_how_to_go_on_and_leaves_with_0(
    tmp_path, capsys, whole, step
):
    def terminate(done):
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    tiny.AFTER_STEP.append(terminate)
    folder = tmp_path / "run"
    assert train(folder) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    shown = capsys.readouterr()
    command = f"python -m experiments train --task tiny --out={folder} --resume"
    assert shown.err == (
        f"stopped by SIGTERM after step {step}, all of it saved; go on with: "
        f"{command}\n"
    )
    assert "shown" not in shown.out  # no time for a report
    assert RunFolder.open(folder).results() == []

    tiny.AFTER_STEP.clear()
    assert main(command.split()[3:]) == 0
    assert metrics(folder) == metrics(whole)
    assert RunFolder.open(folder).results()[0]["steps"] == 14


def test_a_signal_while_saving_is_ignored(tmp_path, capsys, monkeypatch, whole):
    from experiments.checkpoints import Checkpoints

    save = Checkpoints.save_last

    def terminated(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        save(self, *arguments)

    tiny.AFTER_STEP.append(
        lambda done: done == 5 and os.kill(os.getpid(), signal.SIGTERM)
    )
    monkeypatch.setattr(Checkpoints, "save_last", terminated)
    folder = tmp_path / "run"
    assert train(folder) == 0
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.undo()
    monkeypatch.setitem(TASKS, "tiny", "tests.experiments.tiny")
    tiny.AFTER_STEP.clear()
    assert train(folder, "--resume") == 0
    assert metrics(folder) == metrics(whole)


def test_ctrl_c_keeps_its_status_and_its_report(tmp_path, capsys, whole):
    tiny.AFTER_STEP.append(
        lambda done: done == 6 and os.kill(os.getpid(), signal.SIGINT)
    )
    folder = tmp_path / "run"
    assert train(folder) == 130
    shown = capsys.readouterr()
    assert shown.err.startswith("interrupted; go on with: python -m experiments train")
    assert "shown" in shown.out
    tiny.AFTER_STEP.clear()
    assert train(folder, "--resume") == 0
    assert metrics(folder) == metrics(whole)


def test_a_damaged_checkpoint_costs_its_rows_too(tmp_path, capfd, whole):
    tiny.AFTER_STEP.append(
        lambda done: done == 10 and os.kill(os.getpid(), signal.SIGTERM)
    )
    folder = tmp_path / "run"
    assert train(folder) == 0
    assert [row["step"] for row in RunFolder.open(folder).rows()] == [3, 7, 10]
    for file in (folder / "checkpoints" / "10").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    tiny.AFTER_STEP.clear()
    capfd.readouterr()
    assert train(folder, "--resume") == 0
    error = capfd.readouterr().err
    assert error.startswith(f"warning: the checkpoint of step 10 in {folder}/check")
    assert error.endswith("going on from step 8\n")
    assert metrics(folder) == metrics(whole)


def test_a_loss_that_is_not_finite_ends_with_one_line(tmp_path, capsys):
    folder = tmp_path / "run"
    assert train(folder, "--spoilt", "9") == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("error: the loss is not finite at step 9, in epoch 3; ")
    assert shown.err.endswith(f"look at the checkpoint {folder}/checkpoints/8\n")
    assert [row["epoch"] for row in RunFolder.open(folder).rows()] == [1, 2]


def test_updates_that_are_not_finite_can_be_skipped(tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ("--spoilt", "9", "10", "--on-nan=skip")
    tiny.AFTER_STEP.append(
        lambda done: done == 9 and os.kill(os.getpid(), signal.SIGTERM)
    )
    assert train(folder, *arguments) == 0
    tiny.AFTER_STEP.clear()
    assert train(folder, *arguments, "--resume") == 0
    assert "2 updates were skipped" in capsys.readouterr().err
    assert [row["skipped"] for row in RunFolder.open(folder).rows()] == [0, 0, 2, 0]


def test_a_full_disk_ends_with_one_line_and_the_run_goes_on_later(
    small_disk, capfd, whole
):
    folder, ballast = small_disk / "run", small_disk / "ballast"

    def fill(done):
        if done == 8:
            with contextlib.suppress(OSError), open(ballast, "wb", 0) as file:
                while True:
                    file.write(bytes(512))

    tiny.AFTER_STEP.append(fill)
    assert train(folder) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    assert "no space left on device" in error
    assert "go on with --resume" in error
    ballast.unlink()
    tiny.AFTER_STEP.clear()
    assert train(folder, "--resume") == 0
    assert metrics(folder) == metrics(whole)


def test_a_disk_that_is_full_from_the_start(small_disk, capfd):
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(bytes(3 * 2**20))
    assert train(small_disk / "run") == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1, error
    assert "no space left on device" in error


def scalars(folder):
    """(name, step) to value, of all event files; each record as its format has it."""
    found = {}
    for file in (folder / "tensorboard").iterdir():
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                assert (value.tag, event.step) not in found
                found[value.tag, event.step] = value.simple_value
    return found


def test_event_files_show_what_the_rows_show_after_a_resumption_too(tmp_path):
    folder = tmp_path / "run"
    tiny.AFTER_STEP.append(
        lambda done: done == 12 and os.kill(os.getpid(), signal.SIGTERM)
    )
    assert train(folder, "--tensorboard") == 0
    assert {step for _, step in scalars(folder)} == {3, 7, 10}
    tiny.AFTER_STEP.clear()
    assert train(folder, "--tensorboard", "--resume") == 0
    found = scalars(folder)
    rows = RunFolder.open(folder).rows()
    assert len(rows) == 4
    names = ("train_loss", "gradient_norm", "parameter_norm", "update_norm", "epoch")
    for row in rows:
        for name in (*names, "num_averaged", "learning_rate"):
            assert found[name, row["step"]] == pytest.approx(row[name], rel=1e-6)
    assert {step for _, step in found} == {3, 7, 10, 14}


def test_without_the_extra_it_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert train(tmp_path / "run", "--tensorboard") == 2
    error = capsys.readouterr().err
    message = "tensorboardX is not installed: pip install 'optax-ia[tensorboard]'"
    assert error == f"error: {message}\n"
