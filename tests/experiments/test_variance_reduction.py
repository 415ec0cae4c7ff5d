"""Variance reduction: minimum, cost, runs against NumPy, report, command, record."""

import csv
import json

import jax
import numpy as np
import pytest
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from experiments import variance_reduction as study
from experiments.__main__ import main
from experiments.configs.p2.variance_reduction import RECORD, VarianceReductionConfig
from experiments.data import epoch_order
from experiments.variance_reduction import _problem, _report

CONFIG = VarianceReductionConfig()
NAMES = ["sgd", "sgd_decay", "svrg", "svrg_large", "svrg_large_often"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Matrices are small: several threads wait for each other for most of the time."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def problem():
    return study.load(CONFIG.l2)


@pytest.fixture(scope="module")
def minimum(problem):
    """Found in float64 without the global switch, as the command does."""
    with jax.enable_x64(False):
        return study.minimise(problem)


@pytest.fixture(scope="module")
def compared(problem):
    return {method.name: method for method in study.methods(CONFIG, len(problem))}


def value_and_gradient(problem, weights, chosen=None):
    """The loss and its gradient in NumPy."""
    chosen = slice(None) if chosen is None else chosen
    x, labels = problem.features[chosen], problem.labels[chosen]
    scores = x @ weights
    scores -= scores.max(axis=1, keepdims=True)
    chances = np.exp(scores)
    chances /= chances.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    value = -np.log(chances[rows, labels]).mean() + problem.l2 / 2 * np.sum(weights**2)
    chances[rows, labels] -= 1
    return value, x.T @ chances / len(labels) + problem.l2 * weights


def rows_of(method, gaps, seed=0):
    return [
        {"method": method.name, "seed": seed, "gap": gap, "epoch": epoch}
        for epoch, gap in enumerate(gaps)
    ]


def test_minimum_is_that_of_another_method(problem, minimum):
    shape = problem.start.shape

    def function(flat):
        value, gradient = value_and_gradient(problem, flat.reshape(shape))
        return value, gradient.ravel()

    options = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(
        function, problem.start.ravel(), jac=True, method="L-BFGS-B", options=options
    )
    assert 0 <= found.fun - minimum.value + 1e-14 < 1e-11
    _, gradient = value_and_gradient(problem, minimum.weights)
    assert np.linalg.norm(gradient) < 1e-13
    assert minimum.smallest == pytest.approx(CONFIG.l2, rel=1e-9)
    assert 2 < minimum.largest < 3


@pytest.mark.parametrize("l2", ["0.03", "1e-300"])
def test_a_minimum_that_is_not_found_is_said(l2, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_problem, "_NEWTON_STEPS", 1)
    folder = tmp_path / "run"
    assert main(["variance_reduction", f"--l2={l2}", f"--out={folder}"]) == 2
    assert f"choose a larger --l2, got {l2}" in capsys.readouterr().err
    assert not folder.exists()


def test_cost_counts_gradients_of_single_examples(compared):
    assert compared["sgd"].steps == 112
    assert compared["sgd"].passes(3) == pytest.approx(3 * 896 / 897)
    assert compared["svrg"].passes(3) == pytest.approx(3 * (2 * 896 + 897) / 897)
    often = compared["svrg_large_often"]
    assert (often.snapshot_every, often.snapshot_size) == (7, 224)
    assert often.passes(2) == pytest.approx(2 * (2 * 896 + 16 * 224) / 897)
    for method in compared.values():
        epochs = method.epochs(50)
        assert method.passes(epochs) <= 50 < method.passes(epochs + 1)


@pytest.mark.parametrize("name", ["sgd", "sgd_decay", "svrg"])
def test_runs_are_those_of_numpy(name, problem, minimum, compared):
    method, rate, seed = compared[name], CONFIG.learning_rate, 3
    rows = study.runner(problem, minimum, method, VarianceReductionConfig(passes=7))(
        seed
    )
    weights, gaps, step = problem.start, [], 0
    snapshot, full = problem.start, problem.start
    for epoch in range(len(rows)):
        value, _ = value_and_gradient(problem, weights)
        gaps.append(value - minimum.value)
        order = epoch_order(len(problem), seed=seed, epoch=epoch)
        for start in range(0, 896, 8):
            chosen = order[start : start + 8]
            if name == "svrg" and step % 112 == 0:
                snapshot = weights
                full = value_and_gradient(problem, weights)[1]
            _, gradient = value_and_gradient(problem, weights, chosen)
            if name == "svrg":
                gradient += full - value_and_gradient(problem, snapshot, chosen)[1]
            decay = 1 + rate * CONFIG.l2 * step if name == "sgd_decay" else 1
            weights = weights - rate / decay * gradient
            step += 1
    assert [row["epoch"] for row in rows] == list(range(len(gaps)))
    # rows keep four digits
    np.testing.assert_allclose([row["gap"] for row in rows], gaps, rtol=6e-4)


def test_float64_needs_no_global_switch(problem, minimum, compared):
    assert minimum.weights.dtype == np.float64
    with jax.enable_x64(False):
        config = VarianceReductionConfig(passes=150)
        rows = study.runner(problem, minimum, compared["svrg"], config)(0)
        assert not jax.config.jax_enable_x64  # type: ignore[attr-defined]
    assert rows[-1]["gap"] < 1e-11


def test_a_large_batch_of_all_the_data_is_the_full_gradient(problem, minimum):
    config = VarianceReductionConfig(large_batch=1.0, often=1, passes=13)
    full, *same = study.methods(config, len(problem))[2:]
    want = [row["gap"] for row in study.runner(problem, minimum, full, config)(0)]
    for method in same:
        rows = study.runner(problem, minimum, method, config)(0)
        assert [row["gap"] for row in rows] == want


def test_fitted_factor():
    falling = 0.5 ** np.arange(60.0)
    assert _report.fitted_factor(falling) == pytest.approx(0.5)
    floored = np.maximum(falling, 1e-16)
    assert _report.fitted_factor(floored) == pytest.approx(0.5)
    assert _report.fitted_factor(np.maximum(falling, 1e-11)) is None
    assert _report.fitted_factor(np.array([1.0, 1e-16])) is None
    assert _report.fitted_factor(np.full(9, np.nan)) is None


def test_summary_is_per_snapshot_and_in_passes(compared):
    gaps = 0.5 ** np.arange(60.0)
    one = study.summarise(rows_of(compared["svrg"], gaps), compared["svrg"])
    assert one.factor == pytest.approx(0.5)
    assert one.passes == compared["svrg"].passes(20)
    assert one.end == pytest.approx(np.median(gaps[-5:]))
    often = compared["svrg_large_often"]
    one = study.summarise(rows_of(often, gaps), often)
    assert one.factor == pytest.approx(0.5 ** (1 / 16))
    one = study.summarise(rows_of(compared["sgd"], gaps), compared["sgd"])
    assert one.factor is None


def test_divergence_is_said(problem, minimum):
    config = VarianceReductionConfig(learning_rate=1e4, passes=12, seeds=(0, 1))
    methods = study.methods(config, len(problem))
    rows = []
    for method in methods:
        run = study.runner(problem, minimum, method, config)
        rows += run(0) + run(1)
    assert rows[0]["gap"] == pytest.approx(np.log(10) - minimum.value, rel=1e-3)
    assert rows[-1]["gap"] is None
    summaries = [study.summarise(rows, method) for method in methods]
    assert _report.table(summaries, minimum)[0][2] == "diverged"
    said = " ".join(_report.finding(summaries, config, minimum))
    assert "does not fall linearly" in said
    assert "nan" not in said
    assert _report.figure(rows, methods, minimum).startswith(b"\x89PNG")


def test_command_writes_its_files(minimum, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "minimise", lambda problem: minimum)
    folder = tmp_path / "run"
    arguments = ["--passes=13", "--seeds", "4", "2", f"--out={folder}"]
    assert main(["variance_reduction", *arguments]) == 0
    shown = capsys.readouterr().out
    with open(folder / "gaps.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(dict.fromkeys(row["method"] for row in rows)) == NAMES
    assert list(dict.fromkeys(row["seed"] for row in rows)) == ["4", "2"]
    assert max(float(row["passes"]) for row in rows) <= 13
    described = json.loads((folder / "config.json").read_text())
    assert described["config"]["passes"] == 13
    assert described["commit"]
    assert (folder / "gaps.png").stat().st_size > 10_000
    page = (folder / "report.html").read_text()
    for text in (shown, page):
        assert "SGD at the same rate ends at" in text
    assert len((folder / "table.md").read_text().splitlines()) == 2 + len(NAMES)


def test_the_kept_results_are_as_the_lab_note_says(minimum, compared):
    with open(RECORD, newline="") as file:
        rows: list[dict] = list(csv.DictReader(file))
    for row in rows:
        row |= {"gap": float(row["gap"]), "seed": int(row["seed"])}
    assert {row["seed"] for row in rows} == set(CONFIG.seeds)
    found = {name: study.summarise(rows, compared[name]) for name in NAMES}
    assert found["svrg"].factor == pytest.approx(0.624, abs=1e-3)
    assert found["svrg"].ends.max() < 10 * np.spacing(minimum.value)
    sgd = found["sgd"].ends
    # the order holds for every pair of seeds
    assert found["svrg_large"].ends.min() > 2 * sgd.max()
    assert found["svrg_large_often"].ends.max() < 0.6 * sgd.min()
    assert found["sgd_decay"].ends.max() < 1e-3 * sgd.min()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "1", "1"], ["--seeds must differ"]),
        (["--learning-rate=0"], ["--learning-rate must be above 0"]),
        (["--l2=0"], ["--l2 must be above 0"]),
        (["--batch-size=0"], ["--batch-size must be 1 to 897", "got 0"]),
        (["--large-batch=1.5"], ["--large-batch must be above 0 and at most 1"]),
        (["--often=113"], ["--often must be 1 to 112"]),
        (["--passes=5"], ["--passes must be at least 5.99", "svrg_large_often"]),
    ],
)
def test_wrong_arguments_give_one_line(arguments, words, capsys):
    assert main(["variance_reduction", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(word in error for word in words)
