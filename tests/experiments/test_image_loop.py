"""The training loop: what it logs, that it repeats itself, that it compiles once."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.configs.settings import RunConfig, TaskConfig
from experiments.data import load_dataset
from experiments.data._dataset import Split
from experiments.errors import ExperimentError
from experiments.loops import evaluation, image
from tests.experiments.compilations import counted

SHORT = RunConfig(
    model="vgg_tiny",
    epochs=3,
    batch_size=128,
    average_from=0.5,
    optimizer="gadamx",
    learning_rate=0.1,
    weight_decay=1e-3,
)


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def run(config, digits, **arguments):
    rows = []
    result = image.run(config, digits, on_epoch=rows.append, **arguments)
    return rows, result


TIMES = {"seconds", "compile_seconds", "steps_per_second"}


def without_times(result):
    return {name: value for name, value in result.items() if name not in TIMES}


def test_rows_and_result_of_an_averaging_run(digits):
    rows, result = run(SHORT, digits)
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 7), (2, 14), (3, 21)]
    assert [row["num_averaged"] for row in rows] == [0, 1, 2]
    assert rows[0]["average_validation_accuracy"] is None
    assert rows[-1]["learning_rate"] == pytest.approx(0.05)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    for row in rows:
        assert row["gradient_norm"] > 0
        assert 0 < row["update_norm"] < row["parameter_norm"]
    for name in ("validation_loss", "average_validation_accuracy"):
        assert result[name] == rows[-1][name]
    # Test accuracies are whole numbers of the 450 digits.
    for name in ("test_accuracy", "average_test_accuracy"):
        assert 450 * result[name] == pytest.approx(round(450 * result[name]))
    assert result["steps"] == 21
    assert result["num_averaged"] == 2
    assert result["config"] == SHORT.to_json()


@pytest.mark.slow
def test_a_network_with_dropout_trains_averages_and_repeats(digits):
    config = dataclasses.replace(SHORT, model="wide_resnet_tiny", epochs=2)
    rows, result = run(config, digits)
    assert np.isfinite(rows[-1]["average_validation_loss"])
    again = run(config, digits)
    assert rows == again[0]
    assert without_times(result) == without_times(again[1])


def test_runs_repeat_and_seeds_differ_without_compiling_again(digits):
    first = run(SHORT, digits)
    with counted() as compiled:
        again = run(SHORT, digits)
        other = run(dataclasses.replace(SHORT, seed=1), digits)
    assert compiled.programs == 0
    assert first[0] == again[0]
    assert without_times(first[1]) == without_times(again[1])
    assert other[0][0]["train_loss"] != first[0][0]["train_loss"]


@pytest.mark.parametrize(
    "name",
    [
        *("sls", "svrg_sgd"),
        # trained in the tests of language and of the switch too
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("sam_sgd", "nt_asgd", "swats")
        ),
    ],
)
def test_optimisers_with_needs_and_triggers_train(digits, name):
    config = dataclasses.replace(
        SHORT,
        optimizer=name,
        epochs=4,
        learning_rate={"sls": 1.0, "swats": 0.01}.get(name, 0.05),
        weight_decay=None,
    )
    rows, result = run(config, digits)
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]
    assert result["test_accuracy"] > 0.3
    if name == "svrg_sgd":
        assert [row["num_snapshots"] for row in rows] == [1, 2, 3, 4]
    if name == "sls":
        assert all(0 < row["learning_rate"] < 100 for row in rows)


def test_tuning_leaves_the_test_set_alone(digits):
    untouchable = dataclasses.replace(digits, test=None)
    _, result = run(SHORT, untouchable, final_splits=("validation",))
    assert not [name for name in result if "test" in name]


def test_gadam_auto_starts_and_stops_by_itself(digits):
    config = dataclasses.replace(
        # A rate of next to nothing: the accuracy stands still from the first epoch.
        SHORT,
        optimizer="gadam_auto",
        learning_rate=1e-9,
        epochs=20,
        patience=2,
    )
    rows, result = run(config, digits)
    phases = [row["averaging_phase"] for row in rows]
    assert phases == sorted(phases)
    assert phases[-1] == 2
    assert len(rows) == result["epochs"] < 20
    begun = phases.index(1)
    assert rows[begun]["average_validation_accuracy"] is None
    assert rows[begun + 1]["average_validation_accuracy"] is not None


def test_a_diverged_run_is_recorded_and_not_fatal(digits):
    config = dataclasses.replace(SHORT, optimizer="sgd", learning_rate=1e30)
    rows, result = run(config, digits)
    assert rows[-1]["train_loss"] is None
    assert result["test_accuracy"] < 0.5


def test_a_diverged_run_stops_where_it_is_told_to(digits):
    config = dataclasses.replace(SHORT, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(ExperimentError, match=r"not finite at step \d, in epoch 1"):
        run(config, digits, on_nan="stop")


def test_batches_that_are_not_finite_are_left_out(digits):
    images = digits.train.images.copy()
    images[7] = np.nan
    data = dataclasses.replace(digits, train=Split(images, digits.train.labels))
    rows, result = run(SHORT, data, on_nan="skip")
    # the image is in one of seven batches, or among the few left over
    assert all(row["skipped"] in (0, 1) for row in rows)
    assert 0 < rows[-1]["total_notfinite"] == sum(row["skipped"] for row in rows)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert np.isfinite(result["test_loss"])  # with the batch statistics of training
    config = dataclasses.replace(SHORT, optimizer="sam_sgd")
    with pytest.raises(ExperimentError, match="--on-nan must be stop .* grad_fn"):
        run(config, data, on_nan="skip")


def test_scores_do_not_depend_on_the_chunks(digits, monkeypatch):
    state = image.init_state(SHORT, digits, jax.random.key(0))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    split = Split(digits.test.images[:50], digits.test.labels[:50])
    whole = evaluation.evaluate(state.apply_fn, variables, split)
    monkeypatch.setattr(evaluation, "_BATCH", 16)  # 3 whole chunks and 2 examples
    chunks = evaluation.evaluate(state.apply_fn, variables, split)
    np.testing.assert_allclose(chunks, whole, rtol=1e-5)


def test_statistics_of_the_average_are_those_of_its_own_weights(digits):
    tx_state = image.init_state(SHORT, digits, jax.random.key(0))
    arguments = {"batch_size": 128, "seed": 0, "key": jax.random.key(1)}
    assert list(evaluation.candidates(tx_state, digits, **arguments)) == [""]
    state, totals = tx_state, image.zero_totals()
    for _ in range(SHORT.averaging_epoch * 7):
        state, totals = image.train_step(
            state,
            totals,
            jax.random.key(2),
            digits.train.images[:128],
            digits.train.labels[:128],
            augment=digits.augment,
        )
    found = evaluation.candidates(state, digits, **arguments)
    assert list(found) == ["", "average_"]
    # One iterate is its own average: the weights agree, the statistics are new.
    for iterate, average in zip(
        jax.tree.leaves(found[""]["params"]),
        jax.tree.leaves(found["average_"]["params"]),
        strict=True,
    ):
        np.testing.assert_array_equal(iterate, average)
    old = found[""]["batch_stats"]["ConvBlock_0"]["BatchNorm_0"]["var"]
    new = found["average_"]["batch_stats"]["ConvBlock_0"]["BatchNorm_0"]["var"]
    assert (np.asarray(old) != np.asarray(new)).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "resnet"}, "unknown model 'resnet'; choose one of: .*vgg_small"),
        ({"dataset": "cifar"}, "unknown dataset 'cifar'; choose one of: digits"),
        ({"batch_size": 5000}, "--batch-size must be at most 897"),
        ({"epochs": -1}, "--epochs must be at least 1"),
    ],
)
def test_a_task_is_checked_before_anything_is_computed(fields, message):
    with pytest.raises(ExperimentError, match=message):
        image.load(dataclasses.replace(TaskConfig(), **fields))
