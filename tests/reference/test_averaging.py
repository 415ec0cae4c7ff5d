"""Averages, Lookahead and the averaged optimisers against plain NumPy."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.reference import adaptive, averaging
from tests.reference.problem import (
    PARAMS,
    STEPS,
    assert_close,
    constant,
    gradient,
    library_run,
    reference_run,
)

WIDE = {"accumulator_dtype": jnp.float64}


def assert_average(state, params, iterates, start, every):
    """Asserts the read-out against the plain mean of the reference's iterates."""
    expected = {n: averaging.tail_mean(i, start, every) for n, i in iterates.items()}
    assert_close(optax_ia.averaged_params(state, params), expected)
    count = len(averaging.collected(STEPS, start, every))
    assert int(optax_ia.num_averaged(state)) == count


@pytest.mark.parametrize(
    ("start", "every"), [(1, 1), (4, 1), (3, 2), (2, 3), (10, 1), (0, 1), (0, 4)]
)
def test_tail_average_of_sgd(start, every):
    tx = optax.chain(
        optax.sgd(0.1, momentum=0.9),
        optax_ia.tail_average(start, every, **WIDE),
    )
    iterates, params, state = library_run(tx)
    expected = reference_run(adaptive.sgd, constant(0.1), STEPS, momentum=0.9)
    assert_close(iterates, expected)
    assert_average(state, params, expected, start, every)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
@pytest.mark.parametrize(("start", "every"), [(0, 1), (4, 1), (3, 2)])
def test_debiased_ema_of_sgd(decay, start, every):
    tx = optax.chain(
        optax.sgd(0.1),
        optax_ia.ema_average(decay, start=start, every=every, **WIDE),
    )
    _, params, state = library_run(tx)
    iterates = reference_run(adaptive.sgd, constant(0.1), STEPS)
    expected = {
        n: averaging.debiased_ema(i, decay, start, every) for n, i in iterates.items()
    }
    # 1 - decay**n loses four digits at decay 0.9999; they are no fault of the rule.
    rtol = 1e-12 if decay < 0.99 else 1e-11
    assert_close(optax_ia.averaged_params(state, params), expected, rtol)


@pytest.mark.parametrize("nesterov", [False, True])
def test_swa(nesterov):
    tx = optax_ia.swa(
        0.05, 3, 2, weight_decay=0.1, momentum=0.8, nesterov=nesterov, **WIDE
    )
    iterates, params, state = library_run(tx)
    expected = reference_run(
        adaptive.sgd, constant(0.05), STEPS, momentum=0.8, nesterov=nesterov, l2=0.1
    )
    assert_close(iterates, expected)
    assert_average(state, params, expected, 3, 2)


def test_gadam():
    tx = optax_ia.gadam(0.01, 4, 3, weight_decay=0.25, **WIDE)
    iterates, params, state = library_run(tx)
    expected = reference_run(
        adaptive.padam_family,
        constant(0.01),
        STEPS,
        partial=0.5,
        amsgrad=False,
        decoupled=0.25,
    )
    assert_close(iterates, expected)
    assert_average(state, params, expected, 4, 3)


def test_gadam_defaults_are_the_papers():
    tx = optax_ia.gadam(start=1, **WIDE)
    iterates, params, state = library_run(tx)
    expected = reference_run(
        adaptive.padam_family,
        constant(1e-3),
        STEPS,
        partial=0.5,
        amsgrad=False,
        decoupled=1e-4,
    )
    assert_close(iterates, expected)
    assert_average(state, params, expected, 1, 1)


@pytest.mark.parametrize("correction", ["power", "sqrt"])
@pytest.mark.parametrize("amsgrad", [True, False])
@pytest.mark.parametrize("partial", [0.125, 0.2])
def test_gadamx(correction, amsgrad, partial):
    options = {"partial": partial, "amsgrad": amsgrad, "correction": correction}
    tx = optax_ia.gadamx(0.05, 5, 2, weight_decay=0.25, **WIDE, **options)
    iterates, params, state = library_run(tx)
    expected = reference_run(
        adaptive.padam_family, constant(0.05), STEPS, decoupled=0.25, **options
    )
    assert_close(iterates, expected)
    assert_average(state, params, expected, 5, 2)


def test_gadamx_defaults_are_the_papers():
    tx = optax_ia.gadamx(start=2, **WIDE)
    iterates, params, state = library_run(tx)
    expected = reference_run(
        adaptive.padam_family, constant(0.1), STEPS, partial=0.125, decoupled=1e-4
    )
    assert_close(iterates, expected)
    assert_average(state, params, expected, 2, 1)


@pytest.mark.parametrize(
    ("sync_period", "slow_step_size", "stop"),
    [(5, 0.5, None), (3, 0.5, None), (3, 0.2, 7), (2, 0.8, 6), (1, 0.5, None)],
)
def test_lookahead_of_adam(sync_period, slow_step_size, stop):
    tx = optax_ia.lookahead(optax.adam(0.05), sync_period, slow_step_size, stop=stop)
    expected = {
        name: averaging.lookahead(
            averaging.adam_step(gradient(name), constant(0.05)),
            w,
            STEPS,
            sync_period=sync_period,
            slow_step_size=slow_step_size,
            stop=stop,
        )
        for name, w in PARAMS.items()
    }
    assert_close(library_run(tx)[0], expected)


@pytest.mark.parametrize("start", [4, 6, 7])
def test_gadam_lookahead(start):
    tx = optax_ia.gadam_lookahead(
        0.05, start, 1, weight_decay=0.25, sync_period=3, slow_step_size=0.4, **WIDE
    )
    iterates, params, state = library_run(tx)
    expected = {
        name: averaging.lookahead(
            averaging.adam_step(gradient(name), constant(0.05), decoupled=0.25),
            w,
            STEPS,
            sync_period=3,
            slow_step_size=0.4,
            stop=start,
        )
        for name, w in PARAMS.items()
    }
    assert_close(iterates, expected)
    assert_average(state, params, expected, start, 1)


def test_the_running_mean_stays_exact_over_many_steps():
    steps = 60
    tx = optax.chain(optax.sgd(0.1), optax_ia.tail_average(7, **WIDE))
    _, params, state = library_run(tx, steps)
    iterates = reference_run(adaptive.sgd, constant(0.1), steps)
    expected = {n: averaging.tail_mean(i, 7) for n, i in iterates.items()}
    assert_close(optax_ia.averaged_params(state, params), expected)
    assert np.asarray(optax_ia.num_averaged(state)) == 54
