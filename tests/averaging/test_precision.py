"""Averages of very many iterates, in float32 as users run them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia

LARGEST = np.iinfo(np.int32).max
SIZE = 64


@pytest.fixture(autouse=True)
def without_float64():
    with jax.enable_x64(False):
        yield


def collect_many(tx, state, iterate, steps):
    """The state after ``steps`` more updates, with ``iterate(t)`` as parameters."""

    @jax.jit
    def run(state):
        def body(t, state):
            w = iterate(t)
            return tx.update(jnp.zeros_like(w), state, w)[1]

        return jax.lax.fori_loop(0, steps, body, state)

    return run(state)


def after_many_at_one(tx, count):
    """The state after ``count`` iterates at 1, with the next one pending."""
    state = tx.init(jnp.ones(2))
    for _ in range(3):
        _, state = tx.update(jnp.zeros(2), state, jnp.ones(2))
    return state._replace(
        num_averaged=jnp.int32(count),
        weight=jnp.float32(1 / (count + 1)),
        num_in_offset=jnp.int32(0),
    )


@pytest.mark.parametrize("count", [10**7, 10**8, 10**9])
def test_iterates_at_another_value_move_the_mean_of_very_many(count):
    """A running mean in float32 stays at 1."""
    tx, more = optax_ia.tail_average(1), 10**5
    state = collect_many(
        tx, after_many_at_one(tx, count), lambda t: jnp.full(2, 1.5), more
    )
    assert state.num_averaged == count + more
    average = np.float64(state.base) + np.float64(state.offset)
    moved = 0.5 * more / (count + more)
    np.testing.assert_allclose(average - 1, moved, rtol=2e-3)


def noisy(mean):
    key = jax.random.key(0)
    return lambda t: mean + jax.random.normal(jax.random.fold_in(key, t), (SIZE,))


def exact_sums(steps, decay):
    """The weighted sum of ``noisy(1000)``'s float32 values, in float64."""
    draw = jax.jit(jax.vmap(noisy(jnp.float32(1000))))
    total, block = np.zeros(SIZE), 10**4
    for first in range(0, steps, block):
        values = np.float64(draw(jnp.arange(first, first + block)))
        ages = np.arange(block)[::-1]
        total = total * decay**block + (decay**ages) @ values
    return total


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "decay"),
    [
        (lambda: optax_ia.tail_average(1), 1.0),
        (lambda: optax_ia.tail_average(1, weights=lambda n: jnp.float32(3)), 1.0),
        (lambda: optax_ia.ema_average(1 - 1e-5), 1 - 1e-5),
    ],
    ids=["tail", "weighted", "ema"],
)
def test_rounding_is_far_below_the_noise_of_the_mean(make, decay):
    """Mean 1000, deviation 1: a float32 running mean is off by four times the noise."""
    tx, steps = make(), 10**6
    iterate = noisy(jnp.float32(1000))
    state = tx.init(iterate(0))
    _, state = tx.update(jnp.zeros(SIZE), state, jnp.zeros(SIZE))
    state = collect_many(tx, state, iterate, steps)
    weights = steps if decay == 1 else (1 - decay**steps) / (1 - decay)
    average = np.float64(state.base) + np.where(
        state.num_in_offset > 0, np.float64(state.offset), 0
    )
    error = average - exact_sums(steps, decay) / weights
    noise = 1 / math.sqrt(steps) if decay == 1 else math.sqrt((1 - decay) / 2)
    assert np.sqrt(np.mean(error**2)) < 0.15 * noise


@pytest.mark.parametrize("debias", [True, False])
def test_an_average_that_forgets_slowly_follows(debias):
    """At decay 1 - 1e-5 a plain float32 average stops 0.3 % short of the iterates."""
    decay, more = 1 - 1e-5, 2 * 10**6
    tx = optax_ia.ema_average(decay, debias=debias)
    state = after_many_at_one(tx, 10**7)
    state = state._replace(weight=jnp.float32(-math.expm1(math.log(decay))))
    state = collect_many(tx, state, lambda t: jnp.full(2, 1.5), more)
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, jnp.full(2, 1.5)), 1.5, rtol=1e-6
    )


@pytest.mark.parametrize("count", [LARGEST - 2, LARGEST])
@pytest.mark.parametrize(
    "make",
    [
        lambda: optax_ia.tail_average(1),
        lambda: optax_ia.tail_average(1, skip_nonfinite=True, weights=lambda n: n),
        lambda: optax_ia.ema_average(0.9),
    ],
    ids=["tail", "weighted", "ema"],
)
def test_counters_saturate(make, count):
    """They wrapped, and the read-out returned the parameters."""
    tx = make()
    state = after_many_at_one(tx, count)
    state = state._replace(
        count=jnp.int32(count - 1), next_at=jnp.int32(count - 1), weight=jnp.float32(0)
    )
    state = collect_many(tx, state, lambda t: jnp.ones(2), 5)
    assert state.num_averaged == LARGEST
    assert optax_ia.num_averaged(state) == LARGEST
    assert state.count == LARGEST - 1
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, jnp.ones(2)), 1.0, rtol=1e-6
    )


def test_an_average_that_waits_never_starts_by_saturation():
    tx = optax_ia.tail_average(None)
    state = tx.init(jnp.ones(2))._replace(count=jnp.int32(LARGEST - 2))
    state = collect_many(tx, state, lambda t: jnp.ones(2), 5)
    assert optax_ia.num_averaged(state) == 0
    assert optax_ia.num_averaged(optax_ia.start_averaging(state)) <= 1


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
@pytest.mark.parametrize(
    "make",
    [
        lambda **kw: optax_ia.tail_average(1, **kw),
        lambda **kw: optax_ia.tail_average(1, weights=lambda n: n, **kw),
        lambda **kw: optax_ia.ema_average(0.5, **kw),
        lambda **kw: optax_ia.window_average(3, **kw),
    ],
    ids=["tail", "weighted", "ema", "window"],
)
def test_iterates_that_are_not_finite_are_left_out_on_request(make, bad):
    """The whole iterate, also where another leaf of it is the bad one."""
    values = [1.0, 2.0, bad, 4.0, bad]

    def run(tx, values):
        params = {"x": jnp.zeros(2), "y": jnp.zeros(())}
        state = tx.init(params)
        update = jax.jit(tx.update)
        for value in [0.0, *values]:
            given = {"x": jnp.full(2, 1.0).at[1].set(value), "y": params["y"]}
            _, state = update(params, state, given)
        return state, given

    tx = make(skip_nonfinite=True)
    state, _ = run(tx, values)
    expected, _ = run(tx, [v for v in values if math.isfinite(v)])
    params = {"x": jnp.full(2, 5.0), "y": jnp.ones(())}
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, params)["x"],
        optax_ia.averaged_params(expected, params)["x"],
        rtol=1e-6,
    )
    assert optax_ia.num_averaged(state) == optax_ia.num_averaged(expected)
    assert optax_ia.diagnostics(state)["num_skipped"] == 2
    pending = {"x": jnp.full(2, bad), "y": jnp.ones(())}
    assert jnp.isfinite(optax_ia.averaged_params(state, pending)["x"]).all()
    poisoned = optax_ia.averaged_params(run(make(), values)[0], params)["x"]
    assert not jnp.isfinite(poisoned).all()
