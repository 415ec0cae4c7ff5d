"""The switch from Adam to SGD: its criterion, the methods, the command's files."""

import contextlib
import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest

import optax_ia
from experiments import switchover, tune
from experiments.__main__ import main
from experiments.configs.p3.switchover import (
    PRESETS,
    PRINTED_TOL,
    RECORD,
    REPORTED,
    TUNING_RECORD,
    SwitchoverConfig,
)
from experiments.loops import image, traced
from experiments.run_folder import RunFolder
from experiments.switchover import _tables
from experiments.switchover._methods import SWATS, SWATS_PRINTED

TINY = SwitchoverConfig(
    model="vgg_tiny", epochs=3, batch_size=128, adam=0.003, swats=0.003, tol=0.05
)
EVERY = 7


def step(number, gamma, average, phase=0):
    return {"step": number, "gamma": gamma, "lambda_hat": average, "phase": phase}


@pytest.fixture(scope="module")
def data():
    return image.load(TINY.task)


@dataclasses.dataclass(frozen=True)
class Command:
    """A run of the command with the rates of TINY: its folder, text and traces."""

    folder: Path
    shown: str
    traces: list[traced.Trace]


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("switchover") / "run"
    arguments = [f"--{name}={getattr(TINY, name)}" for name in ("adam", "swats", "tol")]
    arguments += ["--preset=smoke", "--seeds", "0", "1", f"--out={folder}"]
    run, traces = traced.run, []

    def recorded(*arguments, **options):
        traces.append(run(*arguments, **options))
        return traces[-1]

    with pytest.MonkeyPatch.context() as patch, io.StringIO() as text:
        patch.setattr(traced, "run", recorded)
        with contextlib.redirect_stdout(text):
            assert main(["switchover", *arguments]) == 0
        return Command(folder, text.getvalue(), traces)


@pytest.fixture(scope="module")
def runs(command):
    """The traces of the first seed by method, both forms of SWATS at the same rate."""
    smoke = PRESETS["smoke"]
    config = dataclasses.replace(TINY, switches=smoke.switches)
    assert config.task == smoke.task
    names = [method.name for method in switchover.methods(config, EVERY)]
    assert len(command.traces) == 2 * len(names)
    return dict(zip(names, command.traces, strict=False))


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_first_switch_is_what_the_criterion_says():
    steps = [
        step(1, 0.5, 0.5),  # k > 1 is asked for
        step(2, -0.2, -0.2),  # a negative rate would climb
        step(3, None, 0.3),
        step(4, 0.4, 0.3),
        step(5, 0.304, 0.3),
    ]
    assert switchover.first_switch(steps, 0.01) == switchover.Switch(5, 0.3)
    assert switchover.first_switch(steps, 0.2) == switchover.Switch(4, 0.3)
    assert switchover.first_switch(steps, 1e-3) is None
    near = switchover.reach([steps], 0.2)
    assert (near.steps, near.within) == (2, 2)
    assert near.closest == pytest.approx(0.004, rel=1e-3)
    assert near.wait(1e-3) == pytest.approx(200)
    # the step that decides is asked, what follows it is SGD's
    after = [step(4, 0.304, 0.3, 1), step(5, 0.3, 0.3, 1)]
    decided = [*steps[:3], *after]
    assert switchover.first_switch(decided, 0.01) == switchover.Switch(4, 0.3)
    assert switchover.first_switch(decided, 1e-3) is None


def test_a_run_without_a_switch_answers_for_every_tolerance(runs):
    steps = runs[SWATS_PRINTED].steps
    assert not steps[-1]["phase"]
    final = runs[SWATS].steps[-1]
    assert final["phase"] == 1
    found = switchover.first_switch(steps, TINY.tol)
    assert found == switchover.Switch(final["switch_step"], final["sgd_learning_rate"])


def test_gamma_and_its_average_at_every_step(runs):
    steps = runs[SWATS_PRINTED].steps
    assert [row["step"] for row in steps] == list(range(1, 3 * EVERY + 1))
    assert steps[-1]["epoch"] == 3
    gamma = np.array([row["gamma"] for row in steps])
    average = 0.0
    for k, (value, row) in enumerate(zip(gamma, steps, strict=True), start=1):
        average = 0.999 * average + 0.001 * value
        corrected = average / (1 - 0.999**k)
        assert row["lambda_hat"] == pytest.approx(corrected, rel=1e-6)


def test_the_printed_tolerance_is_adam_to_the_end(runs):
    for ours, adams in zip(
        runs[SWATS_PRINTED].epochs, runs["adam"].epochs, strict=True
    ):
        # the epsilons differ, and nothing else
        assert ours["train_loss"] == pytest.approx(adams["train_loss"], rel=1e-3)


def test_a_trace_is_what_the_training_loop_does(data):
    rows = []
    # constant up to half of the run, in either schedule
    run = image.RunConfig(
        model="vgg_tiny", epochs=3, batch_size=128, optimizer="sgd", learning_rate=0.1
    )
    image.run(run, data, on_epoch=rows.append)
    tx = optax_ia.get_optimizer("sgd", learning_rate=0.1)
    trace = traced.run(TINY.task, tx, data, seed=0, on_epoch=lambda row: None)
    for name in ("train_loss", "train_accuracy", "validation_accuracy"):
        assert trace.epochs[0][name] == pytest.approx(rows[0][name], rel=1e-5)
    losses = [row["loss"] for row in trace.steps[:EVERY]]
    assert np.mean(losses) == pytest.approx(trace.epochs[0]["train_loss"], rel=1e-5)


def test_methods_are_those_of_the_figures():
    config = SwitchoverConfig()
    chosen = switchover.methods(config, 14)
    names = "sgd adam swats_printed swats sw@2 sw@8 sw@16 clip_above clip_below"
    assert [method.name for method in chosen] == names.split()
    tolerances = {method.name: method.tol for method in chosen if method.tol}
    assert tolerances == {SWATS_PRINTED: PRINTED_TOL, SWATS: config.tol}
    fixed = [dict(method.arguments) for method in chosen[4:7]]
    assert [arguments["switch_at"] for arguments in fixed] == [28, 112, 224]
    assert {arguments["sgd_learning_rate"] for arguments in fixed} == {config.sgd}
    assert dict(chosen[-1].arguments)["sgd_learning_rate"] == 10 * config.sgd


def test_command_writes_its_files_and_says_which_switched(command):
    folder, shown = command.folder, command.shown
    results = read(folder / "results.csv")
    assert len(results) == 7 * 2
    for row in results:
        assert row["commit"]
        assert json.loads(row["config"])["seed"] == int(row["seed"])
        assert json.loads(row["config"])["drops"] == list(PRESETS["smoke"].drops)
    printed = [row for row in results if row["method"] == SWATS_PRINTED]
    assert [row["switch_step"] for row in printed] == ["", ""]
    page = (folder / "report.html").read_text()
    for text in (shown, page):
        assert "With tol 1e-09, none of 2 runs ever switched" in text
    assert all(
        float(row["switch_step"]) > 0 for row in results if "sw@" in row["method"]
    )
    steps = read(folder / "steps.csv")
    assert len(steps) == 2 * 2 * 3 * EVERY
    assert len(RunFolder.open(folder).rows()) == 7 * 2 * 3
    for name in ("rate", "switches", "clip"):
        assert (folder / f"{name}.png").stat().st_size > 10_000
    assert page.count("data:image/png") == 3
    assert all(f"{line[0]}</td><td>{line[1]}" in page for line in REPORTED)
    assert "Lab note" in page


def test_tune_writes_a_record_that_the_best_rates_are_read_from(tmp_path, capsys):
    path = tmp_path / "grid.csv"
    assert main(["switchover", "--tune", "--preset=smoke", f"--out={path}"]) == 0
    assert "best first" in capsys.readouterr().out
    rows = tune.read_record(path)
    assert [row["optimizer"] for row in rows] == [
        "sgd",
        "adam",
        "swats",
        "clip_above",
        "clip_below",
    ]
    assert "test" not in path.read_text()
    assert main(["switchover", "--tune", f"--out={path}"]) == 2
    assert "exists" in capsys.readouterr().err


def test_the_rates_are_the_best_of_the_record():
    best = tune.best(tune.read_record(TUNING_RECORD))
    config = SwitchoverConfig()
    for name, rates in best.items():
        assert getattr(config, name) == rates.learning_rate
        assert config.weight_decay == rates.weight_decay


def test_the_kept_results_are_as_the_lab_note_says():
    rows = read(RECORD)
    config = SwitchoverConfig()
    methods = switchover.methods(config, 14)
    assert len(rows) == len(methods) * len(config.seeds)
    switched = {
        name: [
            float(r["switch_step"]) for r in rows if r["method"] == name and r["Lambda"]
        ]
        for name in (SWATS_PRINTED, SWATS)
    }
    assert switched[SWATS_PRINTED] == []
    assert len(switched[SWATS]) == len(config.seeds)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "1", "1"], ["--seeds must differ"]),
        (["--tol=0"], ["--tol", "above 0"]),
        (["--sgd=-1"], ["--sgd", "above 0"]),
        (["--switches", "0.4", "0.2"], ["--switches must increase between 0 and 1"]),
        (["--drops", "1.5"], ["--drops must increase between 0 and 1"]),
        (["--model=vgg17"], ["vgg17", "vgg_small"]),
    ],
)
def test_wrong_arguments_give_one_line(arguments, words, capsys):
    assert main(["switchover", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(word in error for word in words)


def test_tolerances_that_never_fire_say_so():
    rows = [
        {"method": SWATS_PRINTED, "seed": 0, **step(k, 0.1 + 0.01 * k, 0.1)}
        for k in range(1, 9)
    ]
    table = {row[0]: row[1:] for row in _tables.tolerances(rows, 4)}
    assert table["1e-09"] == ("0 of 1", "never", "–")
    assert table["0.1"] == ("1 of 1", "0.5", "0.1")
