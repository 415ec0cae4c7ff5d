"""Gadam with Lookahead: where the one ends and the other begins."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_ia
from tests.contract.problem import assert_trees_close, initial, make_step, run

OPTIONS = {"sync_period": 2, "weight_decay": 0.1}


def test_before_the_start_it_is_lookahead_of_adamw():
    tx = optax_ia.gadam_lookahead(0.1, start=100, **OPTIONS)
    base = optax_ia.lookahead(optax.adamw(0.1, weight_decay=0.1), 2)
    actual, state = run(jax.jit(make_step(tx)), initial(), tx.init(initial()))
    expected, _ = run(jax.jit(make_step(base)), initial(), base.init(initial()))
    assert_trees_close(actual, expected)
    assert optax_ia.num_averaged(state) == 0
    assert optax_ia.diagnostics(state)["sync_count"] == 3


def test_start_averaging_ends_lookahead_at_the_next_update():
    """Told to start after update 3, it is what ``start=4`` makes from the beginning."""
    waiting = optax_ia.gadam_lookahead(0.1, None, **OPTIONS)
    step = jax.jit(make_step(waiting))
    params, state = run(step, initial(), waiting.init(initial()), last=3)
    state = optax_ia.start_averaging(state)
    params, state = run(step, params, state, first=3)

    known = optax_ia.gadam_lookahead(0.1, start=4, **OPTIONS)
    expected, known_state = run(
        jax.jit(make_step(known)), initial(), known.init(initial())
    )
    assert_trees_close(params, expected)
    assert_trees_close(
        optax_ia.averaged_params(state, params),
        optax_ia.averaged_params(known_state, expected),
    )
    for state_of in (state, known_state):
        read = optax_ia.diagnostics(state_of)
        assert read["sync_count"] == 1
        assert read["num_averaged"] == 3


def test_the_iterates_that_are_averaged_are_plain_adamw():
    tx = optax_ia.gadam_lookahead(0.1, start=1, sync_period=1, weight_decay=0.1)
    plain = optax_ia.gadam(0.1, start=1, weight_decay=0.1)
    actual, state = run(jax.jit(make_step(tx)), initial(), tx.init(initial()))
    expected, other = run(jax.jit(make_step(plain)), initial(), plain.init(initial()))
    assert_trees_close(actual, expected)
    assert_trees_close(
        optax_ia.averaged_params(state, actual),
        optax_ia.averaged_params(other, expected),
    )


def test_start_may_be_traced():
    make = optax.inject_hyperparams(
        optax_ia.gadam_lookahead, static_args="accumulator_dtype"
    )
    tx = make(0.1, start=3, sync_period=2)
    params = {"w": jnp.ones(2)}
    state = tx.init(params)
    update = jax.jit(tx.update)
    state.hyperparams["start"] = jnp.full_like(state.hyperparams["start"], 5)
    for _ in range(8):
        updates, state = update(params, state, params)
        params = optax.apply_updates(params, updates)
    read = optax_ia.diagnostics(state)
    assert read["sync_count"] == 2
    assert read["num_averaged"] == 4
    assert np.isfinite(params["w"]).all()
