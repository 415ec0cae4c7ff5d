"""The folder of a sweep: going on with it, one sweep at a time, what is left there."""

import os

import pytest

from experiments import sweep
from experiments.sweep import _slots, _workers
from experiments.sweep._config import read
from experiments.sweep._folder import SweepFolder
from experiments.sweep._plan import plan
from tests.experiments.sweep_stand import make_stand


@pytest.fixture
def stand(tmp_path, monkeypatch):
    return make_stand(tmp_path, monkeypatch)


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
    line, over = capsys.readouterr().out.splitlines()
    assert "--seed=1 --learning-rate=0.1" in line
    assert line.endswith(" --resume")
    assert over == "# over: 7 of 8 runs"


def test_a_sweep_may_grow(stand, capsys):
    stand.configure(
        'optimizers = ["sgd"]\nseeds = [0, 1]\n[fixed]\nlearning_rate = 0.1\n'
    )
    assert stand.run() == 0
    first = stand.calls()
    stand.configure(
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
    stand.configure('optimizers = ["sgd"]\nseeds = [0]\n')
    config = read(stand.config)
    folder = SweepFolder.of(config, stand.out)
    (run,) = plan(config)
    stand.behave({"": "hang"})
    with folder.opened(config, resume=False):
        assert stand.run("--resume") == 2
        error = capsys.readouterr().err
        assert f"in use by another sweep (process {os.getpid()})" in error
        job = sweep.make_job(run, folder)
        place = _slots.keep_compiled(folder.compiled(0))
        left = _workers._start(job, place, folder.lock).process
    stand.wait_for_hanging()
    assert stand.run("--resume") == 2  # that sweep is gone, its run is alive
    assert "or by a run that it left behind" in capsys.readouterr().err
    left.kill()
    left.wait()
    stand.behave({})
    assert stand.run("--resume") == 0


def test_what_cannot_be_written_or_read_is_one_line(stand, capsys):
    stand.configure('optimizers = ["sgd"]\nseeds = [0]\n')
    stand.behave({"": "fail"})
    assert stand.run() == 1
    run = stand.rows()[0]["run"]
    stand.calls()
    log = stand.out / "logs" / f"{run}.log"
    log.unlink()
    log.mkdir()
    capsys.readouterr()
    assert stand.run("--resume") == 2
    then = "what was written before is unharmed: go on with --resume\n"
    assert capsys.readouterr().err == f"error: {log}: Is a directory; {then}"
    assert stand.calls() == []

    log.rmdir()
    (stand.out / "table.md").unlink()
    (stand.out / "table.md").mkdir()
    assert stand.run("--resume") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: cannot write {stand.out}/table.md (")
    assert error.endswith(then)

    for name in (f"{run}/results.csv", "sweep.csv"):
        (stand.out / name).write_text("a,b\n1")
        assert stand.run("--resume") == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {stand.out}/{name} is damaged")
        assert error.count("\n") == 1
        (stand.out / name).unlink()


def test_what_a_killed_start_left_is_cleared_and_nothing_else(stand, capsys):
    stand.configure('optimizers = ["sgd", "gadam"]\nseeds = [0]\n')
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
