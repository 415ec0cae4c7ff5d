"""GadamAuto: a plateau starts the averaging, a further one says stop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia

PARAMS = {"w": jnp.ones(3)}


def phases(tx, metrics, *, wrap=lambda state: state, steps=2):
    """Trains ``steps`` updates before each metric; what is known after each."""
    update = jax.jit(tx.update)
    params, state = PARAMS, tx.init(PARAMS)
    result = []
    for metric in metrics:
        for _ in range(steps):
            updates, state = update(params, state, params)
            params = optax.apply_updates(params, updates)
        state = wrap(optax_ia.record_metric(state, metric))
        result.append(
            (int(optax_ia.num_averaged(state)), bool(optax_ia.should_stop(state)))
        )
    return result, params, state


def test_plateau_starts_and_a_further_plateau_stops():
    tx = optax_ia.gadam_auto(patience=2)
    metrics = [3.0, 2.0, 2.5, 2.0, 1.5, 1.4, 1.6, 1.4, 1.0]
    result, _, _ = phases(tx, metrics)
    # 2.5 and 2.0 do not improve on 2.0; then 1.6 and 1.4 do not improve on 1.4
    assert [count for count, _ in result] == [0, 0, 0, 0, 2, 4, 6, 8, 10]
    assert [stop for _, stop in result] == [False] * 7 + [True] * 2


def test_the_averaged_metric_is_not_measured_against_the_iterates():
    """The average may begin worse than the best iterate and still improve."""
    tx = optax_ia.gadam_auto(patience=2)
    metrics = [1.0, 1.0, 1.0, 5.0, 4.0, 3.0, 2.0, 1.5]
    result, _, _ = phases(tx, metrics)
    assert not any(stop for _, stop in result)


def test_patience_defaults_to_ten_in_both_phases():
    result, _, _ = phases(optax_ia.gadam_auto(), [1.0] * 25, steps=1)
    assert [count > 0 for count, _ in result].index(True) == 11
    # phase 0 ends with value 11; value 12 is the average's first, 13 to 22 are bad
    assert [stop for _, stop in result].index(True) == 21


def test_it_goes_on_saying_stop():
    """Whatever is recorded after, a run that goes on averaging is told the same."""
    tx = optax_ia.gadam_auto(patience=1)
    result, params, state = phases(tx, [1.0] * 3 + [1.0, 1.0, 0.5, 0.5, 0.5, 0.5])
    assert [stop for _, stop in result] == [False] * 3 + [True] * 6
    assert optax_ia.diagnostics(state)["averaging_phase"] == 2
    assert optax_ia.num_averaged(state) == 14


def test_mode_max():
    tx = optax_ia.gadam_auto(patience=1, mode="max")
    result, _, _ = phases(tx, [0.5, 0.6, 0.6, 0.7, 0.7])
    assert [count for count, _ in result] == [0, 0, 0, 2, 4]
    assert [stop for _, stop in result] == [False, False, False, False, True]


def test_nan_metrics_are_no_improvement():
    tx = optax_ia.gadam_auto(patience=2)
    result, _, _ = phases(tx, [1.0, np.nan, np.nan, 1.0])
    assert [count for count, _ in result] == [0, 0, 0, 2]


def test_the_average_is_the_mean_since_the_trigger():
    tx = optax_ia.gadam_auto(0.1, patience=1)
    update = jax.jit(tx.update)
    params, state = PARAMS, tx.init(PARAMS)
    iterates = []
    for metric in [1.0, 1.0, 1.0, 0.9, 0.8]:
        updates, state = update(params, state, params)
        params = optax.apply_updates(params, updates)
        iterates.append(params["w"])
        state = optax_ia.record_metric(state, metric)
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, params)["w"],
        np.mean(iterates[2:], axis=0),
        rtol=1e-6,
    )


def test_recording_inside_jit_and_scan():
    tx = optax_ia.gadam_auto(patience=2)
    metrics = [3.0, 2.0, 2.5, 2.0, 1.5, 1.4, 1.6, 1.4]
    expected, _, _ = phases(tx, metrics, steps=1)

    @jax.jit
    def scanned(params, state):
        def body(carry, metric):
            params, state = carry
            updates, state = tx.update(params, state, params)
            params = optax.apply_updates(params, updates)
            state = optax_ia.record_metric(state, metric)
            known = (optax_ia.num_averaged(state), optax_ia.should_stop(state))
            return (params, state), known

        return jax.lax.scan(body, (params, state), jnp.asarray(metrics))[1]

    counts, stops = scanned(PARAMS, tx.init(PARAMS))
    assert list(zip(counts.tolist(), stops.tolist(), strict=True)) == expected


def test_recording_keeps_structure_and_types():
    tx = optax_ia.gadam_auto()
    state = tx.init(PARAMS)
    after = optax_ia.record_metric(state, 1.0)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.chain(optax.clip(1.0), tx),
        lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
        lambda tx: optax.apply_if_finite(tx, 2),
        lambda tx: optax.masked(tx, {"w": True}),
    ],
    ids=["chain", "multi_steps", "apply_if_finite", "masked"],
)
def test_inside_wrappers(wrap):
    expected, _, _ = phases(optax_ia.gadam_auto(patience=1), [1.0, 1.0, 1.0, 1.0])
    actual, _, _ = phases(wrap(optax_ia.gadam_auto(patience=1)), [1.0, 1.0, 1.0, 1.0])
    assert actual == expected


def test_resumed_from_a_copy_of_the_state():
    tx = optax_ia.gadam_auto(patience=2)
    metrics = [3.0, 2.0, 2.5, 2.0, 1.5, 1.4, 1.6, 1.4]

    def copy(state):
        leaves, structure = jax.tree.flatten(state)
        return jax.tree.unflatten(structure, [jnp.asarray(np.array(x)) for x in leaves])

    assert phases(tx, metrics)[0] == phases(tx, metrics, wrap=copy)[0]


def test_diagnostics_tell_the_phase():
    tx = optax_ia.gadam_auto(patience=1, mode="max")
    state = tx.init(PARAMS)
    seen = []
    for metric in (0.5, 0.5, 0.5, 0.5):
        state = optax_ia.record_metric(state, metric)
        seen.append(int(optax_ia.diagnostics(state)["averaging_phase"]))
    assert seen == [0, 1, 1, 2]


def windowed(window=2, **options):
    return optax.chain(
        optax_ia.padamw(1e-2), optax_ia.auto_average(window=window, **options)
    )


@pytest.mark.parametrize("patience", [1, 10])
def test_a_window_starts_it_by_the_non_monotonic_trigger(patience):
    """Which has no use for the patience, and never says when to stop."""
    metrics = [3.0, 2.0, 2.5, 2.5, 2.4, 2.4, 2.4, 1.0]
    result, _, _ = phases(windowed(patience=patience), metrics)
    # 2.4 is worse than 2.0, the best of all but the last two
    assert [count for count, _ in result] == [0, 0, 0, 0, 0, 2, 4, 6]
    assert not any(stop for _, stop in result)


def test_a_window_and_mode_max():
    metrics = [0.3, 0.5, 0.4, 0.4, 0.45, 0.6]
    result, _, state = phases(windowed(mode="max"), metrics)
    assert [count for count, _ in result] == [0, 0, 0, 0, 0, 2]
    told = optax_ia.diagnostics(state)
    assert told["averaging_phase"] == 1
    assert told["trigger_best"] == 0.5
    assert "trigger_num_bad" not in told


def test_a_window_that_has_fired_stays_so():
    result, _, state = phases(windowed(1), [3.0, 2.0, 2.5, 2.5, 0.5, np.nan])
    assert [count for count, _ in result] == [0, 0, 0, 0, 2, 4]
    assert optax_ia.diagnostics(state)["averaging_phase"] == 1


def test_a_window_in_a_scan_is_the_trigger_by_hand():
    tx = windowed(3)
    metrics = jnp.asarray([5.0, 4.0, 4.5, 3.9, 4.2, 4.1, 4.3, 4.4])
    trigger = optax_ia.non_monotonic_trigger(3)

    @jax.jit
    def scanned(state):
        def body(carry, metric):
            state, by_hand = carry
            state = optax_ia.record_metric(state, metric)
            by_hand = trigger.update(by_hand, metric)
            phase = optax_ia.diagnostics(state)["averaging_phase"]
            return (state, by_hand), (phase, by_hand.fired)

        return jax.lax.scan(body, (state, trigger.init()), metrics)[1]

    phase, fired = scanned(tx.init(PARAMS))
    assert phase.tolist() == fired.tolist() == [0] * 5 + [1] * 3


def test_a_window_keeps_structure_and_types_and_resumes_from_a_copy():
    metrics = [3.0, 2.0, 2.5, 2.5, 2.4, 2.4]

    def copy(state):
        leaves, structure = jax.tree.flatten(state)
        return jax.tree.unflatten(structure, [jnp.asarray(np.array(x)) for x in leaves])

    tx = windowed()
    assert phases(tx, metrics)[0] == phases(tx, metrics, wrap=copy)[0]
    state = tx.init(PARAMS)
    after = optax_ia.record_metric(state, 1.0)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)


@pytest.mark.parametrize("call", ["record_metric", "should_stop"])
def test_states_without_a_trigger_are_refused(call):
    state = optax_ia.gadam(start=1).init(PARAMS)
    arguments = (1.0,) if call == "record_metric" else ()
    with pytest.raises(ValueError, match="gadam_auto"):
        getattr(optax_ia, call)(state, *arguments)


def test_one_metric_is_told_to_every_group():
    tx = optax.partition(
        {"a": optax_ia.gadam_auto(patience=1), "b": optax_ia.gadam_auto(patience=2)},
        {"x": "a", "y": "b"},
    )
    params = {"x": jnp.ones(2), "y": jnp.ones(3)}
    state, stops = tx.init(params), []
    record = jax.jit(optax_ia.record_metric)
    for _ in range(6):
        _, state = tx.update(params, state, params)
        state = record(state, 1.0)
        stops.append(bool(optax_ia.should_stop(state)))
    assert stops == [False, False, False, False, False, True]
    found = optax_ia.diagnostics(state)
    assert {k: int(found[k]) for k in found if "num_averaged" in k} == {
        "num_averaged": 4,
        "num_averaged/1": 3,
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optax_ia.gadam_auto(patience=0), "patience must be >= 1, got 0"),
        (lambda: optax_ia.gadam_auto(mode="x"), "mode must be one of .* got 'x'"),
        (lambda: optax_ia.gadam_auto(every=0), "every must be >= 1, got 0"),
        (lambda: optax_ia.auto_average(window=0), "window must be >= 1, got 0"),
        (lambda: optax_ia.auto_average(window=2.5), "window must be a whole number"),
    ],
)
def test_construction_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
