"""Quality against generalisation: the correlations, the files, bad arguments."""

import csv
import json

import numpy as np
import pytest
from scipy import stats

from experiments import quality
from experiments.configs.p4.quality import PRESETS, QualityConfig, check
from experiments.errors import ExperimentError
from experiments.quality import _tables


def rows_of(quality, accuracy, gap=None):
    return [
        {
            "optimizer": "sgd",
            "width": 8,
            "seed": seed,
            "quality": q,
            "test_accuracy": a,
            "accuracy_gap": (gap or accuracy)[seed],
            "loss_gap": None,
            "seconds": 1.0,
        }
        for seed, (q, a) in enumerate(zip(quality, accuracy, strict=True))
    ]


def test_correlations_are_those_of_scipy_without_runs_that_diverged():
    rng = np.random.default_rng(0)
    q, a = rng.normal(size=(2, 12))
    rows = rows_of([*q, None, 3.0], [*a, 1.0, None])
    found = quality.correlate(rows, "test_accuracy")
    assert found.count == 12
    assert found.pearson == pytest.approx(np.corrcoef(q, a)[0, 1])
    assert found.spearman == pytest.approx(
        np.corrcoef(stats.rankdata(q), stats.rankdata(a))[0, 1]
    )
    low, high = found.interval
    # Fisher: atanh(r) has deviation 1 / sqrt(n - 3)
    middle = np.arctanh(found.pearson)
    half = stats.norm.ppf(0.975) / np.sqrt(12 - 3)
    np.testing.assert_allclose(
        [low, high], np.tanh([middle - half, middle + half]), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("quality_values", "accuracy"),
    [([1.0, 2.0], [1.0, 2.0]), ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ([], [])],
)
def test_nothing_is_correlated_where_nothing_varies(quality_values, accuracy):
    found = quality.correlate(rows_of(quality_values, accuracy), "test_accuracy")
    assert np.isnan(found.pearson)
    assert np.isnan(found.spearman)


def test_rises_are_counted_layer_by_layer_and_skip_noise():
    ranks = {"a": [0.1, 0.2, 0.2, 0.1], "b": [None, 0.3, 0.4, 0.5]}
    layers = [
        {
            "optimizer": "rmsgd",
            "width": 8,
            "seed": 0,
            "epoch": epoch,
            "layer": layer,
            "stable_rank": rank,
        }
        for layer, series in ranks.items()
        for epoch, rank in enumerate(series)
    ]
    # a: up, level, down; b: from noise (not counted), up, up
    assert _tables.rises(layers, "rmsgd") == (4, 5)
    assert _tables.rises(layers, "sgd") == (0, 0)


def test_smoke_writes_every_file(tmp_path, capsys):
    out = tmp_path / "out"
    assert quality.main(["--preset", "smoke", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "PLCC" in printed
    assert "report.html" in printed
    with open(out / "results.csv", newline="") as file:
        results = list(csv.DictReader(file))
    config = PRESETS["smoke"]
    assert [(row["optimizer"], int(row["width"])) for row in results] == [
        (name, width) for width in config.widths for name in config.optimizers
    ]
    for row in results:
        gap = float(row["train_accuracy"]) - float(row["test_accuracy"])
        assert float(row["accuracy_gap"]) == pytest.approx(gap)
        assert row["weight_decay"] == "0.0005"
    with open(out / "layers.csv", newline="") as file:
        layers = list(csv.DictReader(file))
    # before training and after each epoch, the same layers
    names = {row["layer"] for row in layers}
    assert len(layers) == len(results) * (config.epochs + 1) * len(names)
    text = (out / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2] * len(results)
    for row in results:
        last = rows[2 * results.index(row) + 1]
        assert last["optimizer"] == row["optimizer"]
        assert float(row["quality"] or "nan") == pytest.approx(
            float("nan") if last["quality"] is None else last["quality"], nan_ok=True
        )
    page = (out / "report.html").read_text()
    assert page.count("<img") == 3
    for name in ("quality", "layers", "metrics"):
        assert (out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": ()}, "--widths must be given"),
        ({"optimizers": ("sgd", "sgd")}, "--optimizers must be given and differ"),
        ({"seeds": ()}, "--seeds needs at least one"),
    ],
)
def test_a_wrong_grid_names_the_argument(fields, message):
    with pytest.raises(ExperimentError, match=message):
        check(QualityConfig(**fields))
