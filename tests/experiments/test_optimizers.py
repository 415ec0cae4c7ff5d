"""Assembly of the optimiser: rates, schedule, averaging, order."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia
from experiments.configs.p0.digits import PRESETS
from experiments.configs.settings import Rates, RunConfig
from experiments.errors import ExperimentError
from experiments.optimizers import (
    build_optimizer,
    check_optimizer,
    list_trainable,
    rates_of,
)
from optax_ia import registry

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
    for _ in range(config.epochs * steps_per_epoch):
        _, state = tx.update(params, state, params)
        report = optax_ia.diagnostics(state)
        seen.append(
            (float(report["learning_rate"]), int(report.get("num_averaged", 0)))
        )
    return np.array(seen).T


def test_all_are_those_that_need_gradients_only():
    names = list_trainable()
    assert {"sgd", "swa", "adamw", "padamw", "gadam", "gadamx"} <= set(names)
    assert all(registry.get_record(name).needs == () for name in names)


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


@pytest.mark.parametrize("name", list_trainable())
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
