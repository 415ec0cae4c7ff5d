"""Ten float64 steps of Ranger: centralised gradients, RAdam and Lookahead in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.reference import ranger
from tests.reference.problem import (
    STEPS,
    assert_close,
    constant,
    library_run,
    reference_run,
)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sync_period": 3, "slow_step_size": 0.2},
        {"sync_period": 1, "slow_step_size": 0.8},
        {"b1": 0.8, "b2": 0.99, "eps": 1e-2},
        # Never rectified in ten steps, and rectified from the fifth on.
        {"b2": 0.7},
        {"b2": 0.9},
    ],
    ids=str,
)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_ranger(options, weight_decay):
    tx = optax_ia.ranger(0.05, weight_decay=weight_decay, **options)
    expected = reference_run(
        ranger.ranger, constant(0.05), STEPS, decoupled=weight_decay, **options
    )
    assert_close(library_run(tx)[0], expected)


def test_the_schedule_scales_the_decay_too():
    tx = optax_ia.ranger(lambda count: 0.1 / (1 + count), weight_decay=0.3)
    expected = reference_run(ranger.ranger, lambda t: 0.1 / t, STEPS, decoupled=0.3)
    assert_close(library_run(tx)[0], expected)


def test_the_defaults():
    expected = reference_run(ranger.ranger, constant(1e-3), STEPS)
    assert_close(library_run(optax_ia.ranger())[0], expected)
    assert_close(library_run(optax_ia.get_optimizer("ranger"))[0], expected)


def test_mask_leaves_the_bias_undecayed():
    tx = optax_ia.ranger(0.05, weight_decay=0.5, mask={"kernel": True, "bias": False})
    decayed = reference_run(ranger.ranger, constant(0.05), STEPS, decoupled=0.5)
    plain = reference_run(ranger.ranger, constant(0.05), STEPS)
    assert_close(
        library_run(tx)[0], {"kernel": decayed["kernel"], "bias": plain["bias"]}
    )


def test_ten_steps_of_the_defaults_see_both_phases_of_radam():
    """Rectified from the sixth step on: rho_5 < 5 <= rho_6 at b2 = 0.999."""
    rho_inf = 2 / (1 - 0.999) - 1
    rho = [rho_inf - 2 * t * 0.999**t / (1 - 0.999**t) for t in (5, 6)]
    assert rho[0] < 5 <= rho[1]


def test_a_convolution_is_centralised_over_all_axes_but_the_last():
    rng = np.random.default_rng(7)
    start = rng.normal(size=(3, 3, 2, 4))
    gradients = 1 + rng.normal(size=(STEPS, *start.shape))
    tx = optax_ia.ranger(0.05, 4)
    params, update = jnp.asarray(start), jax.jit(tx.update)
    state, iterates = tx.init(params), []
    for g in gradients:
        updates, state = update(jnp.asarray(g), state, params)
        params = optax.apply_updates(params, updates)
        iterates.append(np.asarray(params))
    expected = ranger.ranger(
        start, lambda t, w: gradients[t - 1], constant(0.05), STEPS, sync_period=4
    )
    assert_close({"kernel": np.stack(iterates)}, {"kernel": np.stack(expected)})
