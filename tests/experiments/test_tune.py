"""The grid: its points, its choice, and that configuration and record agree."""

import csv

import pytest

from experiments import tune
from experiments.__main__ import main
from experiments.configs.p0.digits import (
    PRESETS,
    TUNE_PRESETS,
    TUNING_RECORD,
    TuneConfig,
)
from experiments.configs.p2 import second_order
from experiments.configs.p4 import digits as p4
from experiments.configs.settings import DampedRates, Rates, fields_of


def row(rate, seed, accuracy, loss):
    return {
        "optimizer": "sgd",
        "learning_rate": rate,
        "weight_decay": 0.0,
        "seed": seed,
        "validation_accuracy": accuracy,
        "validation_loss": loss,
    }


def test_the_choice_is_by_mean_accuracy_then_by_loss():
    rows = [
        row(1.0, 0, 0.95, 0.1),
        row(1.0, 1, 0.97, 0.1),
        row(2.0, 0, 0.96, 0.2),
        row(2.0, 1, 0.96, 0.1),
        row(3.0, 0, 0.99, 0.0),
        row(3.0, 1, 0.10, None),
    ]
    assert tune.best(rows) == {"sgd": Rates(1.0, 0.0)}
    order = [point.rates.learning_rate for point in tune.points(rows)]
    assert order == [1.0, 2.0, 3.0]


def test_decoupled_decays_are_scaled_by_the_rate():
    grid = dict.fromkeys(TuneConfig().grid())
    assert ("sgd", Rates(0.1, 5e-4)) in grid
    assert ("adamw", Rates(1e-3, 0.5)) in grid
    assert ("padamw", Rates(0.1, 5e-3)) in grid


def test_configuration_is_what_the_record_says():
    rows = tune.read_record(TUNING_RECORD)
    best = tune.best(rows)
    assert set(best) == {"sgd", "adamw", "padamw"}
    assert best.items() <= PRESETS["small"].tuned.items()
    # The whole grid was run, as it stands, and on the task of the comparison.
    runs = {run.to_json() for run in tune.plan(TuneConfig())}
    assert {found["config"] for found in rows} == runs
    task = fields_of(PRESETS["small"], tune.TaskConfig)
    assert fields_of(TuneConfig(), tune.TaskConfig) == task
    # No seed of the comparison had a part in it, and no column is of the test set.
    assert not {found["seed"] for found in rows} & set(PRESETS["small"].seeds)
    assert not [name for name in rows[0] if "test" in name]


def test_the_second_order_configuration_is_what_its_record_says():
    rows = tune.read_record(second_order.TUNING_RECORD)
    best = tune.best(rows)
    assert set(best) == set(second_order.OPTIMIZERS) - {"sgd"}
    config = PRESETS["second_order"]
    assert best.items() <= config.tuned.items()
    grid = TUNE_PRESETS["second_order"]
    assert {row["config"] for row in rows} == {r.to_json() for r in tune.plan(grid)}
    assert fields_of(grid, tune.TaskConfig) == fields_of(config, tune.TaskConfig)
    assert not {found["seed"] for found in rows} & set(config.seeds)


def test_the_configuration_of_p4_is_what_its_record_says():
    rows = tune.read_record(p4.TUNING_RECORD)
    best = tune.best(rows)
    config, grid = PRESETS["rmsgd"], TUNE_PRESETS["rmsgd"]
    assert set(best) == set(p4.OPTIMIZERS) - {"sls"}  # which has no rate to choose
    assert best.items() <= config.tuned.items()
    assert {row["config"] for row in rows} == {r.to_json() for r in tune.plan(grid)}
    assert fields_of(grid, tune.TaskConfig) == fields_of(config, tune.TaskConfig)
    assert not {found["seed"] for found in rows} & set(config.seeds)


def test_dampings_are_points_of_their_own():
    rows = [
        row(1.0, 0, accuracy, 0.1) | {"optimizer": "kfac", "damping": damping}
        for damping, accuracy in ((0.1, 0.9), (1.0, 0.95))
    ]
    assert tune.best(rows) == {"kfac": DampedRates(1.0, 0.0, 1.0)}
    assert len(tune.points(rows)) == 2


def test_the_preset_of_a_grid_has_its_own_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tune, "run_grid", lambda runs, *_: seen.extend(runs))
    seen = []
    arguments = ["tune", "--preset=second_order", "--kfac-rates=0.1", "--seeds=7"]
    assert main(arguments) == 2
    assert "second_order_tuning.csv exists" in capsys.readouterr().err
    arguments += ["--adam-rates", "--ranger-rates", "--shampoo-rates"]
    assert main([*arguments, f"--out={tmp_path / 'r.csv'}"]) == 0
    assert [(run.optimizer, run.learning_rate) for run in seen] == 4 * [("kfac", 0.1)]
    assert [run.damping for run in seen] == [0.03, 0.1, 0.3, 1.0]


def test_a_small_grid_and_completing_it(tmp_path, capsys):
    record = tmp_path / "record.csv"
    arguments = ["tune", "--model=vgg_tiny", "--epochs=1", "--batch-size=128"]
    arguments += ["--sgd-rates=0.1", "--adamw-rates", "--padamw-rates", "--seeds=7"]
    arguments += [f"--out={record}"]
    assert main([*arguments, "--decays=1e-3"]) == 0
    assert len(tune.read_record(record)) == 1
    assert main([*arguments, "--decays=1e-3"]) == 2
    assert f"error: {record} exists; complete it by --resume" in capsys.readouterr().err
    assert main([*arguments, "--decays", "1e-3", "1e-4", "--resume"]) == 0
    with open(record, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [found["weight_decay"] for found in rows] == ["0.001", "0.0001"]
    assert "best first" in capsys.readouterr().out


def test_interrupted_tuning_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tune.image, "run", interrupt)
    assert main(["tune", f"--out={tmp_path / 'r.csv'}"]) == 130
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "go on with: python -m experiments tune --out=" in error
    assert error.endswith("--resume\n")
    assert tune.read_record(tmp_path / "r.csv") == []


def test_a_record_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["tune", f"--out={tmp_path / 'file' / 'record.csv'}"]) == 2
    assert capsys.readouterr().err.startswith("error: cannot write")


@pytest.mark.parametrize("rates", [["-0.1"], ["nan"]])
def test_a_nonsense_rate(rates, tmp_path, capsys):
    status = main(["tune", "--sgd-rates", *rates, f"--out={tmp_path / 'r.csv'}"])
    assert status == 2
    assert "--sgd.learning-rate must be above 0" in capsys.readouterr().err
