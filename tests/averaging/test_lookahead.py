"""Our Lookahead against Optax's, and where Optax's cannot go."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.contract.problem import (
    assert_trees_close,
    gradients,
    initial,
    make_step,
    run,
)

STEPS = 6


@pytest.mark.parametrize("sync_period", [1, 2, 3])
@pytest.mark.parametrize("slow_step_size", [0.5, 0.8, 1.0])
def test_trajectory_is_that_of_optax(sync_period, slow_step_size):
    base = optax.adam(0.1)
    ours = optax_ia.lookahead(base, sync_period, slow_step_size)
    params, _ = run(jax.jit(make_step(ours)), initial(), ours.init(initial()))

    theirs = optax.lookahead(base, sync_period, slow_step_size)
    pair = optax.LookaheadParams.init_synced(initial())
    state = theirs.init(pair)
    for t in range(STEPS):
        updates, state = theirs.update(gradients(pair.fast, t), state, pair)
        pair = optax.apply_updates(pair, updates)
    assert_trees_close(params, pair.fast)


def test_a_step_size_of_one_is_the_inner_optimiser():
    base = optax.adam(0.1)
    ours = optax_ia.lookahead(base, 2, 1.0)
    actual, _ = run(make_step(ours), initial(), ours.init(initial()))
    expected, _ = run(make_step(base), initial(), base.init(initial()))
    assert_trees_close(actual, expected)


def test_after_stop_it_is_the_inner_optimiser():
    base = optax.sgd(0.1)
    ours = optax_ia.lookahead(base, 2, 0.5, stop=4)
    params, state = run(make_step(ours), initial(), ours.init(initial()), last=3)
    expected, _ = run(make_step(base), params, base.init(params), first=3)
    actual, _ = run(make_step(ours), params, state, first=3)
    assert_trees_close(actual, expected)


@pytest.mark.parametrize("stop", [0, 1])
def test_stop_at_once(stop):
    base = optax.sgd(0.1)
    ours = optax_ia.lookahead(base, 1, 0.5, stop=stop)
    actual, _ = run(make_step(ours), initial(), ours.init(initial()))
    expected, _ = run(make_step(base), initial(), base.init(initial()))
    assert_trees_close(actual, expected)


def test_extra_arguments_reach_the_inner_transformation():
    seen = []

    def update(updates, state, params=None, **extra_args):
        seen.append(extra_args)
        return updates, state

    inner = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
    tx = optax_ia.lookahead(inner)
    params = jnp.ones(2)
    tx.update(params, tx.init(params), params, value=1.0, other="x")
    assert seen == [{"value": 1.0, "other": "x"}]


def test_an_inner_transformation_without_extra_arguments():
    inner = optax.GradientTransformation(
        lambda params: optax.EmptyState(), lambda g, state, params=None: (g, state)
    )
    tx = optax_ia.lookahead(inner)
    params = jnp.ones(2)
    updates, _ = tx.update(params, tx.init(params), params, value=1.0)
    np.testing.assert_array_equal(updates, params)


def test_off_sync_the_update_is_selected_not_multiplied_by_zero():
    """The inner update passes as it is, also where slow + (fast - slow) is NaN."""
    tx = optax_ia.lookahead(optax.sgd(1.0), 2)
    params = jnp.float32(1.0)
    state = tx.init(params)
    updates, state = tx.update(jnp.float32(jnp.inf), state, params)
    assert updates == -jnp.inf
    updates, state = tx.update(jnp.float32(1.0), state, params)
    assert jnp.isfinite(optax.apply_updates(params, updates))


def test_sync_count_is_reported():
    tx = optax_ia.lookahead(optax.sgd(0.1), 2)
    _, state = run(make_step(tx), initial(), tx.init(initial()), last=5)
    assert optax_ia.diagnostics(state)["sync_count"] == 2


def test_sync_period_and_step_size_may_be_traced():
    def factory(learning_rate, sync_period, slow_step_size):
        return optax_ia.lookahead(optax.sgd(learning_rate), sync_period, slow_step_size)

    injected = optax.inject_hyperparams(factory)(0.1, 3, 0.5)
    static = factory(0.1, 3, 0.5)
    actual, state = run(
        jax.jit(make_step(injected)), initial(), injected.init(initial())
    )
    expected, _ = run(make_step(static), initial(), static.init(initial()))
    assert_trees_close(actual, expected)
    assert set(state.hyperparams) == {"learning_rate", "sync_period", "slow_step_size"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: optax_ia.lookahead(optax.sgd(0.1), 0),
            "sync_period must be >= 1, got 0",
        ),
        (lambda: optax_ia.lookahead(optax.sgd(0.1), 2.5), "sync_period .* got 2.5"),
        (
            lambda: optax_ia.lookahead(optax.sgd(0.1), 5, 1.5),
            "slow_step_size must be <= 1, got 1.5",
        ),
        (
            lambda: optax_ia.lookahead(optax.sgd(0.1), stop=-1),
            "stop must be >= 0, got -1",
        ),
    ],
)
def test_construction_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_update_without_params_says_what_is_missing():
    tx = optax_ia.lookahead(optax.sgd(0.1))
    with pytest.raises(ValueError, match="param"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
