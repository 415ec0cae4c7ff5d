"""The exponential moving average: weights, debiasing, and small steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.averaging.test_tail_average import walk


def averaging_sgd(*args, **kwargs):
    return optax.chain(optax.sgd(1.0), optax_ia.ema_average(*args, **kwargs))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_debiased_weights(decay):
    params, state = walk(averaging_sgd(decay), 5)
    weights = np.array([decay**age for age in (4, 3, 2, 1, 0)])
    expected = np.dot(weights, [1, 2, 3, 4, 5]) / weights.sum()
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, params), expected, rtol=1e-12
    )


def test_without_debias_the_first_iterate_stands_for_the_past():
    params, state = walk(averaging_sgd(0.9, debias=False), 3)
    expected = 1.0
    for iterate in (2.0, 3.0):
        expected = 0.9 * expected + 0.1 * iterate
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, params), expected, rtol=1e-12
    )


def test_start_none_waits():
    tx = averaging_sgd(0.5, start=None)
    params, state = walk(
        tx, 4, between=lambda t, s: optax_ia.start_averaging(s, when=t == 2)
    )
    assert optax_ia.num_averaged(state) == 2
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, params), (0.5 * 3 + 4) / 1.5, rtol=1e-12
    )


@pytest.mark.parametrize("debias", [True, False])
def test_it_moves_in_bfloat16_at_a_decay_of_0_9999(debias):
    """One step moves the average by 1e-4 of the difference: not a bfloat16 number."""
    tx = optax.chain(optax.identity(), optax_ia.ema_average(0.9999, debias=debias))
    one = jnp.asarray(1.0, jnp.bfloat16)
    zero, two = jnp.zeros_like(one), one + one
    _, state = tx.update(zero, tx.init(one), one)
    _, state = tx.update(one, state, one)  # collects 1

    @jax.jit
    def stay_at_two(state):
        def body(state, _):
            _, state = tx.update(zero, state, two)
            return state, None

        return jax.lax.scan(body, state, length=999)[0]

    state = stay_at_two(state)
    weight = 0.9999**1000
    if debias:  # 1 is one of 1001 almost equal weights
        expected = 2 - weight * (1 - 0.9999) / (1 - 0.9999**1001)
    else:
        expected = 2 - weight
    average = optax_ia.averaged_params(state, two.astype(jnp.float32))
    np.testing.assert_allclose(average, expected, rtol=1e-5)
    assert optax_ia.averaged_params(state, two).dtype == jnp.bfloat16


def test_decay_may_be_traced_and_changed():
    tx = optax.inject_hyperparams(lambda decay: averaging_sgd(decay))(decay=0.5)
    params, state = walk(tx, 2)
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, params), (0.5 * 1 + 2) / 1.5, rtol=1e-12
    )
    state.hyperparams["decay"] = jnp.zeros_like(state.hyperparams["decay"])
    params, state = walk(tx, 1, state, params)
    np.testing.assert_allclose(optax_ia.averaged_params(state, params), 3.0)


def test_the_average_of_a_constant_is_the_constant_without_float64():
    """As most users run: the weight of the first iterate must be one, also here."""
    with jax.enable_x64(False):
        tx = optax.chain(optax.sgd(0.0), optax_ia.ema_average(0.9999))
        params = jnp.full(3, 7.0)
        state = tx.init(params)
        for _ in range(3):
            _, state = jax.jit(tx.update)(jnp.ones(3), state, params)
            np.testing.assert_allclose(
                optax_ia.averaged_params(state, params), params, rtol=1e-6
            )


@pytest.mark.parametrize("decay", [0.999, 0.9999, 0.99999])
def test_debiased_weights_without_float64(decay):
    with jax.enable_x64(False):
        tx = averaging_sgd(decay)
        params, state = walk(tx, 20)
        weights = np.array([decay**age for age in reversed(range(20))])
        expected = np.dot(weights, np.arange(1, 21)) / weights.sum()
        np.testing.assert_allclose(
            optax_ia.averaged_params(state, params), expected, rtol=2e-6
        )
