"""The command line: a small comparison, interrupted and resumed, and its errors."""

import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.__main__ import COMMANDS, main
from experiments.configs.p0.digits import PRESETS, RECORD
from experiments.configs.p2 import second_order
from experiments.loops import TASKS, image
from experiments.optimizers import list_affordable
from experiments.tasks import image as compare
from experiments.tasks import running
from tests.experiments.compilations import counted

TINY = ["--model=vgg_tiny", "--epochs=2", "--batch-size=128", "--average-from=0.5"]
PAIR = [*TINY, "--optimizers", "sgd", "swa", "--seeds", "0", "1"]

# Test accuracy in percent and its deviation, as the note of p2/second_order has them.
README_TABLE = {
    "sgd": (98.27, 0.40),
    "swa": (98.44, 0.52),
    "adamw": (99.02, 0.37),
    "padamw": (98.67, 0.42),
    "gadam": (98.76, 0.34),
    "gadamx": (98.49, 0.46),
}
"""Test accuracies of the last iterates in percent, mean and deviation over seeds."""

SECOND_ORDER = {
    "sgd": (98.27, 0.40),
    "adam": (98.67, 0.16),
    "ranger": (99.16, 0.24),
    "kfac": (98.58, 0.34),
    "shampoo": (98.89, 0.22),
}


def results(folder):
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_default_is_the_papers_six_with_several_seeds():
    runs = compare.plan(compare.resolve(PRESETS["small"]))
    names = [run.optimizer for run in runs[:6]]
    assert names == ["sgd", "swa", "adamw", "padamw", "gadam", "gadamx"]
    assert len(PRESETS["small"].seeds) >= 3
    assert len(runs) == 6 * len(PRESETS["small"].seeds)
    assert len({run.seed for run in runs[:6]}) == 1  # seed by seed


def test_the_kept_results_are_of_the_default_and_as_the_lab_note_says():
    with open(RECORD, newline="") as file:
        rows = list(csv.DictReader(file))
    runs = compare.plan(compare.resolve(PRESETS["small"]))
    assert [row["config"] for row in rows] == [run.to_json() for run in runs]
    for name in PRESETS["small"].optimizers:
        own = [row for row in rows if row["optimizer"] == name]
        found = [100 * float(row["test_accuracy"]) for row in own]
        accuracy, deviation = README_TABLE[name]
        assert statistics.mean(found) == pytest.approx(accuracy, abs=0.006)
        assert statistics.stdev(found) == pytest.approx(deviation, abs=0.006)
        assert 98.2 <= accuracy <= 99.1  # the lab note's range
        averages = name in ("swa", "gadam", "gadamx")
        assert all(bool(row["average_test_accuracy"]) == averages for row in own)


def test_the_kept_second_order_results_are_of_the_preset_and_as_the_note_says():
    with open(second_order.RECORD, newline="") as file:
        rows = list(csv.DictReader(file))
    runs = compare.plan(compare.resolve(PRESETS["second_order"]))
    assert [row["config"] for row in rows] == [run.to_json() for run in runs]
    assert {run.optimizer: run.damping for run in runs}["kfac"] == 0.1
    for name, (accuracy, deviation) in SECOND_ORDER.items():
        own = [row for row in rows if row["optimizer"] == name]
        found = [100 * float(row["test_accuracy"]) for row in own]
        assert statistics.mean(found) == pytest.approx(accuracy, abs=0.006)
        assert statistics.stdev(found) == pytest.approx(deviation, abs=0.006)


def test_interrupted_and_resumed_is_as_in_one_go(tmp_path, monkeypatch, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    show = compare._show
    monkeypatch.setattr(compare, "_show", lambda *_: None)  # figures take long
    assert main(["compare", *PAIR, f"--out={whole}"]) == 0
    monkeypatch.setattr(compare, "_show", show)

    run, calls = image.run, []

    def interrupted_in_the_third(config, data, *, on_epoch, **arguments):
        calls.append(config)
        if len(calls) == 3:

            def on_epoch_then_ctrl_c(row):
                on_epoch(row)
                raise KeyboardInterrupt

            return run(config, data, on_epoch=on_epoch_then_ctrl_c, **arguments)
        return run(config, data, on_epoch=on_epoch, **arguments)

    monkeypatch.setattr(image, "run", interrupted_in_the_third)
    capsys.readouterr()
    assert main(["compare", *PAIR, f"--out={parts}"]) == 130
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("interrupted; go on with: python -m experiments")
    assert shown.err.endswith(f"--out={parts} --resume\n")
    assert "Partial: 2 of 4 runs" in (parts / "report.html").read_text()
    assert len(results(parts)) == 2

    monkeypatch.setattr(image, "run", run)
    with counted() as compiled:
        assert main(["compare", *PAIR, f"--out={parts}", "--resume"]) == 0
    assert "Partial" not in (parts / "report.html").read_text()
    for name in ("metrics.jsonl",):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    # One program per optimiser serves all seeds and both commands.
    assert compiled.programs == 0

    rows = results(parts)
    assert [(row["optimizer"], row["seed"]) for row in rows] == [
        ("sgd", "0"),
        ("swa", "0"),
        ("sgd", "1"),
        ("swa", "1"),
    ]
    for row, other in zip(rows, results(whole), strict=True):
        assert row["test_accuracy"] == other["test_accuracy"]
        assert json.loads(row["config"])["optimizer"] == row["optimizer"]
        assert json.loads(row["versions"])["jax"]
        assert row["commit"]
    assert rows[0]["average_test_accuracy"] == ""
    assert 0 < float(rows[1]["average_test_accuracy"]) <= 1

    # Everything is done: resuming once more trains nothing and changes no result.
    monkeypatch.setattr(image, "run", None)
    monkeypatch.setattr(compare, "_show", lambda *_: None)
    assert main(["compare", *PAIR, f"--out={parts}", "--resume"]) == 0
    assert results(parts) == rows


def test_all_are_named_in_the_folder():
    config = compare.CompareConfig(optimizers=("all",))
    assert compare.resolve(config).optimizers == tuple(list_affordable())


def test_presets_give_way_to_arguments(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        running,
        "do_missing",
        lambda runs, *_: seen.extend(run.args[0] for *_, run in runs),
    )
    arguments = ["--preset=smoke", "--epochs=3", "--seeds=9", "--sgd.learning-rate=0.7"]
    assert main(["compare", *arguments, f"--out={tmp_path / 'run'}"]) == 0
    assert [(run.optimizer, run.seed) for run in seen] == [("sgd", 9), ("gadamx", 9)]
    assert seen[0].model == "vgg_tiny"
    assert seen[0].epochs == 3
    assert seen[0].learning_rate == 0.7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "--optimizers", "adamm"], ["adamm", "gadamx", "swa", "all"]),
        (["compare", "--optimizers"], ["--optimizers"]),
        (["compare", "--epochs=-1"], ["--epochs must be at least 1, got -1"]),
        (["compare", "--epochs=many"], ["--epochs", "many"]),
        (["compare", "--epoch=3"], ["--epoch"]),
        (["compare", "--preset=huge"], ["--preset", "small", "smoke"]),
        (["compare", "--sgd.learning-rate=0"], ["--sgd.learning-rate", "above 0"]),
        (["compare", "--dataset=letters"], ["letters", "choose one of: digits"]),
        (["compare", "--model=vgg17"], ["vgg17", "vgg_small, vgg_tiny"]),
        (["compare", "--seeds", "1", "1"], ["--seeds must differ"]),
        (["compare", "--out=/dev/null/runs"], ["cannot write to /dev/null/runs"]),
        (["train", "--optimizer=adamm"], ["adamm", "gadamx"]),
        (["train", "--learning-rate=-1"], ["--learning-rate must be above 0"]),
        (["train", "--weight-decay=-1"], ["--weight-decay must be 0 or more"]),
        (["train", "--checkpoint-every=0"], ["--checkpoint-every must be at least 1"]),
        (["train", "--seed=-1"], ["--seeds must be 0 or more"]),
        (["train", "--task=audio"], ["unknown task 'audio'", "image"]),
        (["compare", "--task"], ["--task needs a name", "image"]),
        (["trian"], ["trian", *COMMANDS]),
    ],
)
def test_wrong_arguments_give_one_line(arguments, words, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error


def test_help_lists_commands(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    for command in ("compare", "train", "tune", "report"):
        with pytest.raises(SystemExit) as leaving:
            main([command, "--help"])
        assert not leaving.value.code
        assert f"python -m experiments {command}" in capsys.readouterr().out


def test_the_default_task_may_be_named_and_help_without_one_names_them(capsys):
    for command in ("compare", "train"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        plain = capsys.readouterr().out
        first, _, rest = plain.partition("\n\n")
        assert "image (the default, below)" in first
        assert all(task in first for task in TASKS)
        for words in (["--task", "image"], ["--task=image"]):
            with pytest.raises(SystemExit):
                main([command, *words, "--help"])
            assert capsys.readouterr().out == rest


def test_a_missing_package_names_the_extra(monkeypatch, capsys):
    def missing(name):
        raise ModuleNotFoundError("No module named 'tyro'", name="tyro")

    monkeypatch.setattr("importlib.import_module", missing)
    assert main(["compare"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "error: tyro is not installed: pip install 'optax-ia[experiments]'\n"
    )


def _interrupted(process):
    """Output and errors of a process after Ctrl-C.

    Python drops an interrupt that falls into a callback or a destructor: then it is
    pressed again, as at a keyboard.
    """
    for _ in range(10):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    raise AssertionError(process.communicate()[1])


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_leaves_a_report(tmp_path):
    folder = tmp_path / "run"
    command = ["compare", "--model=vgg_tiny", "--epochs=2000", f"--out={folder}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", *command],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    out, error = _interrupted(process)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith("interrupted; go on with: python -m")
    assert "Partial: 0 of 30 runs" in out
    assert "Partial: 0 of 30 runs" in (folder / "report.html").read_text()
