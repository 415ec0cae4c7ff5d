"""Assembly of the optimiser: rates, schedule, averaging, order."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia
from experiments.configs.p0.digits import PRESETS
from experiments.configs.p4 import digits as p4
from experiments.configs.settings import (
    DampedRates,
    Rates,
    RunConfig,
    TaskConfig,
    fields_of,
)
from experiments.errors import ExperimentError
from experiments.optimizers import (
    build_optimizer,
    check_optimizer,
    damping_of,
    rates_of,
)
from optax_ia import registry
from tests.contract.cases import local_quadratic

TUNED = {name: Rates(rate, 0.5) for name, rate in (("sgd", 1), ("adamw", 2))}


def run_of(name, **fields):
    rate, decay = rates_of(name, PRESETS["small"].tuned)
    return RunConfig(
        optimizer=name, epochs=10, learning_rate=rate, weight_decay=decay, **fields
    )


def learning_rates_and_counts(config, steps_per_epoch):
    """Rate and number averaged after each of the run's updates."""
    tx = build_optimizer(config, steps_per_epoch)
    params = jnp.ones(3, jnp.float32)
    state = tx.init(params)
    seen = []
    extra = local_quadratic(params, params)
    needs = registry.get_record(config.optimizer).needs
    for _ in range(config.epochs * steps_per_epoch):
        given = {name: extra[name] for name in needs}
        _, state = tx.update(params, state, params, **given)
        report = optax_ia.diagnostics(state)
        seen.append(
            (float(report["learning_rate"]), int(report.get("num_averaged", 0)))
        )
    return np.array(seen).T


def test_periods_that_mean_an_epoch_are_one():
    """Trial step sizes double, and snapshots recur, every ``steps_per_epoch`` steps."""
    accepting = {"value": 0.0, "value_fn": lambda params: -1e30}
    params = jnp.ones(3, jnp.float32)
    tx = build_optimizer(run_of("sls"), 3)
    state, rates = tx.init(params), []
    for _ in range(7):
        _, state = tx.update(params, state, params, **accepting)
        rates.append(float(optax_ia.diagnostics(state)["learning_rate"]))
    np.testing.assert_allclose(rates[::3], rates[0] * np.array([1, 2, 4]), rtol=1e-6)

    tx = build_optimizer(run_of("svrg_sgd"), 3)
    state, due = tx.init(params), []
    for _ in range(7):
        due.append(bool(optax_ia.svrg_snapshot_due(state)))
        _, state = tx.update(
            params, state, params, grad_fn=lambda w: w, full_gradient=params
        )
    assert due == [True, False, False, True, False, False, True]


def test_an_optimiser_without_decay_refuses_one():
    config = dataclasses.replace(run_of("sls"), weight_decay=0.1)
    with pytest.raises(ExperimentError, match="sls has no weight decay"):
        build_optimizer(config, 3)


def test_a_damping_is_tuned_for_its_optimiser_and_refused_by_others():
    tuned = {**TUNED, "kfac": DampedRates(0.1, 0.0, 0.7)}
    assert damping_of("kfac", tuned) == 0.7
    assert damping_of("kfac", TUNED) is damping_of("sgd", tuned) is None
    config = dataclasses.replace(run_of("sgd"), damping=0.1)
    with pytest.raises(ExperimentError, match="sgd has no damping"):
        build_optimizer(config, 3)


def test_a_damping_reaches_the_rule_and_the_record():
    params = {"kernel": jnp.ones((2, 1))}
    factors = {"": optax_ia.KfacFactors(jnp.eye(2), jnp.eye(1))}
    for damping in (0.5, 2.0):
        config = RunConfig(
            optimizer="kfac",
            learning_rate=1.0,
            weight_decay=0.0,
            damping=damping,
        )
        assert json.loads(config.to_json())["damping"] == damping
        tx = build_optimizer(config, 3)
        step, _ = tx.update(params, tx.init(params), params, kfac_factors=factors)
        np.testing.assert_allclose(step["kernel"], -1 / (1 + damping), rtol=1e-5)
    assert "damping" not in json.loads(RunConfig().to_json())


def test_averaging_optimisers_inherit_from_their_base():
    # P0 B.2: swa from sgd, gadam from adamw, gadamx from padamw.
    assert rates_of("swa", TUNED) == (1, 0.5)
    assert rates_of("gadam", TUNED) == rates_of("gadam_auto", TUNED) == (2, 0.5)
    tuned = PRESETS["small"].tuned
    assert rates_of("gadamx", tuned) == dataclasses.astuple(tuned["padamw"])
    # Not tuned: the registry's rate, and its decay left alone.
    assert rates_of("adam", TUNED) == (1e-3, None)


def test_without_average_the_rate_falls_to_a_hundredth():
    config = run_of("sgd")
    rates, counts = learning_rates_and_counts(config, steps_per_epoch=4)
    assert rates[0] == pytest.approx(config.learning_rate)
    assert rates[20] == pytest.approx(config.learning_rate)
    assert rates[-1] == pytest.approx(0.01 * config.learning_rate, rel=1e-5)
    assert not counts.any()


def test_with_average_half_the_rate_is_held_and_every_epoch_collected():
    config = run_of("gadamx")
    rates, counts = learning_rates_and_counts(config, steps_per_epoch=4)
    assert config.averaging_epoch == 6
    np.testing.assert_allclose(rates[24:], config.learning_rate / 2, rtol=1e-6)
    epochs = counts.reshape(10, 4)
    np.testing.assert_array_equal(epochs[:, -1], [0] * 5 + [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(epochs[1:, 0], epochs[:-1, -1])


def test_gadam_auto_keeps_its_rate():
    config = run_of("gadam_auto")
    rates, _ = learning_rates_and_counts(config, steps_per_epoch=2)
    np.testing.assert_allclose(rates, config.learning_rate, rtol=1e-6)


@pytest.mark.parametrize("name", optax_ia.list_optimizers())
def test_every_entry_is_built_once_per_configuration(name):
    config = run_of(name)
    assert build_optimizer(config, 3) is build_optimizer(run_of(name), 3)
    rates, _ = learning_rates_and_counts(config, steps_per_epoch=3)
    assert np.isfinite(rates).all()


def test_gradients_are_clipped_before_the_rule():
    params = jnp.zeros(2, jnp.float32)
    config = dataclasses.replace(run_of("sgd"), weight_decay=0.0, clip_norm=1.0)
    tx = build_optimizer(config, 3)
    updates, _ = tx.update(
        jnp.array([30.0, 40.0], jnp.float32), tx.init(params), params
    )
    np.testing.assert_allclose(
        updates, -config.learning_rate * np.array([0.6, 0.8]), rtol=1e-5
    )


def test_unknown_optimiser_names_the_choices():
    with pytest.raises(ExperimentError, match="unknown optimizer 'adamm'.*gadamx.*all"):
        check_optimizer("adamm")


@pytest.mark.parametrize("name", ["sgd", "swa"])
def test_step_decay_multiplies_the_rate_every_so_many_epochs(name):
    config = run_of(name, schedule="step", decay_every=4)
    rates, _ = learning_rates_and_counts(config, 2)
    expected = config.learning_rate * np.repeat([1, 0.5, 0.25], [8, 8, 4])
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_a_rate_that_is_its_own_affair_takes_no_step_decay():
    """RMSGD's first rate is the one it is given, whatever the schedule."""
    config = run_of("rmsgd", schedule="step", decay_every=1)
    rates, _ = learning_rates_and_counts(config, 2)
    assert rates[0] == pytest.approx(config.learning_rate)


def test_records_from_before_a_field_name_the_same_runs():
    plain = json.loads(RunConfig().to_json())
    later = {"damping", "schedule", "decay_every", "decay_factor", "cutout", "width"}
    assert not later & set(plain)
    changed = RunConfig(schedule="step", cutout=4, width=8)
    assert json.loads(changed.to_json()) == plain | {
        "schedule": "step",
        "cutout": 4,
        "width": 8,
    }


def test_everything_in_p4s_comparison_can_be_built():
    preset = PRESETS["rmsgd"]
    assert set(preset.optimizers) == set(p4.RATES) == set(p4.REPORTED)
    for name in preset.optimizers:
        rate, decay = rates_of(name, preset.tuned)
        run = RunConfig(
            **fields_of(preset, TaskConfig),
            optimizer=name,
            learning_rate=rate,
            weight_decay=decay,
        )
        build_optimizer(run, 14)
        # as in the paper: the same decay for all but the line search, which has none
        assert decay == (None if name == "sls" else 5e-4)
