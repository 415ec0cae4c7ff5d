"""Schedules against equations 12 and 13 and the step decay, at every step."""

import jax
import numpy as np
import pytest

import optax_ia
from tests.reference import schedules


def rates(schedule, steps):
    """The schedule at 0 .. steps - 1, eagerly and under jit."""
    eager = [schedule(t) for t in range(steps)]
    traced = jax.jit(jax.vmap(schedule))(np.arange(steps))
    np.testing.assert_allclose(np.asarray(eager), traced, rtol=1e-12)
    return np.asarray(traced)


@pytest.mark.parametrize(("init", "total", "scale"), [(0.1, 300, 0.01), (2.0, 7, 0.5)])
def test_linear(init, total, scale):
    schedule = optax_ia.linear_schedule(init, total, final_scale=scale)
    expected = [schedules.linear(t, init, total, scale) for t in range(total + 20)]
    np.testing.assert_allclose(rates(schedule, total + 20), expected, rtol=1e-12)


def test_linear_default_scale():
    schedule = optax_ia.linear_schedule(0.3, 50)
    expected = [schedules.linear(t, 0.3, 50) for t in range(60)]
    np.testing.assert_allclose(rates(schedule, 60), expected, rtol=1e-12)


@pytest.mark.parametrize("value", [None, 0.05, 0.4])
def test_averaging(value):
    schedule = optax_ia.averaging_schedule(0.2, 161, averaging_value=value)
    expected = [schedules.averaging(t, 0.2, 161, value) for t in range(200)]
    np.testing.assert_allclose(rates(schedule, 200), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_step(scale):
    schedule = optax_ia.step_schedule(0.1, [5, 9], scale=scale)
    expected = [schedules.step(t, 0.1, [5, 9], scale) for t in range(15)]
    np.testing.assert_allclose(rates(schedule, 15), expected, rtol=1e-12)


def test_step_default_scale_is_a_tenth():
    schedule = optax_ia.step_schedule(1.0, (150, 250))
    np.testing.assert_allclose(
        [schedule(t) for t in (0, 149, 150, 249, 250)],
        [1.0, 1.0, 0.1, 0.1, 0.01],
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("make", "reference"),
    [
        (
            lambda s: optax_ia.linear_schedule(0.1, 20, steps_per_epoch=s),
            lambda t: schedules.linear(t, 0.1, 20),
        ),
        (
            lambda s: optax_ia.averaging_schedule(0.1, 20, steps_per_epoch=s),
            lambda t: schedules.averaging(t, 0.1, 20),
        ),
        (
            lambda s: optax_ia.step_schedule(0.1, [8, 15], steps_per_epoch=s),
            lambda t: schedules.step(t, 0.1, [8, 15]),
        ),
    ],
    ids=["linear", "averaging", "step"],
)
def test_steps_per_epoch_reads_the_other_numbers_as_epochs(make, reference):
    schedule = make(7)
    for epoch in range(25):
        np.testing.assert_allclose(schedule(7 * epoch), reference(epoch), rtol=1e-12)
