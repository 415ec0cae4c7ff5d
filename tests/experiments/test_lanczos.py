"""LanczosOPT on images: runs against NumPy, heat maps, report, command, record."""

import csv
import dataclasses
import html
import json
from typing import Any

import jax
import numpy as np
import pytest

from experiments import lanczos as study
from experiments.__main__ import main
from experiments.configs.p1.lanczos import RECORD, LanczosConfig
from experiments.lanczos import _report, _tables
from experiments.lanczos._runs import COLUMNS, Run
from tests.experiments.prepared import prepare

SMALL = LanczosConfig(
    dampings=(1e-2, 1.0), sharp_scales=(1.0, 3.0), num_steps=5, updates=4
)


@pytest.fixture(scope="module")
def task():
    return study.load()


@pytest.fixture(scope="module")
def little(task):
    """The task with eight features, so 80 parameters."""

    def part(problem):
        return dataclasses.replace(problem, features=problem.features[:, -8:])

    return study.Task(part(task.train), part(task.test))


def loss_and_gradient(problem, weights):
    """In NumPy, and with them the chances of the classes."""
    x, labels = problem.features, problem.labels
    scores = x @ weights
    scores = scores - scores.max(axis=1, keepdims=True)
    chances = np.exp(scores)
    chances /= chances.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -np.log(chances[rows, labels]).mean()
    gradient = x.T @ (chances - np.eye(problem.num_classes)[labels]) / len(labels)
    return loss, gradient, chances


def derivatives(problem, weights):
    """Loss, gradient and dense Hessian in NumPy."""
    loss, gradient, chances = loss_and_gradient(problem, weights)
    x, classes = problem.features, np.eye(problem.num_classes)
    curved = chances[:, :, None] * (classes - chances[:, None, :])
    hessian = np.einsum("na,nij,nb->aibj", x, curved, x, optimize=True) / len(x)
    return loss, gradient.ravel(), hessian.reshape(weights.size, -1)


def made(damping, scale, train, test, *, diverged=False, ratio=2.0):
    """A run with these errors at the end."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"method": "gd", "train_error": train, "test_error": test}
    row |= {"curvature_ratio": ratio, "damping": damping, "sharp_scale": scale}
    if damping is not None:
        row["method"] = "lanczos"
    loss = np.array([1.0, np.nan if diverged else 0.5])
    errors = {
        "train_error": np.array([0.9, train]),
        "test_error": np.array([0.9, test]),
    }
    return Run(row, {"train_loss": loss, "test_loss": loss, **errors})


@pytest.fixture
def runs():
    """Of the configuration SMALL."""
    return [
        made(None, None, 0.05, 0.08),
        made(1e-2, 1.0, 0.00, 0.07),
        made(1e-2, 3.0, 0.01, 0.10),
        made(1.0, 1.0, 0.04, 0.06),
        made(1.0, 3.0, 0.9, 0.9, diverged=True),
    ]


def test_the_task_is_that_of_the_paper_on_digits(task):
    assert task.train.features.shape == (897, 65)
    assert task.test.features.shape == (900, 65)
    assert task.train.l2 == 0.0
    both = np.concatenate([task.train.features, task.test.features])
    assert len(np.unique(both, axis=0)) == 1797


def test_training_images_are_drawn_by_the_seed(task):
    def rows(problem):
        return set(map(tuple, problem.features))

    few = study.load(examples=50, seed=3)
    assert few.train.features.shape == (50, 65)
    assert rows(few.train) < rows(task.train)
    np.testing.assert_array_equal(few.test.features, task.test.features)
    more = study.load(examples=60, seed=3)  # the first of them are the same
    np.testing.assert_array_equal(more.train.features[:50], few.train.features)
    np.testing.assert_array_equal(more.train.labels[:50], few.train.labels)
    assert rows(study.load(examples=50, seed=4).train) != rows(few.train)


@pytest.mark.parametrize(("damping", "scale"), [(0.1, 1.0), (0.02, 3.0)])
def test_with_all_products_an_update_is_damped_newton(damping, scale, little):
    config = LanczosConfig(learning_rate=0.1, num_steps=80, updates=3)
    found = study.runner(config, little)(damping, scale)
    weights, losses = little.train.start, []
    for update in range(4):
        loss, gradient, hessian = derivatives(little.train, weights)
        losses.append(loss)
        if not update:
            largest = np.linalg.eigvalsh(hessian)[-1]
        divided = np.linalg.solve(scale * hessian + damping * np.eye(80), gradient)
        weights = weights - 0.1 * divided.reshape(weights.shape)
    np.testing.assert_allclose(found.curves["train_loss"], losses, rtol=1e-9)
    assert found.row["largest_eigenvalue"] == pytest.approx(largest, rel=1e-5)
    assert found.row["smallest_eigenvalue"] == pytest.approx(0, abs=1e-9)
    ratio = 1 + scale * largest / damping
    assert found.row["curvature_ratio"] == pytest.approx(ratio, rel=1e-5)
    assert found.row["train_loss"] == pytest.approx(losses[-1], rel=1e-5)


def test_under_a_large_damping_it_is_gradient_descent(task):
    descent = study.runner(SMALL, task)(None, None)
    assert descent.row["curvature_ratio"] is None
    config = dataclasses.replace(SMALL, learning_rate=0.01 * 1e7)
    found = study.runner(config, task)(1e7, 1.0)
    for name, curve in found.curves.items():
        np.testing.assert_allclose(curve, descent.curves[name], rtol=1e-5)
    weights = task.train.start
    for _ in range(SMALL.updates):
        _, gradient, _ = loss_and_gradient(task.train, weights)
        weights = weights - 0.01 * gradient
    wrong = (task.test.features @ weights).argmax(1) != task.test.labels
    assert descent.row["test_error"] == pytest.approx(wrong.mean(), rel=1e-5)


def test_float64_needs_no_global_switch(task):
    wanted = study.runner(SMALL, task)(1e-2, 1.0).row
    with jax.enable_x64(False):
        row = study.runner(SMALL, task)(1e-2, 1.0).row
        assert not jax.config.jax_enable_x64  # type: ignore[attr-defined]
    assert {**row, "seconds": 0} == {**wanted, "seconds": 0}


def test_differences_are_from_the_best_run_of_lanczos(runs):
    train = study.differences(runs, SMALL, "train")
    np.testing.assert_allclose(train, [[0, 1], [4, np.nan]], atol=1e-12)
    test = study.differences(runs, SMALL, "test")
    np.testing.assert_allclose(test, [[1, 4], [0, np.nan]], atol=1e-12)


def test_what_came_out_is_said(runs, task):
    damping, scale, resolution = _tables.finding(runs, SMALL, task)
    assert "1 (R_est-curv 2) ends at 4.0 % on training and 6.0 % on test" in damping
    assert "5.0 % and 8.0 %" in damping
    assert "0.01: +1.0 and +3.0; 1: a run diverged" in scale
    assert "at 1 of 1 dampings" in scale
    assert "One of the 900 test images is 0.11 points" in resolution
    assert "nan" not in damping + scale + resolution


def test_figures_and_sentences_stand_divergence(runs, task):
    cells = [(d, s) for d in SMALL.dampings for s in SMALL.sharp_scales]
    lost = [made(*cell, 0.9, 0.9, diverged=True) for cell in cells]
    lost.insert(0, runs[0])
    assert np.isnan(study.differences(lost, SMALL, "test")).all()
    assert "nan" not in " ".join(_tables.finding(lost, SMALL, task))
    assert _tables.table(lost)[-1][0] == "LOPT[3], diverged"
    config = dataclasses.replace(SMALL, updates=1)
    for found in (runs, lost):
        assert _report.heat_maps(found, config).startswith(b"\x89PNG")
        assert _report.error_curves(found, config).startswith(b"\x89PNG")


def test_command_writes_its_files(tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["--updates=4", "--num-steps=5", "--dampings", "0.01", "1"]
    arguments += ["--sharp-scales", "1", "3", f"--out={folder}"]
    assert main(["lanczos", *arguments]) == 0
    shown = capsys.readouterr().out
    with open(folder / "runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["gd"] + 4 * ["lanczos"]
    ratios = [float(row["curvature_ratio"]) for row in rows[1:]]
    assert ratios[1] - 1 == pytest.approx(3 * (ratios[0] - 1), rel=1e-4)
    assert ratios[0] - 1 == pytest.approx(100 * (ratios[2] - 1), rel=1e-4)
    with open(folder / "curves.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 5 * 5
    assert json.loads((folder / "config.json").read_text())["config"]["updates"] == 4
    for name in ("errors.png", "maps.png"):
        assert (folder / name).stat().st_size > 10_000
    page = html.unescape((folder / "report.html").read_text())
    assert "897 training and 900 test images of scikit-learn's digits" in page
    assert "650 parameters, where P1 has 1000 and 10000 images of MNIST" in page
    for text in (shown, page):
        assert "changes the error on training and test images" in text
    assert len((folder / "table.md").read_text().splitlines()) == 2 + 5


def test_command_fits_what_was_prepared_on_disk(tmp_path):
    prepare("mnist", tmp_path, {"train": 72, "test": 30})
    folder = tmp_path / "run"
    arguments = ["--dataset=mnist", f"--data-dir={tmp_path}", "--examples=40"]
    arguments += ["--updates=20", "--num-steps=5", "--dampings", "0.1"]
    arguments += ["--sharp-scales", "1", f"--out={folder}"]
    assert main(["lanczos", *arguments]) == 0
    page = (folder / "report.html").read_text()
    assert "40 training and 30 test images of MNIST, 7850 parameters." in page
    assert "logistic regression on mnist" in page
    with open(folder / "runs.csv", newline="") as file:
        descent, lanczos = csv.DictReader(file)
    # ten classes by chance are 90 %; the label stands in the image as a bright row
    assert float(lanczos["train_error"]) < 0.2
    assert float(lanczos["test_error"]) < 0.6
    assert float(lanczos["train_loss"]) < float(descent["train_loss"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--learning-rate=0"], ["--learning-rate must be above 0"]),
        (["--examples=0"], ["--examples must be 1 or more", "got 0"]),
        (["--dataset=mist"], ["--dataset", "'mist'", "fashion_mnist"]),
        (["--num-steps=0"], ["--num-steps must be 1 or more", "got 0"]),
        (["--updates=0"], ["--updates must be 1 or more"]),
        (["--dampings", "1", "0.1"], ["--dampings must increase", "got 1 0.1"]),
        (["--sharp-scales", "0", "3"], ["--sharp-scales must increase above 0"]),
    ],
)
def test_wrong_arguments_give_one_line(arguments, words, capsys):
    assert main(["lanczos", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(word in error for word in words)


def test_the_kept_results_are_as_the_lab_note_says():
    with open(RECORD, newline="") as file:
        rows = list(csv.DictReader(file))
    config = LanczosConfig()
    assert int(rows[0]["updates"]) == config.updates

    def error(split, damping, scale):
        (row,) = [
            row
            for row in rows[1:]
            if (float(row["damping"]), float(row["sharp_scale"])) == (damping, scale)
        ]
        return float(row[f"{split}_error"])

    falling = [error("test", d, 1.0) for d in config.dampings if d < 1]
    assert falling == sorted(falling, reverse=True)
    assert error("test", 1e-4, 1.0) > error("test", 0.1, 1.0) + 0.04
    assert error("train", 1e-4, 1.0) == 0

    def harmed(damping, scale):
        train, test = (
            error(split, damping, scale) - error(split, damping, 1.0)
            for split in ("train", "test")
        )
        return test > train

    assert all(harmed(damping, 3.0) for damping in config.dampings)
    assert [d for d in config.dampings if harmed(d, 10.0)] == [3e-4, 1e-3, 1.0]
