"""``train`` interrupted, killed or moved to other devices ends as if it never was."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.checkpoints import Checkpoints
from experiments.data._pipeline import Batches
from experiments.loops import TASKS, image
from experiments.loops.engine import Preempted, Training, fit
from experiments.parallel import in_place, place_over
from experiments.run_folder import RunFolder
from optax_ia.flax import TrainState
from tests.experiments import tiny
from tests.experiments.trained import last_checkpoint, start

ARGUMENTS = [
    "--optimizer=gadamx",
    "--model=vgg_tiny",
    "--dataset=digits",
    "--epochs=4",
    "--batch-size=64",  # 14 steps an epoch, averaging from epoch 3 on
    "--checkpoint-every=5",
]

# Kills itself as the kernel would, once the checkpoint of step 8, which is in the
# middle of the third epoch, is whole; steps, rows and saves after it are lost.
KILLED = """
import os, signal, sys
from experiments import checkpoints
from experiments.__main__ import main
from experiments.loops import TASKS
TASKS["tiny"] = "tests.experiments.tiny"
due = checkpoints.Checkpoints.due
def killed(self, step):
    if step == 9:
        self._manager.wait_until_finished()
        assert self.latest == 8
        os.kill(os.getpid(), signal.SIGKILL)
    return due(self, step)
checkpoints.Checkpoints.due = killed
main(sys.argv[1:])
"""


def test_killed_in_mid_epoch_and_resumed_is_as_if_never_killed(tmp_path, monkeypatch):
    """Another process is killed; the same with a network, ten times, is slow."""
    monkeypatch.setitem(TASKS, "tiny", "tests.experiments.tiny")
    monkeypatch.setattr(tiny, "AFTER_STEP", [])
    monkeypatch.setenv("JAX_ENABLE_X64", "1")  # as here
    arguments = ["train", "--task=tiny"]
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    process = start("-c", KILLED, *arguments, f"--out={folder}")
    assert main([*arguments, f"--out={whole}"]) == 0
    _, complaint = process.communicate()
    assert process.returncode == -signal.SIGKILL, complaint
    metrics = folder / "metrics.jsonl"
    assert len(metrics.read_text().splitlines()) == 2  # of four epochs
    with open(metrics, "a") as file:
        file.write('{"optimizer": "gadam", "se')  # torn by the kill

    began = []
    tiny.AFTER_STEP.append(began.append)
    assert main([*arguments, f"--out={folder}", "--resume"]) == 0
    assert began[0] == 9
    assert metrics.read_bytes() == (whole / "metrics.jsonl").read_bytes()
    step, found = last_checkpoint(folder)
    same_step, expected = last_checkpoint(whole)
    assert step == same_step == 14
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)
    assert len(RunFolder.open(folder).results()) == 1


class Wide(tiny.Line):
    """A line through so many coordinates that devices share them out."""

    def __init__(self, devices, shard):
        super().__init__()
        self.placement = place_over(devices, shard)

    def init(self):
        params = {"weights": jnp.zeros(1024, jnp.float32)}
        tx = tiny.TX if self.placement is None else in_place(tiny.TX, self.placement)
        stats = {"seen": jnp.zeros((), jnp.float32)}
        state = TrainState.create(
            apply_fn=tiny.apply_fn, params=params, tx=tx, batch_stats=stats
        )
        names = ("loss", "gradient_norm", "update_norm")
        totals = {name: jnp.zeros((), jnp.float32) for name in names}
        training = Training(state, {"count": jnp.zeros(())}, totals)
        return training if self.placement is None else self.placement.place(training)

    def batches(self):
        put = None if self.placement is None else self.placement.whole
        return Batches(wide_points, 14, threads=0, prefetch=0, put=put)

    def begin_epoch(self, training, epoch):
        return training

    def end_epoch(self, training, means, epoch, step):
        return training, {"step": step, "distance": means["loss"]}


def wide_points(step):
    inputs = np.random.default_rng(step).normal(size=(8, 1024)).astype(np.float32)
    return inputs, inputs[:, 0]


def test_left_and_gone_on_with_on_other_devices(tmp_path):
    """Numbers are those of one device, up to the order of sums."""
    rows, expected = [], []
    whole, _ = fit(Wide(1, "full"), on_epoch=expected.append)

    def gone_on(devices, shard, leave_at=None):
        with Checkpoints(tmp_path, every=5) as checkpoints:
            return fit(
                Wide(devices, shard),
                on_epoch=rows.append,
                checkpoints=checkpoints,
                preempted=lambda step: step == leave_at,
            )

    for devices, shard, leave_at in [
        (8, "full", 4),
        (1, "full", 7),
        (4, "replicated", 11),
    ]:
        with pytest.raises(Preempted, match=f"step {leave_at}"):
            gone_on(devices, shard, leave_at)
    training, found = gone_on(8, "full")
    assert found.first_step == 11
    assert [row["step"] for row in rows] == [3, 7, 10, 14]
    for row, same in zip(rows, expected, strict=True):
        assert row["distance"] == pytest.approx(same["distance"], rel=1e-4)
    leaves = zip(jax.tree.leaves(training), jax.tree.leaves(whole), strict=True)
    for leaf, same in leaves:
        np.testing.assert_allclose(leaf, same, rtol=1e-4, atol=1e-6)
    weights = training.state.params["weights"]
    assert [shard.data.shape for shard in weights.addressable_shards] == [(128,)] * 8
    assert float(jnp.abs(weights).max()) > 0.01  # it has learned something


def test_replicas_keep_their_number_on_other_devices(tmp_path, monkeypatch, capsys):
    """Their number is in the record, where it came from the devices too."""
    ran = []

    def run(config, *_, **__):
        ran.append(config.replicas)
        raise KeyboardInterrupt

    monkeypatch.setattr(image, "run", run)
    out = tmp_path / "run"
    arguments = ["train", *ARGUMENTS, "--batch-stats=replica", f"--out={out}"]
    assert main([*arguments, "--devices=8"]) == 130
    assert RunFolder.open(out).config["replicas"] == 8
    capsys.readouterr()
    assert main([*arguments, "--devices=4", "--resume"]) == 2
    assert "was made with replicas = 8, not 4" in capsys.readouterr().err
    assert main([*arguments, "--devices=4", "--resume", "--replicas=8"]) == 130
    assert ran == [8, 8]


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
