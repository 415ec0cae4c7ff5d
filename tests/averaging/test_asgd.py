"""ASGD and NT-ASGD: the mean of plain SGD's iterates, from a step or a trigger on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia

START = jnp.array([4.0, -2.0])


def train(tx, steps, metrics=None):
    """The iterates, the last state, and the phase after each metric."""

    @jax.jit
    def step(w, state, t):
        grads = w + 0.5 * jnp.sin(3.0 * t + jnp.arange(2.0))
        updates, state = tx.update(grads, state, w)
        return optax.apply_updates(w, updates), state

    record = jax.jit(optax_ia.record_metric)
    w, state = START, tx.init(START)
    iterates, phases = [], []
    for t in range(steps):
        w, state = step(w, state, t)
        iterates.append(np.asarray(w))
        if metrics is not None:
            state = record(state, metrics[t])
            phases.append(int(optax_ia.diagnostics(state)["averaging_phase"]))
    return iterates, state, phases


@functools.cache
def plain(weight_decay=0.0):
    """The iterates of plain SGD with L2 decay."""
    decay = optax.add_decayed_weights(weight_decay)
    return train(optax.chain(decay, optax.sgd(0.1)), 12)[0]


@pytest.mark.parametrize(("start", "every"), [(1, 1), (5, 1), (3, 4), (0, 3)])
def test_the_average_is_the_mean_of_plain_sgds_iterates(start, every):
    tx = optax_ia.asgd(0.1, start, every, accumulator_dtype="float64")
    iterates, state, _ = train(tx, 12)
    np.testing.assert_allclose(iterates, plain(), rtol=1e-13)
    collected = iterates[max(start - 1, 0) :: every]
    if start == 0:  # updates 3, 6, ... : the start itself is no iterate
        collected = iterates[2::3]
    assert optax_ia.num_averaged(state) == len(collected)
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, jnp.asarray(iterates[-1])),
        np.mean(collected, axis=0),
        rtol=1e-12,
    )


def test_decay_is_l2_and_masked():
    iterates, _, _ = train(optax_ia.asgd(0.1, None, weight_decay=0.5), 12)
    np.testing.assert_allclose(iterates, plain(0.5), rtol=1e-13)
    params = {"w": START, "b": START}
    tx = optax_ia.asgd(0.1, None, weight_decay=0.5, mask={"w": True, "b": False})
    updates, _ = tx.update(optax.tree.zeros_like(params), tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.05 * START)
    np.testing.assert_array_equal(updates["b"], 0)


def test_without_a_start_it_waits_to_be_told():
    tx = optax_ia.asgd(0.1, None)
    _, state, _ = train(tx, 3)
    assert optax_ia.num_averaged(state) == 0
    state = optax_ia.start_averaging(state)
    _, state = tx.update(START, state, START)
    assert optax_ia.num_averaged(state) == 1


# Better, worse, worse ...: the window decides which of these starts the average.
METRICS = [5.0, 4.0, 4.5, 4.4, 3.0, 3.5, 3.4, 3.3, 3.2, 3.1, 3.6, 2.0]


def fired(metrics, n, mode="min"):
    """What the trigger says by hand after each value."""
    trigger = optax_ia.non_monotonic_trigger(n, mode=mode)
    state, seen = trigger.init(), []
    for value in metrics:
        state = trigger.update(state, value)
        seen.append(bool(state.fired))
    return seen


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("window", "first"), [(1, 4), (2, 8), (5, 11), (20, None)])
def test_nt_asgd_starts_when_the_trigger_fires_by_hand(window, first, mode):
    """``first`` is the number of the value that fires, by the paper's condition."""
    metrics = np.array(METRICS) if mode == "min" else -np.array(METRICS)
    by_hand = fired(metrics, window, mode)
    assert by_hand == [first is not None and t >= first for t in range(1, 13)]
    tx = optax_ia.nt_asgd(0.1, window=window, mode=mode, accumulator_dtype="float64")
    iterates, state, phases = train(tx, 12, metrics)
    assert phases == [int(f) for f in by_hand]
    np.testing.assert_allclose(iterates, plain(), rtol=1e-13)
    # the first iterate after the value that fired is the first collected
    count = 0 if first is None else 12 - first
    assert optax_ia.num_averaged(state) == count
    average = optax_ia.averaged_params(state, jnp.asarray(iterates[-1]))
    expected = np.mean(iterates[first:], axis=0) if count else iterates[-1]
    np.testing.assert_allclose(average, expected, rtol=1e-12)
    assert not bool(optax_ia.should_stop(state))


def test_nt_asgd_collects_each_nth():
    _, state, _ = train(optax_ia.nt_asgd(0.1, 3, window=1), 12, METRICS)
    assert optax_ia.num_averaged(state) == 3  # updates 5, 8 and 11


def test_the_papers_window_is_five():
    _, _, phases = train(optax_ia.nt_asgd(0.1), 12, METRICS)
    assert phases.index(1) == 10


def test_the_mean_is_closer_to_the_optimum_than_the_iterate():
    tx = optax_ia.asgd(0.5, start=50)
    keys = jax.random.split(jax.random.key(0), 300)

    def body(carry, key):
        w, state = carry
        updates, state = tx.update(w + jax.random.normal(key, w.shape), state, w)
        return (optax.apply_updates(w, updates), state), None

    w = jnp.ones(50)
    scan = jax.jit(lambda carry: jax.lax.scan(body, carry, keys)[0])
    w, state = scan((w, tx.init(w)))
    average = optax_ia.averaged_params(state, w)
    assert jnp.linalg.norm(average) < 0.25 * jnp.linalg.norm(w)


@pytest.mark.parametrize(
    "make", [functools.partial(optax_ia.asgd, start=None), optax_ia.nt_asgd]
)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": -0.1}, r"learning_rate must be >= 0, got -0.1"),
        ({"every": 0}, r"every must be >= 1, got 0"),
        ({"every": 1.5}, r"every must be a whole number, got 1.5"),
        ({"weight_decay": -1.0}, r"weight_decay must be >= 0, got -1.0"),
        (
            {"accumulator_dtype": "int32"},
            r"accumulator_dtype must be a floating point dtype, got int32",
        ),
    ],
)
def test_construction_errors_name_argument_bound_and_value(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_arguments_of_one_of_the_two_are_checked():
    with pytest.raises(ValueError, match=r"start must be >= 0, got -1"):
        optax_ia.asgd(start=-1)
    with pytest.raises(ValueError, match=r"window must be >= 1, got 0"):
        optax_ia.nt_asgd(window=0)
    with pytest.raises(ValueError, match=r"mode must be one of 'min', 'max', got 'x'"):
        optax_ia.nt_asgd(mode="x")
