"""Padam's limits, its traced power, the two corrections, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.contract.problem import (
    assert_trees_close,
    initial,
    make_step,
    run,
)


def trajectory(tx, dtype=jnp.float64):
    params = initial(dtype)
    return run(jax.jit(make_step(tx)), params, tx.init(params))[0]


def assert_same_trajectory(ours, theirs, rtol=1e-12):
    assert_trees_close(trajectory(ours), trajectory(theirs), rtol=rtol, atol=1e-14)


def test_one_half_is_amsgrad():
    assert_same_trajectory(
        optax_ia.padam(0.1, partial=0.5, amsgrad=True), optax.amsgrad(0.1)
    )


def test_one_half_without_maximum_is_adam():
    assert_same_trajectory(
        optax_ia.padam(0.1, partial=0.5, amsgrad=False), optax.adam(0.1)
    )


def test_padamw_at_one_half_is_adamw():
    assert_same_trajectory(
        optax_ia.padamw(0.1, partial=0.5, amsgrad=False, weight_decay=0.3),
        optax.adamw(0.1, weight_decay=0.3),
    )


@pytest.mark.parametrize("correction", ["power", "sqrt"])
def test_zero_is_sgd_with_a_moving_average(correction):
    """Bias-corrected for "power"; "sqrt" keeps its factor sqrt(1 - b2^t)."""
    ours = optax_ia.padam(0.1, partial=0.0, correction=correction)
    theirs = optax.chain(optax.ema(0.9, debias=True), optax.scale(-0.1))
    if correction == "sqrt":
        factor = optax.scale_by_schedule(lambda t: jnp.sqrt(1 - 0.999 ** (t + 1)))
        theirs = optax.chain(theirs, factor)
    assert_same_trajectory(ours, theirs)


def test_corrections_agree_in_the_long_run_and_differ_in_the_first_step():
    params = jnp.ones(3)
    grads = jnp.full(3, 0.5)
    ratio = {}
    for steps in (1, 20_000):
        updates = {}
        for correction in ("power", "sqrt"):
            tx = optax_ia.scale_by_padam(correction=correction)

            def body(state, _, tx=tx):
                updates, state = tx.update(grads, state)
                return state, updates

            _, history = jax.lax.scan(body, tx.init(params), length=steps)
            updates[correction] = history[-1]
        ratio[steps] = float(updates["power"][0] / updates["sqrt"][0])
    np.testing.assert_allclose(ratio[1], 0.001**-0.375, rtol=1e-6)  # 13.3
    np.testing.assert_allclose(ratio[20_000], 1.0, rtol=1e-6)


def test_the_maximum_runs_over_the_corrected_moment():
    """A large first gradient stays in the maximum with its correction, as in optax."""
    gradients = [jnp.array([g]) for g in (10.0, 0.1, 0.1, 0.1)]
    ours, theirs = optax_ia.scale_by_padam(partial=0.5), optax.scale_by_amsgrad()
    state, other = ours.init(gradients[0]), theirs.init(gradients[0])
    for g in gradients:
        updates, state = ours.update(g, state)
        expected, other = theirs.update(g, other)
        np.testing.assert_allclose(updates, expected, rtol=1e-12)
    np.testing.assert_allclose(state.nu_max, [100.0], rtol=1e-12)


@pytest.mark.parametrize("partial", [0.0, 0.125, 0.2, 0.25, 0.5])
@pytest.mark.parametrize("correction", ["power", "sqrt"])
def test_a_traced_power_equals_the_static_one(partial, correction):
    def final(partial):
        tx = optax_ia.padam(0.1, partial=partial, correction=correction)
        params = initial(jnp.float64)
        return run(make_step(tx), params, tx.init(params))[0]

    static = jax.jit(lambda: final(partial))()
    assert_trees_close(jax.jit(final)(partial), static, rtol=1e-11, atol=1e-13)


def test_the_power_can_be_differentiated_and_batched():
    grads = jnp.array([2.0, 0.5])

    def size(partial):
        tx = optax_ia.scale_by_padam(partial=partial)
        return jnp.sum(tx.update(grads, tx.init(grads))[0])

    powers = jnp.array([0.0, 0.1, 0.5])
    np.testing.assert_allclose(
        jax.vmap(size)(powers),
        [(grads / grads ** (2 * p)).sum() for p in powers],
        rtol=1e-6,
    )
    assert jnp.isfinite(jax.grad(size)(0.2))


@pytest.mark.parametrize("partial", [0.0, 0.125, 0.2, 0.5])
@pytest.mark.parametrize("eps", [0.0, 1e-8])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_zero_gradients_give_zero_updates_even_without_eps(partial, eps, dtype):
    tx = optax_ia.scale_by_padam(eps=eps, partial=partial)
    zeros = jnp.zeros(3, dtype)
    state = tx.init(zeros)
    for _ in range(3):
        updates, state = jax.jit(tx.update)(zeros, state)
        np.testing.assert_array_equal(updates, zeros)


def test_moments_in_mu_dtype():
    params = initial(jnp.float32)
    tx = optax_ia.scale_by_padam(mu_dtype=jnp.bfloat16)
    state = tx.init(params)
    updates, new = tx.update(params, state)
    for tree, dtype in (
        (state.mu, jnp.bfloat16),
        (new.mu, jnp.bfloat16),
        (state.nu, jnp.float32),
        (new.nu, jnp.float32),
        (updates, jnp.float32),
    ):
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(tree))


def test_amsgrad_costs_one_tree_of_state():
    params = initial()
    leaves = {
        amsgrad: jax.tree.leaves(optax_ia.scale_by_padam(amsgrad=amsgrad).init(params))
        for amsgrad in (False, True)
    }
    extra = len(leaves[True]) - len(leaves[False])
    assert extra == len(jax.tree.leaves(params))


def test_l2_decay_goes_through_the_moments_and_decoupled_does_not():
    params = {"w": jnp.array([3.0, 0.03])}
    zeros = {"w": jnp.zeros(2)}
    updates = {}
    for make in (optax_ia.padam, optax_ia.padamw):
        tx = make(0.1, weight_decay=0.5, partial=0.5)
        updates[make] = tx.update(zeros, tx.init(params), params)[0]["w"]
    np.testing.assert_allclose(updates[optax_ia.padam], [-0.1, -0.1], rtol=1e-5)
    np.testing.assert_allclose(updates[optax_ia.padamw], [-0.15, -0.0015], rtol=1e-12)


@pytest.mark.parametrize(
    "make", [optax_ia.scale_by_padam, optax_ia.padam, optax_ia.padamw, optax_ia.gadamx]
)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"partial": 0.7}, r"partial must be <= 0.5, got 0.7"),
        ({"partial": -0.1}, r"partial must be >= 0, got -0.1"),
        ({"partial": np.float32(0.75)}, r"partial must be <= 0.5, got .*0.75"),
        ({"b1": 1.0}, r"b1 must be < 1, got 1.0"),
        ({"b1": -0.5}, r"b1 must be >= 0, got -0.5"),
        ({"b2": 1}, r"b2 must be < 1, got 1"),
        ({"b2": float("nan")}, r"b2 .* got nan"),
        ({"eps": -1e-8}, r"eps must be >= 0, got -1e-08"),
        ({"eps_root": -1.0}, r"eps_root must be >= 0, got -1.0"),
        ({"correction": "x"}, r"correction must be one of 'power', 'sqrt', got 'x'"),
    ],
)
def test_construction_errors_name_argument_bound_and_value(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize(
    "make", [optax_ia.padam, optax_ia.padamw, optax_ia.swa, optax_ia.gadam]
)
def test_negative_rates_and_decays_are_refused(make):
    with pytest.raises(ValueError, match=r"learning_rate must be >= 0, got -0.1"):
        make(-0.1)
    with pytest.raises(ValueError, match=r"weight_decay must be >= 0, got -1"):
        make(0.1, weight_decay=-1)


@pytest.mark.parametrize("value", ["0.1", None])
def test_what_is_no_number_is_refused(value):
    with pytest.raises((TypeError, ValueError), match="partial"):
        optax_ia.scale_by_padam(partial=value)
