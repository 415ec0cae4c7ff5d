"""When the tail average collects, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.reference.averaging import collected

STEPS = 9


def walk(tx, steps, state=None, params=None, between=lambda t, state: state):
    """SGD with gradient -1 from 0: the iterate after update t is t."""
    update = jax.jit(tx.update)
    params = jnp.zeros(()) if params is None else params
    state = tx.init(params) if state is None else state
    for t in range(1, steps + 1):
        updates, state = update(-jnp.ones_like(params), state, params)
        params = optax.apply_updates(params, updates)
        state = between(t, state)
    return params, state


def averaging_sgd(*args, **kwargs):
    return optax.chain(optax.sgd(1.0), optax_ia.tail_average(*args, **kwargs))


@pytest.mark.parametrize("start", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("every", [1, 2, 3, 20])
def test_collects_at_start_and_every_kth_after(start, every):
    params, state = walk(averaging_sgd(start, every), STEPS)
    chosen = collected(STEPS, start, every)
    assert optax_ia.num_averaged(state) == len(chosen)
    expected = np.mean(chosen) if chosen else STEPS
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, params), expected, rtol=1e-14
    )


def test_before_the_start_the_params_are_returned():
    params, state = walk(averaging_sgd(5), 4)
    assert optax_ia.num_averaged(state) == 0
    assert optax_ia.averaged_params(state, params) == params == 4.0


def test_the_iterate_before_start_is_not_in_the_mean():
    params, state = walk(averaging_sgd(3), 3)
    assert optax_ia.averaged_params(state, params) == 3.0


@pytest.mark.parametrize("called_after", [0, 3, 4])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("traced", [False, True])
def test_start_none_waits_for_start_averaging(called_after, every, traced):
    def begin(state):
        return optax_ia.start_averaging(state)

    start = jax.jit(begin) if traced else begin
    tx = averaging_sgd(None, every)
    params = jnp.zeros(())
    state = tx.init(params)
    if called_after == 0:
        state = start(state)
    params, state = walk(
        tx,
        STEPS,
        state,
        params,
        lambda t, state: start(state) if t == called_after else state,
    )
    chosen = collected(STEPS, called_after + 1, every)
    assert optax_ia.num_averaged(state) == len(chosen)
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, params), np.mean(chosen), rtol=1e-14
    )


def test_start_none_never_starts_by_itself():
    params, state = walk(averaging_sgd(None), STEPS)
    assert optax_ia.num_averaged(state) == 0
    assert optax_ia.averaged_params(state, params) == params


def test_starting_again_changes_nothing():
    """A trigger that stays fired may be followed at every evaluation."""

    def begin(t, state):
        return optax_ia.start_averaging(state, when=t >= 3)

    params, state = walk(averaging_sgd(None, 2), STEPS, between=begin)
    chosen = collected(STEPS, 4, 2)
    assert optax_ia.num_averaged(state) == len(chosen)
    np.testing.assert_allclose(optax_ia.averaged_params(state, params), np.mean(chosen))


def test_when_false_changes_nothing_and_may_be_traced():
    tx = averaging_sgd(None)
    state = tx.init(jnp.zeros(()))
    begin = jax.jit(lambda state, when: optax_ia.start_averaging(state, when=when))
    chosen = {}
    for when in (False, True):
        after = begin(state, when)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        _, after = walk(tx, 3, after)
        chosen[when] = int(optax_ia.num_averaged(after))
    assert chosen == {False: 0, True: 3}
    assert begin._cache_size() == 1


def test_an_earlier_start_wins_over_a_later_one():
    params, state = walk(
        averaging_sgd(8),
        STEPS,
        between=lambda t, s: optax_ia.start_averaging(s) if t == 2 else s,
    )
    assert optax_ia.num_averaged(state) == STEPS - 2
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, params), np.mean(range(3, STEPS + 1))
    )


def test_updates_pass_through_unchanged():
    tx = optax_ia.tail_average(1)
    params = {"w": jnp.arange(3.0)}
    updates = {"w": jnp.array([0.1, -0.2, 0.3])}
    passed, _ = tx.update(updates, tx.init(params), params)
    assert passed["w"] is updates["w"] or bool((passed["w"] == updates["w"]).all())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_the_accumulator_is_float32(dtype):
    state = optax_ia.tail_average(1).init(jnp.ones(3, dtype))
    assert isinstance(state, optax_ia.IterateAverageState)
    assert state.base.dtype == state.offset.dtype == jnp.float32
    assert state.count.dtype == state.num_averaged.dtype == jnp.int32


def test_many_bfloat16_iterates_are_averaged_exactly():
    """A running mean in bfloat16 would stand still after a few hundred iterates."""
    tx = optax.chain(optax.identity(), optax_ia.tail_average(1))

    @jax.jit
    def run(params, state):
        def body(carry, t):
            params, state = carry
            grads = jnp.where(t % 2 == 0, 1.0, -1.0).astype(params.dtype) * 0.5
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(body, (params, state), jnp.arange(2000))[0]

    params = jnp.asarray(1.0, jnp.bfloat16)
    params, state = run(params, tx.init(params))
    assert params == 1.0  # the iterates are 1.5, 1, 1.5, 1, ...
    average = optax_ia.averaged_params(state, params.astype(jnp.float32))
    np.testing.assert_allclose(average, 1.25, rtol=1e-6)


def test_a_nan_before_the_start_does_not_leak():
    tx = optax.chain(optax.identity(), optax_ia.tail_average(2))
    params = jnp.array(jnp.nan)
    state = tx.init(params)
    _, state = tx.update(jnp.array(jnp.nan), state, params)
    params = jnp.array(1.0)
    updates, state = jax.jit(tx.update)(jnp.array(1.0), state, params)
    params = optax.apply_updates(params, updates)
    assert optax_ia.averaged_params(state, params) == 2.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optax_ia.tail_average(-1), r"start must be >= 0, got -1"),
        (lambda: optax_ia.tail_average(1.5), r"start must be a whole number, got 1.5"),
        (lambda: optax_ia.tail_average(1, 0), r"every must be >= 1, got 0"),
        (lambda: optax_ia.tail_average(1, 2.5), r"every .* got 2.5"),
        (
            lambda: optax_ia.tail_average(1, accumulator_dtype=jnp.int32),
            r"accumulator_dtype .*int32",
        ),
        (lambda: optax_ia.ema_average(1.0), r"decay must be < 1, got 1.0"),
        (lambda: optax_ia.ema_average(-0.1), r"decay must be >= 0, got -0.1"),
        (lambda: optax_ia.ema_average(float("nan")), r"decay .* got nan"),
        (lambda: optax_ia.ema_average(0.9, every=0), r"every must be >= 1, got 0"),
        (lambda: optax_ia.ema_average(0.9, start=-2), r"start must be >= 0, got -2"),
    ],
)
def test_construction_errors_name_argument_bound_and_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make", [lambda: optax_ia.tail_average(1), lambda: optax_ia.ema_average(0.9)]
)
def test_update_without_params_says_what_is_missing(make):
    tx = make()
    with pytest.raises(ValueError, match="param"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
