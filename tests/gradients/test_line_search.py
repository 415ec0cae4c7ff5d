"""The stochastic line search: Armijo at every step, its resets, and its limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia

_RNG = np.random.default_rng(0)
BATCHES = jnp.asarray(_RNG.normal(size=(4, 5, 8)))
TARGETS = BATCHES @ jnp.asarray(_RNG.normal(size=8))
START = jnp.zeros(8)


def loss(w, t):
    """Of batch ``t``: more weights than rows, so all can be met, and not quadratic."""
    error = BATCHES[t % 4] @ w - TARGETS[t % 4]
    return jnp.mean(jnp.sqrt(1 + error**2) - 1)


@functools.cache
def compiled_step():
    """One update with every number traced, and the losses that judge it."""

    @jax.jit
    def step(w, state, t, options):
        value, grads = jax.value_and_grad(loss)(w, t)
        updates, new = optax_ia.sls(**options).update(
            grads, state, w, value=value, value_fn=lambda w: loss(w, t)
        )
        told = optax_ia.diagnostics(new)
        rate = told["learning_rate"]
        told |= {
            "before": value,
            "after": loss(w - rate * grads, t),
            "refused": loss(w - rate / options["beta"] * grads, t),
            "slope": jnp.sum(grads**2),
            "error": jnp.max(jnp.abs(updates + rate * grads)),
        }
        return optax.apply_updates(w, updates), new, told

    return step


DEFAULTS = {
    "learning_rate": 1.0,
    "c": 0.1,
    "beta": 0.9,
    "gamma": 2.0,
    "steps_per_epoch": 1,
}


@functools.cache
def searched(steps=16, **options):
    """Weights after some updates and what was told of each, stacked."""
    options = DEFAULTS | options
    w, state, history = START, optax_ia.sls(**options).init(START), []
    for t in range(steps):
        w, state, told = compiled_step()(w, state, t, options)
        history.append(told)
    return w, {n: np.array([told[n] for told in history]) for n in history[0]}


CASES = [
    {},
    {"learning_rate": 100.0, "beta": 0.5},
    {"learning_rate": 1e-3, "steps_per_epoch": 4},
    {"c": 0.5, "gamma": 4.0},
]
every_case = pytest.mark.parametrize("options", CASES, ids=str)


@every_case
def test_every_accepted_step_satisfies_armijo(options):
    _, told = searched(**options)
    c = (DEFAULTS | options)["c"]
    rate, slope = told["learning_rate"], told["slope"]
    assert (told["after"] <= told["before"] - c * rate * slope + 1e-15).all()
    np.testing.assert_array_equal(told["error"], 0)
    assert (told["after"] < told["before"]).all()


@every_case
def test_the_step_size_before_the_accepted_one_had_failed(options):
    _, told = searched(**options)
    settings = DEFAULTS | options
    tried = told["num_trials"] > 1
    rate = told["learning_rate"] / settings["beta"]
    bound = told["before"] - settings["c"] * rate * told["slope"]
    assert (told["refused"][tried] > bound[tried]).all()
    assert tried.any() or options.get("learning_rate") == 1e-3


@every_case
def test_each_search_begins_at_the_last_step_size_times_its_growth(options):
    _, told = searched(**options)
    settings = DEFAULTS | options
    growth = settings["gamma"] ** (1 / settings["steps_per_epoch"])
    first = told["learning_rate"] / settings["beta"] ** (told["num_trials"] - 1)
    expected = [settings["learning_rate"], *growth * told["learning_rate"][:-1]]
    np.testing.assert_allclose(first, expected, rtol=1e-12)


def test_it_interpolates_without_a_tuned_rate():
    w, _ = searched(120)
    assert max(float(loss(w, t)) for t in range(4)) < 1e-6


def test_the_losses_it_took_are_those_it_says():
    calls = []

    def value_fn(w):
        jax.debug.callback(lambda w: calls.append(float(w[0])), w)
        return 50.0 * jnp.sum(w**2)

    tx = optax_ia.sls(beta=0.5)
    w = jnp.array([1.0])
    _, state = jax.jit(
        lambda w: tx.update(
            100.0 * w, tx.init(w), w, value=50.0 * jnp.sum(w**2), value_fn=value_fn
        )
    )(w)
    jax.effects_barrier()
    told = optax_ia.diagnostics(state)
    assert len(calls) == told["num_trials"] == 7
    np.testing.assert_allclose(sorted(calls), sorted(1 - 100 * 0.5 ** np.arange(7)))
    np.testing.assert_allclose(told["learning_rate"], 0.5**6)


def one_update(value_fn, w=1.0, grads=1.0, state=None, value=None, **options):
    tx = optax_ia.sls(**options)
    w, grads = jnp.asarray([w]), jnp.asarray([grads])
    state = tx.init(w) if state is None else state
    value = value_fn(w) if value is None else value
    updates, state = tx.update(grads, state, w, value=value, value_fn=value_fn)
    told = {n: float(v) for n, v in optax_ia.diagnostics(state).items()}
    return float(updates[0]), told, state


@pytest.mark.parametrize("most", [1, 5])
def test_the_last_trial_is_taken_though_it_failed(most):
    """A value that rises whatever the step: the gradient is wrong."""
    update, told, _ = one_update(
        lambda w: -jnp.sum(w), beta=0.5, max_backtracking_steps=most
    )
    assert told["num_trials"] == most + 1
    np.testing.assert_allclose(told["learning_rate"], 0.5**most)
    np.testing.assert_allclose(update, -(0.5**most))


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_losses_that_are_not_finite_are_failed_trials(bad):
    def value_fn(w):
        return jnp.where(jnp.abs(w[0]) < 1.5, w[0] ** 2, bad)

    update, told, _ = one_update(value_fn, grads=2.0, learning_rate=64.0, beta=0.5)
    # 1 - 64 * 2 ... 1 - 2 * 2 are outside; 1 - 1 * 2 = -1 does not decrease
    assert told == {"learning_rate": 0.5, "num_trials": 8.0}
    assert update == -1.0


def test_if_no_trial_is_finite_nothing_moves_and_the_next_search_begins_again():
    def nowhere(w):
        return jnp.full([], jnp.nan)

    update, told, state = one_update(nowhere, value=1.0, learning_rate=3.0)
    assert update == 0.0
    assert told == {"learning_rate": 0.0, "num_trials": 101.0}
    update, told, _ = one_update(
        lambda w: 0.1 * jnp.sum(w), grads=0.1, state=state, learning_rate=3.0
    )
    assert told == {"learning_rate": 3.0, "num_trials": 1.0}
    np.testing.assert_allclose(update, -0.3)


UNUSABLE = {
    "value nan": {"value": jnp.nan},
    "value inf": {"value": jnp.inf},
    "value -inf": {"value": -jnp.inf},
    "gradient nan": {"value": 1.0, "grads": jnp.nan},
    "gradient inf": {"value": 1.0, "grads": -jnp.inf},
    "squared gradient overflows": {"value": 1.0, "grads": 1e200},
    "zero gradient": {"value": 1.0, "grads": 0.0},
    "all nan": {"value": jnp.nan, "grads": jnp.nan},
}


@pytest.mark.parametrize("loss_is_nan", [False, True])
@pytest.mark.parametrize("name", UNUSABLE)
def test_a_batch_without_a_finite_slope_costs_one_trial_and_moves_nothing(
    name, loss_is_nan
):
    """The next search starts as if the update had not happened."""

    def value_fn(w):
        return jnp.sum(w) * (jnp.nan if loss_is_nan else 1.0)

    def good(state):
        return one_update(lambda w: 0.1 * jnp.sum(w), grads=0.1, state=state)

    _, _, state = good(None)
    update, told, after = one_update(value_fn, state=state, **UNUSABLE[name])
    assert update == 0.0
    assert told == {"learning_rate": 0.0, "num_trials": 1.0}
    assert after.step_size == state.step_size
    assert good(after)[:2] == good(state)[:2]


def test_batches_without_a_finite_slope_in_a_scan_and_under_vmap():
    """Members of an ensemble do not disturb each other."""
    tx = optax_ia.sls()
    values = jnp.array([[1.0, jnp.nan, 1.0, jnp.inf], [jnp.inf, 1.0, 1.0, 1.0]])

    def train(values):
        def body(carry, value):
            w, state = carry
            updates, state = tx.update(
                2 * w, state, w, value=value * w @ w, value_fn=lambda w: w @ w
            )
            return (optax.apply_updates(w, updates), state), state.accepted_step_size

        return jax.lax.scan(body, (START + 1, tx.init(START)), values)[1]

    together = jax.vmap(train)(values)
    np.testing.assert_array_equal(together, [train(row) for row in values])
    np.testing.assert_array_equal(together == 0, ~jnp.isfinite(values))


def test_bfloat16_parameters_are_judged_as_they_will_be():
    seen = []

    def value_fn(w):
        seen.append(w.dtype)
        return jnp.sum(w.astype(jnp.float32) ** 2)

    tx = optax_ia.sls()
    w = jnp.array([1.0, -2.0], jnp.bfloat16)
    updates, state = tx.update(
        2 * w, tx.init(w), w, value=value_fn(w), value_fn=value_fn
    )
    assert set(seen) == {jnp.dtype(jnp.bfloat16)}
    assert updates.dtype == jnp.bfloat16
    assert state.step_size.dtype == jnp.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": -1.0}, r"learning_rate must be >=? 0, got -1.0"),
        ({"c": 0.0}, r"c must be > 0, got 0.0"),
        ({"c": 1.0}, r"c must be < 1, got 1.0"),
        ({"beta": 0.0}, r"beta must be > 0, got 0.0"),
        ({"beta": 1.0}, r"beta must be < 1, got 1.0"),
        ({"gamma": 0.5}, r"gamma must be >= 1, got 0.5"),
        ({"steps_per_epoch": 0}, r"steps_per_epoch must be >= 1, got 0"),
        ({"steps_per_epoch": 2.5}, r"steps_per_epoch must be a whole .* got 2.5"),
        ({"max_backtracking_steps": 0}, r"max_backtracking_steps must be >= 1, got 0"),
    ],
)
def test_construction_errors_name_argument_bound_and_value(options, message):
    with pytest.raises(ValueError, match=message):
        optax_ia.sls(**options)


def test_a_schedule_is_refused():
    with pytest.raises(TypeError, match="learning_rate must be a number.*sls finds"):
        optax_ia.sls(optax.constant_schedule(1.0))


CALL = r".*update\(grads, state, params, value=value, value_fn=value_fn\)"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"value": 1.0}, "sls needs value_fn:" + CALL),
        ({"value_fn": jnp.sum}, "sls needs value:" + CALL),
        ({"grad_fn": jnp.sum}, "sls needs value and value_fn:" + CALL),
    ],
)
def test_what_update_lacks_is_named_and_the_call_shown(extra, message):
    tx = optax_ia.sls()
    state = tx.init(START)
    with pytest.raises(ValueError, match=message):
        tx.update(START, state, START, **extra)
    with pytest.raises(ValueError, match="sls needs the parameters"):
        tx.update(START, state, **extra)
