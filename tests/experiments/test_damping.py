"""Adam over rate and damping: the cells, spectral norms, report, command, record."""

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
from experiments.configs.p1.damping import PRESETS, RECORD, DampingConfig
from experiments.configs.settings import RunConfig, TaskConfig, fields_of
from experiments.damping import _report, _runs, _tables
from experiments.data import Split
from experiments.loops import image

pytestmark = pytest.mark.slow  # trains or compiles for a minute and more

TINY = dataclasses.replace(PRESETS["smoke"], learning_rates=(1e-3, 1e-2))


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


def test_cells_are_the_grid_and_adam_has_no_decay():
    found = study.cells(DampingConfig())
    assert len(found) == len(set(found)) == 20
    assert {cell.weight_decay for cell in found if cell.method == "adam"} == {0.0}
    assert {cell.weight_decay for cell in found if cell.method == "adamw"} == {0.25}


@pytest.mark.parametrize("method", ["adam", "adamw"])
def test_a_cell_of_the_usual_damping_is_the_usual_run(method, data):
    (cell,) = [
        cell
        for cell in study.cells(TINY)
        if (cell.method, cell.learning_rate, cell.damping) == (method, 1e-2, 1e-8)
    ]
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


def test_damping_and_decay_reach_the_optimiser(data):
    base = study.Cell("adamw", 1e-2, 1e-8, 0.25)
    ends = {}
    for cell in (
        base,
        dataclasses.replace(base, damping=0.1),
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
    assert "+1.00 for Adam." in both
    assert "nan" not in adam + adamw + both
    lines = _tables.table(rows, config)
    assert lines[0][3:] == ("10 ± 2.83", *3 * ("9.00 ± 1.41",))
    assert lines[-1][3:] == 4 * ("diverged",)
    assert _report.maps(rows, config).startswith(b"\x89PNG")


def test_command_writes_its_files(tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["damping", "--preset=smoke", "--epochs=1", f"--out={folder}"]) == 0
    shown = capsys.readouterr().out
    with open(folder / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == _runs.COLUMNS
    assert [row["method"] for row in rows] == ["adam", "adam", "adamw", "adamw"]
    assert all(float(row["spectral_norm"]) > 0 for row in rows)
    assert json.loads((folder / "config.json").read_text())["config"]["epochs"] == 1
    for name in ("errors.png", "maps.png"):
        assert (folder / name).stat().st_size > 10_000
    page = (folder / "report.html").read_text()
    for text in (shown, page):
        assert "One of the 450 test images" in text
    assert "VGG-16 on CIFAR-100" in page
    assert len((folder / "table.md").read_text().splitlines()) == 2 + 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "1", "1"], ["--seeds must differ"]),
        (["--num-steps=0"], ["--num-steps must be 1 or more", "got 0"]),
        (["--weight-decay=-1"], ["--weight-decay must be 0 or more"]),
        (["--dampings", "0", "1"], ["--dampings must increase above 0", "got 0 1"]),
        (["--learning-rates", "1", "1"], ["--learning-rates must increase"]),
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
    with open(RECORD, newline="") as file:
        rows: list[dict] = list(csv.DictReader(file))
    for row in rows:
        for name in ("learning_rate", "damping", "spectral_norm"):
            row[name] = float(row[name])
        for split in ("train", "validation", "test"):
            for name in (f"{split}_loss", f"{split}_accuracy"):
                row[name] = float(row[name])
    assert len(rows) == len(study.cells(config)) * len(config.seeds)
    error = study.grid(rows, config, "adam", "test")
    norm = study.grid(rows, config, "adam", "spectral_norm")
    np.testing.assert_allclose(error[:, 0], [6.5, 6.1, 5.9, 6.8, 10.2], atol=0.06)
    np.testing.assert_allclose(norm[:, 1], [7.1, 7.3, 8.9, 11.1, 16.9], atol=0.06)
    assert (np.diff(norm, axis=0) < 0).sum() == 1
    norm = study.grid(rows, config, "adamw", "spectral_norm")
    assert (np.diff(norm, axis=0) < 0).sum() == 2
    # what a large damping does for a large rate stands beyond the deviations
    for method in ("adam", "adamw"):
        error = study.grid(rows, config, method, "test")
        assert error[-1, 1] < 0.5 * error[0, 1]
