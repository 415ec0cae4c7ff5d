"""Adam and K-FAC over rate and damping: cells, norms, report, command, records."""

import csv
import dataclasses
import json

import jax
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from experiments import damping as study
from experiments.__main__ import main
from experiments.configs.p1 import damping_kfac
from experiments.configs.p1.damping import (
    BATCH_NORM_RECORD,
    PRESETS,
    RECORD,
    DampingConfig,
)
from experiments.configs.settings import RunConfig, TaskConfig, fields_of
from experiments.damping import _figures, _runs, _tables
from experiments.data import Split
from experiments.loops import image

pytestmark = pytest.mark.slow  # trains or compiles for a minute and more

TINY = dataclasses.replace(PRESETS["smoke"], learning_rates=(1e-3, 1e-2), sgd_rate=None)
KFAC = damping_kfac.PRESETS["small"]
KFAC_TINY = dataclasses.replace(damping_kfac.PRESETS["smoke"], sgd_rate=None)


@pytest.fixture(scope="module")
def data():
    return image.load(TINY.task)


def rows_of(values, config=TINY):
    """Rows of a grid: for each cell the norms and test accuracies of its seeds."""
    rows = []
    for cell, found in zip(study.cells(config), values, strict=True):
        for seed, (norm, accuracy) in enumerate(found):
            row = dict.fromkeys(_runs.COLUMNS)
            row |= dataclasses.asdict(cell) | {"seed": seed, "spectral_norm": norm}
            for split in ("train", "validation", "test"):
                loss = None if norm is None else 0.1
                row |= {f"{split}_accuracy": accuracy, f"{split}_loss": loss}
            rows.append(row)
    return rows


def read(path, config):
    """The rows of a kept record, numbers as numbers, as many as the grid has."""
    with open(path, newline="") as file:
        rows: list[dict] = list(csv.DictReader(file))
    texts = ("method", "dataset", "model", "commit")
    for row in rows:
        for name in set(row) - set(texts):
            row[name] = float(row[name]) if row[name] else None
    assert len(rows) == len(study.cells(config)) * len(config.seeds)
    return rows


def test_cells_are_the_grid_and_only_adamw_has_decay():
    found = study.cells(DampingConfig())
    assert len(found) == len(set(found)) == 21
    assert {cell.weight_decay for cell in found if cell.method == "adamw"} == {0.25}
    assert {cell.weight_decay for cell in found if cell.method != "adamw"} == {0.0}
    assert found[-1] == study.Cell("sgd", 0.06, None, 0.0)


def test_the_grid_of_kfac_has_its_diagonal_and_more_at_the_smallest_rate():
    found = [cell for cell in study.cells(KFAC) if cell.method == "kfac"]
    assert len(found) == len(set(found)) == 3 * 3 + 2
    assert _tables.diagonal(KFAC) == [(1e-1, 1.0), (1e-2, 1e-1), (1e-3, 1e-2)]
    smallest = [cell.damping for cell in found if cell.learning_rate == 1e-3]
    assert smallest == [1e-3, 3e-3, 1e-2, 1e-1, 1.0]
    assert _tables.diagonal(DampingConfig()) == []


@pytest.mark.parametrize(
    ("method", "damping"),
    [("adam", 1e-8), ("adamw", 1e-8), ("kfac", 0.03), ("sgd", None)],
)
def test_a_cell_of_the_usual_damping_is_the_usual_run(method, damping, data):
    decay = 0.25 if method == "adamw" else 0.0
    cell = study.Cell(method, 1e-2, damping, decay)
    epochs = []
    found = study.run(cell, TINY, data, seed=3, on_epoch=epochs.append)
    usual = RunConfig(
        **fields_of(TINY.task, TaskConfig),
        optimizer=method,
        seed=3,
        learning_rate=1e-2,
        weight_decay=cell.weight_decay,
    )
    rows = []
    want = image.run(usual, data, on_epoch=rows.append)
    for name in ("validation_loss", "test_loss"):
        assert found[name] == pytest.approx(want[name], rel=1e-4)
    for own, row in zip(epochs, rows, strict=True):
        assert own["train_loss"] == pytest.approx(row["train_loss"], rel=1e-4)
        assert (own["epoch"], own["step"]) == (row["epoch"], row["step"])
    assert found["spectral_norm"] > 0


@pytest.mark.parametrize("method", ["adamw", "kfac"])
def test_rate_damping_and_decay_reach_the_optimiser(method, data):
    base = study.Cell(method, 1e-2, 1e-1, 0.25)
    ends = {}
    for cell in (
        base,
        dataclasses.replace(base, damping=0.3),
        dataclasses.replace(base, weight_decay=0.0),
        dataclasses.replace(base, learning_rate=1e-3),
    ):
        ends[cell] = study.run(cell, TINY, data, seed=0, on_epoch=lambda row: None)
    assert len({row["test_loss"] for row in ends.values()}) == 4


def test_spectral_norm_is_that_of_the_dense_hessian(data):
    part = Split(data.train.images[:48], data.train.labels[:48])
    few = dataclasses.replace(data, train=part)
    state = _runs.initial_state(study.cells(TINY)[0], TINY, data, seed=1)
    flat, unravel = ravel_pytree(state.params)

    def loss(flat):
        variables = {"params": unravel(flat), "batch_stats": state.batch_stats}
        logits = state.apply_fn(variables, part.images, train=False)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, part.labels)
        return losses.mean()

    values = np.linalg.eigvalsh(np.asarray(jax.hessian(loss)(flat), np.float64))
    norm, residual = _runs.spectral_norm(state, few, 40, jax.random.key(0))
    assert norm == pytest.approx(np.abs(values).max(), rel=1e-4)
    assert norm is not None
    assert residual is not None
    assert residual < 1e-3 * norm


def test_a_broken_network_has_no_norm(data):
    state = _runs.initial_state(study.cells(TINY)[0], TINY, data, seed=1)
    broken = jax.tree.map(lambda leaf: np.nan * leaf, state.params)
    state = state.replace(params=broken)
    assert _runs.spectral_norm(state, data, 2, jax.random.key(0)) == (None, None)


def test_grid_and_findings():
    config = dataclasses.replace(TINY, seeds=(0, 1))
    values = [
        [(8.0, 0.90), (12.0, 0.92)],  # adam, 1e-3, 1e-8
        [(4.0, 0.96), (6.0, 0.96)],
        [(20.0, 0.80), (20.0, 0.80)],  # adam, 1e-2
        [(30.0, 0.70), (30.0, 0.70)],
        [(8.0, 0.90), (8.0, 0.90)],  # adamw
        [(None, 0.1), (4.0, 0.96)],
        [(None, 0.1), (None, 0.1)],
        [(None, 0.1), (None, 0.1)],
    ]
    rows = rows_of(values, config)
    norms = study.grid(rows, config, "adam", "spectral_norm")
    np.testing.assert_allclose(norms, [[10, 20], [5, 30]])
    errors = study.grid(rows, config, "adam", "test")
    np.testing.assert_allclose(errors, [[9, 20], [4, 30]])
    assert np.isnan(study.grid(rows, config, "adamw", "test")[1, 0])
    adam, adamw, both = _tables.finding(rows, config, 450)
    assert "falls in 1 of 2 cases" in adam
    assert "damping 0.01 ends with the least test error, 4.00 %, and norm 5" in adam
    assert "At rate 0.01 every cell diverged" in adamw
    assert "nan" not in adam + adamw + both
    lines = _tables.table(rows, config)
    assert lines[0][3:] == ("1e-05", "10 ± 2.83", *3 * ("9.00 ± 1.41",))
    assert lines[-1][4:] == 4 * ("diverged",)
    assert _figures.maps(rows, config).startswith(b"\x89PNG")


def test_ranks_are_over_the_cells_that_trained():
    config = dataclasses.replace(TINY, dampings=(1e-8, 1e-3, 1e-2), optimizer="adam")
    trained = [(8.0, 0.90), (6.0, 0.92), (4.0, 0.94)]
    dead = [(0.1, 0.10), (0.2, 0.10), (0.3, 0.11)]
    rows = rows_of([[value] for value in 2 * (trained + dead)], config)
    said = _tables.finding(rows, config, 450)[-1]
    assert "norm and test error is +1.00 for Adam and +1.00 for AdamW." in said


def test_what_is_said_of_the_diagonal():
    config = dataclasses.replace(KFAC_TINY, seeds=(0,))
    values = [(30.0, 0.5), (12.0, 0.92), (9.0, 0.80), (None, 0.1), (4.0, 0.95)]
    rows = rows_of([[value] for value in values], config)
    norms = study.grid(rows, config, "kfac", "spectral_norm")
    np.testing.assert_allclose(norms, [[30, np.nan], [12, np.nan], [9, 4]])
    kfac, along, _ = _tables.finding(rows, config, 450)
    assert "falls in 2 of 2 cases" in kfac
    assert "K-FAC with the damping 10 times the rate, at rates 0.1, 0.01" in along
    assert "test error 5.00, 8.00 %" in along
    assert "spectral norm 4, 12, and 1 + norm / damping 5, 121 " in along
    (first, *_) = _tables.table(rows, config)
    assert first[:4] == ("K-FAC", "0.01", "0.01", "1")


@pytest.mark.parametrize(
    ("optimizer", "methods"),
    [
        ("adam", ["adam", "adam", "adamw", "adamw", "sgd"]),
        ("kfac", [*5 * ["kfac"], "sgd"]),
    ],
)
def test_command_writes_its_files(optimizer, methods, tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["--preset=smoke", f"--optimizer={optimizer}", "--epochs=1"]
    assert main(["damping", *arguments, f"--out={folder}"]) == 0
    shown = capsys.readouterr().out
    with open(folder / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == _runs.COLUMNS
    assert [row["method"] for row in rows] == methods
    assert rows[-1]["damping"] == ""
    assert all(float(row["spectral_norm"]) > 0 for row in rows)
    assert json.loads((folder / "config.json").read_text())["config"]["epochs"] == 1
    for name in ("errors.png", "maps.png"):
        assert (folder / name).stat().st_size > 10_000
    assert (folder / "diagonal.png").exists() == (optimizer == "kfac")
    page = (folder / "report.html").read_text()
    for text in (shown, page):
        assert "One of the 450 test images" in text
    title = {"adam": "Adam and AdamW", "kfac": "K-FAC"}[optimizer]
    assert f"damping of {title}: vgg_tiny_plain on digits" in page
    assert "VGG-16 on CIFAR-100" in page
    assert ("527.2" in page) == (optimizer == "kfac")
    assert len((folder / "table.md").read_text().splitlines()) == 2 + len(methods)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "1", "1"], ["--seeds must differ"]),
        (["--num-steps=0"], ["--num-steps must be 1 or more", "got 0"]),
        (["--weight-decay=-1"], ["--weight-decay must be 0 or more"]),
        (["--dampings", "0", "1"], ["--dampings must increase above 0", "got 0 1"]),
        (["--learning-rates", "1", "1"], ["--learning-rates must increase"]),
        (["--extra-dampings", "2", "1"], ["--extra-dampings must increase"]),
        (["--kappa=0"], ["--kappa must be above 0", "got 0"]),
        (["--sgd-rate=-1"], ["--sgd-rate must be above 0, got -1"]),
        (["--optimizer=sgd"], ["--optimizer", "adam", "kfac"]),
        (["--model=none"], ["model", "vgg_small"]),
    ],
)
def test_wrong_arguments_give_one_line(arguments, words, capsys):
    assert main(["damping", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(word in error for word in words)


def test_the_kept_results_are_as_the_lab_note_says():
    config = DampingConfig()
    rows = read(RECORD, config)
    error = study.grid(rows, config, "adam", "test")
    norm = study.grid(rows, config, "adam", "spectral_norm")
    np.testing.assert_allclose(error[:, 0], [6.6, 6.6, 6.1, 7.0, 11.4], atol=0.06)
    np.testing.assert_allclose(norm[:, 1], [11.4, 10.1, 10.5, 10.9, 11.2], atol=0.06)
    assert (np.diff(norm, axis=0) < 0).sum() == 2
    loss = study.grid(rows, config, "adam", "train_loss")[:, 0]
    np.testing.assert_allclose(loss, [0.14, 0.14, 0.15, 0.21, 0.34], atol=0.006)
    assert norm[-1, 0] > 1.9 * norm[0, 0]
    # what a large damping does for a large rate stands beyond the deviations
    assert error[-1, 1] < 0.5 * error[:2, 1].min()
    norm = study.grid(rows, config, "adamw", "spectral_norm")
    assert (np.diff(norm, axis=0) < 0).sum() == 3
    sgd = study.cells(config)[-1]
    assert study.summarise(rows, sgd, "test")[0] == pytest.approx(8.8, abs=0.06)


def test_the_kept_results_with_batch_normalisation_are_as_the_note_says():
    dampings = (1e-8, 1e-4, 1e-3, 1e-2, 1e-1)
    config = dataclasses.replace(DampingConfig(), dampings=dampings, sgd_rate=None)
    rows = read(BATCH_NORM_RECORD, config)
    assert {(row["model"], row["epochs"]) for row in rows} == {("vgg_tiny", 30)}
    for method, falls in (("adam", 1), ("adamw", 2)):
        norm = study.grid(rows, config, method, "spectral_norm")
        assert (np.diff(norm, axis=0) < 0).sum() == falls


def test_the_kept_results_of_kfac_are_as_the_lab_note_says():
    rows = read(damping_kfac.RECORD, KFAC)
    along = [study.Cell("kfac", *place, 0.0) for place in _tables.diagonal(KFAC)]
    names = ("spectral_norm", "train", "test")
    found = [[study.summarise(rows, cell, name)[0] for name in names] for cell in along]
    want = [[6.3, 3.9, 5.8], [14.1, 3.5, 5.7], [29.7, 5.4, 8.0]]
    np.testing.assert_allclose(found, want, atol=0.06)
    norm = study.grid(rows, KFAC, "kfac", "spectral_norm")
    np.testing.assert_allclose(norm[:, 0], [35.0, 31.0, 29.7, 23.7, 24.1], atol=0.06)
    error = study.grid(rows, KFAC, "kfac", "test")[:3, 0]
    np.testing.assert_allclose(error, [39.5, 15.9, 8.0], atol=0.06)
    changes = np.diff(norm, axis=0)
    assert (changes[np.isfinite(changes)] < 0).sum() == 4
    diverged = study.Cell("kfac", 0.1, 0.01, 0.0)
    assert np.isnan(study.summarise(rows, diverged, "test")[0])
