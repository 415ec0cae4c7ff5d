"""The triggers against plain lists, resumed, traced, and with awkward metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia
from tests.reference import averaging

_RNG = np.random.default_rng(0)
SERIES = {
    "falling": np.linspace(5, 1, 30),
    "noisy": 3 / np.arange(1, 31) + 0.3 * _RNG.normal(size=30),
    "rising": np.linspace(1, 5, 30),
    "constant": np.ones(30),
    "negative": -np.linspace(1, 5, 30) + _RNG.normal(size=30),
    "wave": np.sin(np.arange(30) / 3),
}


def history(trigger, values):
    state = trigger.init()
    fired = []
    for value in values:
        state = trigger.update(state, value)
        assert state.fired.shape == ()
        assert state.fired.dtype == bool
        fired.append(bool(state.fired))
    return fired


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("n", [1, 3, 5])
def test_non_monotonic_follows_the_lists(name, mode, n):
    trigger = optax_ia.non_monotonic_trigger(n, mode=mode)
    expected = averaging.non_monotonic(SERIES[name], n, mode)
    assert history(trigger, SERIES[name]) == expected


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("patience", [1, 3, 10])
def test_plateau_follows_the_lists(name, mode, patience):
    trigger = optax_ia.plateau_trigger(patience, mode=mode)
    expected = averaging.plateau(SERIES[name], patience, mode)
    assert history(trigger, SERIES[name]) == expected


def test_the_defaults_are_the_papers():
    values = [1.0] + [2.0] * 30
    non_monotonic = history(optax_ia.non_monotonic_trigger(), values)
    assert non_monotonic == averaging.non_monotonic(values, 5)
    assert non_monotonic.index(True) == 6
    plateau = history(optax_ia.plateau_trigger(), values)
    assert plateau.index(True) == 10


TRIGGERS = pytest.mark.parametrize(
    "make",
    [
        lambda **kw: optax_ia.non_monotonic_trigger(3, **kw),
        lambda **kw: optax_ia.plateau_trigger(3, **kw),
    ],
    ids=["non_monotonic", "plateau"],
)


@TRIGGERS
@pytest.mark.parametrize("name", SERIES)
def test_scan_and_jit_equal_the_loop(make, name):
    trigger = make()
    values = jnp.asarray(SERIES[name])

    @jax.jit
    def scanned(values):
        def body(state, value):
            state = trigger.update(state, value)
            return state, state.fired

        return jax.lax.scan(body, trigger.init(), values)[1]

    assert scanned(values).tolist() == history(trigger, SERIES[name])


@TRIGGERS
def test_resuming_from_a_saved_state(make):
    trigger = make()
    state = trigger.init()
    for value in SERIES["noisy"][:13]:
        state = trigger.update(state, value)
    leaves, structure = jax.tree.flatten(state)
    copy = jax.tree.unflatten(structure, [np.array(leaf) for leaf in leaves])
    for value in SERIES["noisy"][13:]:
        state = trigger.update(state, value)
        copy = trigger.update(copy, value)
        assert all(
            np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(copy), strict=True)
        )


@TRIGGERS
def test_update_is_pure_and_keeps_its_types(make):
    trigger = make()
    state = trigger.init()
    first = trigger.update(state, 1.0)
    again = trigger.update(state, 1.0)
    for a, b, c in zip(*map(jax.tree.leaves, (first, again, state)), strict=True):
        assert bool((a == b).all())
        assert a.dtype == c.dtype
        assert a.shape == c.shape
        assert a.weak_type == c.weak_type is False


@TRIGGERS
def test_it_stays_fired(make):
    trigger = make()
    state = trigger.init()
    for value in [1.0] + [2.0] * 10:
        state = trigger.update(state, value)
    assert state.fired
    for value in (0.5, 0.1):
        state = trigger.update(state, value)
        assert state.fired


@TRIGGERS
@pytest.mark.parametrize("mode", ["min", "max"])
def test_nan_is_the_worst_value(make, mode):
    """Neither an improvement nor a poison for what comes after."""
    trigger = make(mode=mode)
    sign = 1.0 if mode == "min" else -1.0
    improving = [sign * v for v in (5.0, 4.0, np.nan, 3.0, 2.0, 1.0, 0.5)]
    assert not any(history(optax_ia.plateau_trigger(3, mode=mode), improving)), (
        "one NaN among improvements is no plateau"
    )
    assert history(trigger, [sign * 1.0] + [np.nan] * 8)[-1]


@TRIGGERS
def test_a_diverged_start_does_not_hide_later_progress(make):
    fired = history(make(), [np.nan, 5.0, 4.0, 3.0, 2.0, 1.0, 0.5])
    assert not any(fired)


@TRIGGERS
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
def test_metrics_of_any_dtype(make, dtype):
    trigger = make()
    state = trigger.init()
    for value in [1] + [2] * 8:
        state = jax.jit(trigger.update)(state, jnp.asarray(value, dtype))
    assert state.fired


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optax_ia.non_monotonic_trigger(0), "window must be >= 1, got 0"),
        (lambda: optax_ia.plateau_trigger(0), "patience must be >= 1, got 0"),
        (
            lambda: optax_ia.plateau_trigger(mode="x"),
            "mode must be one of 'min', 'max', got 'x'",
        ),
        (
            lambda: optax_ia.non_monotonic_trigger(mode="best"),
            "mode must be one of 'min', 'max', got 'best'",
        ),
        (lambda: optax_ia.plateau_trigger(2.5), "patience .* got 2.5"),
    ],
)
def test_construction_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
