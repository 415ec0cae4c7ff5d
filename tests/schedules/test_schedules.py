"""Schedules: corner values, traced counts, refusals, and the recorded rate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia


def test_linear_corners():
    rate = optax_ia.linear_schedule(0.1, 200)
    np.testing.assert_allclose(
        [rate(t) for t in (0, 100, 140, 180, 200, 10_000)],
        [0.1, 0.1, 0.1 * 0.505, 0.001, 0.001, 0.001],
        rtol=1e-12,
    )


def test_averaging_has_reached_its_rate_before_the_start():
    rate = optax_ia.averaging_schedule(0.1, 161)
    assert rate(0) == 0.1
    np.testing.assert_allclose(rate(145), 0.05, rtol=1e-12)
    np.testing.assert_allclose(rate(161), 0.05, rtol=1e-12)
    np.testing.assert_allclose(rate(300), 0.05, rtol=1e-12)


def test_the_middle_branch_does_not_jump():
    """As printed (t/T) it would; relative to T_avg it is continuous."""
    rate = optax_ia.averaging_schedule(1.0, 100)
    values = np.array([rate(t) for t in np.arange(0, 120, 0.5)])
    assert np.abs(np.diff(values)).max() < 0.01
    assert (np.diff(values) <= 0).all()


@pytest.mark.parametrize(
    "schedule",
    [
        optax_ia.linear_schedule(0.1, 20),
        optax_ia.averaging_schedule(0.1, 20),
        optax_ia.step_schedule(0.1, [5, 10]),
    ],
    ids=["linear", "averaging", "step"],
)
class TestEverySchedule:
    def test_traced_counts(self, schedule):
        counts = jnp.arange(30, dtype=jnp.int32)
        traced = jax.jit(jax.vmap(schedule))(counts)
        expected = [schedule(int(t)) for t in counts]
        np.testing.assert_allclose(traced, expected, rtol=1e-5)
        assert traced.shape == (30,)

    def test_drives_an_optimiser_and_is_reported(self, schedule):
        tx = optax_ia.gadam(schedule, start=1)
        params = jnp.ones(2)
        state = tx.init(params)
        update = jax.jit(tx.update)
        for t in range(15):
            _, state = update(params, state, params)
            read = optax_ia.diagnostics(state)["learning_rate"]
            np.testing.assert_allclose(read, schedule(t), rtol=1e-6)

    def test_works_under_inject_hyperparams(self, schedule):
        tx = optax.inject_hyperparams(optax_ia.padamw)(learning_rate=schedule)
        params = jnp.ones(2)
        state = tx.init(params)
        for t in range(12):
            _, state = jax.jit(tx.update)(params, state, params)
            read = optax_ia.diagnostics(state)["learning_rate"]
            np.testing.assert_allclose(read, schedule(t), rtol=1e-6)

    def test_without_float64(self, schedule):
        expected = [float(schedule(t)) for t in range(25)]
        with jax.enable_x64(False):
            values = jax.vmap(schedule)(jnp.arange(25))
            assert values.dtype == jnp.float32
            np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_the_recorded_rate_before_the_first_update():
    tx = optax_ia.scale_by_learning_rate(lambda count: 0.5 / (1 + count))
    state = tx.init(jnp.zeros(1))
    assert optax_ia.diagnostics(state)["learning_rate"] == 0.5
    for expected in (0.5, 0.25):
        updates, state = tx.update(jnp.ones(1), state)
        assert optax_ia.diagnostics(state)["learning_rate"] == expected
        np.testing.assert_array_equal(updates, [-expected])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optax_ia.linear_schedule(-0.1, 10), "init_value must be >= 0, got -0"),
        (lambda: optax_ia.linear_schedule(0.1, 0), "total must be > 0, got 0"),
        (
            lambda: optax_ia.linear_schedule(0.1, 10, final_scale=-1),
            "final_scale must be >= 0, got -1",
        ),
        (
            lambda: optax_ia.linear_schedule(0.1, 10, steps_per_epoch=0),
            "steps_per_epoch must be > 0, got 0",
        ),
        (lambda: optax_ia.averaging_schedule(0.1, 0), "start must be > 0, got 0"),
        (
            lambda: optax_ia.averaging_schedule(0.1, 5, averaging_value=-0.1),
            "averaging_value must be >= 0, got -0.1",
        ),
        (lambda: optax_ia.step_schedule(0.1, [5, 5]), r"boundaries .*got \[5, 5\]"),
        (lambda: optax_ia.step_schedule(0.1, [9, 5]), r"boundaries .*got \[9, 5\]"),
        (lambda: optax_ia.step_schedule(0.1, [0]), r"boundaries .*got \[0\]"),
        (lambda: optax_ia.step_schedule(0.1, [5], scale=0), "scale must be > 0, got 0"),
    ],
)
def test_construction_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_no_boundaries_is_a_constant():
    assert float(optax_ia.step_schedule(0.1, [])(1000)) == pytest.approx(0.1)
