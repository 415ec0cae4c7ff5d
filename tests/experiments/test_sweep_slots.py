"""Which GPU each run of a sweep sees, how many go on at once, what they share."""

from pathlib import Path

import pytest

from experiments.sweep import _slots
from tests.experiments.sweep_stand import make_stand


@pytest.fixture
def stand(tmp_path, monkeypatch):
    return make_stand(tmp_path, monkeypatch)


def test_one_run_on_each_device(stand, monkeypatch):
    stand.behave({"": "sleep 0.1"})
    assert stand.run("--devices=3,GPU-5f") == 0
    calls = stand.calls()
    assert {call["CUDA_VISIBLE_DEVICES"] for call in calls} == {"3", "GPU-5f"}
    for gpu in ("3", "GPU-5f"):
        own = [call for call in calls if call["CUDA_VISIBLE_DEVICES"] == gpu]
        own.sort(key=lambda call: call["began"])
        assert len(own) >= 2
        for before, after in zip(own, own[1:], strict=False):
            assert before["ended"] < after["began"]
    first, second = sorted(calls, key=lambda call: call["began"])[:2]
    assert second["began"] < first["ended"]  # side by side


def test_what_runs_on_the_cpu_have_in_their_environment(stand, monkeypatch, capsys):
    monkeypatch.setattr(_slots, "visible_gpus", lambda: [])
    monkeypatch.setenv("PJRT_NPROC", "1")
    stand.behave({"": "sleep 0.1"})
    stand.configure('optimizers = ["sgd"]\nseeds = [0, 1, 2]\n')
    assert stand.run("--workers=2") == 0
    calls = stand.calls()
    assert {call["CUDA_VISIBLE_DEVICES"] for call in calls} == {None}
    assert {call["PJRT_NPROC"] for call in calls} == {"1"}
    # Runs one after another share what they compiled, runs side by side do not.
    calls.sort(key=lambda call: call["began"])
    folders = [Path(call["JAX_COMPILATION_CACHE_DIR"]) for call in calls]
    assert folders[0] != folders[1]
    assert folders[2] in folders[:2]
    assert {folder.parent for folder in folders} == {stand.out / ".compiled"}
    assert not (stand.out / ".compiled").exists()  # no longer than the sweep


def test_a_folder_of_compiled_programs_that_is_given_is_used(
    stand, monkeypatch, tmp_path
):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
    stand.configure('optimizers = ["sgd"]\nseeds = [0]\n')
    assert stand.run() == 0
    (call,) = stand.calls()
    assert call["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "mine")
    assert (tmp_path / "mine").exists()


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


def test_a_run_on_several_devices_needs_several(stand, capsys):
    stand.configure(
        'optimizers = ["sgd"]\nseeds = [0]\n[fixed]\nshard = "full"\n'
        "[grid]\ndevices = [1, 2]\n"
    )
    assert stand.run("--devices=0,1", "--dry-run") == 2
    assert capsys.readouterr().err == (
        f"error: {stand.config}: sgd, devices=2, seed 0: devices must be 1 where each "
        "run has one GPU, got 2; without --workers and --devices one run at a time has "
        "all\n"
    )
    assert stand.run("--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "--shard=full --devices=2 --out=" in lines[1]
