"""Configurations: the epoch of averaging, and what is refused."""

import dataclasses

import pytest

from experiments.configs.settings import (
    RunConfig,
    TaskConfig,
    check_rates,
    check_seeds,
    check_task,
    fields_of,
)
from experiments.errors import ExperimentError


@pytest.mark.parametrize(
    ("epochs", "first"), [(300, 161), (30, 17), (40, 22), (2, 2), (1, 1)]
)
def test_averaging_begins_at_the_papers_fraction(epochs, first):
    assert TaskConfig(epochs=epochs).averaging_epoch == first


def test_averaging_from_the_beginning():
    assert TaskConfig(average_from=0.0).averaging_epoch == 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", -3, "--epochs must be at least 1, got -3"),
        ("batch_size", 0, "--batch-size must be at least 1, got 0"),
        ("patience", 0, "--patience must be at least 1, got 0"),
        ("average_from", 1.5, "--average-from must be between 0 and 1, got 1.5"),
        ("clip_norm", 0.0, "--clip-norm must be above 0, got 0.0"),
    ],
)
def test_a_nonsense_number_is_named_with_its_bound(field, value, message):
    with pytest.raises(ExperimentError) as caught:
        check_task(dataclasses.replace(TaskConfig(), **{field: value}))
    assert str(caught.value) == message


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_rates(rate):
    with pytest.raises(ExperimentError, match="--sgd.learning-rate must be above 0"):
        check_rates("sgd.", rate, None)


def test_decays():
    check_rates("", 0.1, 0.0)
    with pytest.raises(ExperimentError, match="--weight-decay must be 0 or more"):
        check_rates("", 0.1, -1e-4)


@pytest.mark.parametrize("seeds", [(), (-1,), (1, 1)])
def test_seeds(seeds):
    with pytest.raises(ExperimentError, match="--seeds"):
        check_seeds(seeds)


def test_a_run_takes_over_its_task():
    task = TaskConfig(epochs=7)
    run = RunConfig(**fields_of(task, TaskConfig), optimizer="swa", seed=2)
    assert fields_of(run, TaskConfig) == dataclasses.asdict(task)
    assert '"epochs": 7' in run.to_json()
