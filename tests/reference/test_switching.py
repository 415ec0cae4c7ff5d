"""Ten float64 steps of SWATS, its general form and Adam-Clip against Algorithm 1."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.reference import adaptive, switching
from tests.reference.problem import (
    PARAMS,
    STEPS,
    assert_close,
    by_name,
    constant,
    library_run,
    library_states,
    reference_run,
    tree_gradient,
)

INNERS = {
    "adam": (optax.adam(0.05), lambda: switching.adam(constant(0.05))),
    "adamw": (
        optax.adamw(0.05, weight_decay=0.1),
        lambda: switching.adam(constant(0.05), decoupled=0.1),
    ),
    "rmsprop": (optax.rmsprop(0.05), lambda: switching.rmsprop(constant(0.05))),
    "adagrad": (optax.adagrad(0.05), lambda: switching.adagrad(constant(0.05))),
    "padam": (optax_ia.padam(0.05), lambda: switching.padam(constant(0.05))),
}
every_inner = pytest.mark.parametrize("name", INNERS)
# What both runs know by the same name at every step.
SCALARS = ("gamma", "lambda_hat", "sgd_learning_rate")
COUNTS = ("phase", "switch_step")


def assert_told(states, log, suffix=""):
    """Asserts the diagnostics after every update up to the switch, and the verdict."""
    for k, (state, known) in enumerate(zip(states, log, strict=True), start=1):
        told = optax_ia.diagnostics(state)
        for name in COUNTS:
            assert int(told[name + suffix]) == known[name], (k, name)
        for name in SCALARS:
            if name == "sgd_learning_rate" or not 0 < known["switch_step"] < k:
                got = float(told[name + suffix])
                np.testing.assert_allclose(got, known[name], 1e-11, 0, err_msg=name)


def switched_at(log):
    """The step of the reference's switch, which must lie inside the run."""
    step = log[-1]["switch_step"]
    assert 1 < step < STEPS - 1
    return step


@every_inner
@pytest.mark.parametrize("tol", [0.001, 0.002, 1e9])
def test_global_switch(name, tol):
    tx, inner = INNERS[name]
    expected, log = switching.switch_to_sgd(
        PARAMS, tree_gradient, inner(), constant(0.05), STEPS, tol=tol
    )
    iterates, states = library_states(optax_ia.switch_to_sgd(tx, tol=tol))
    assert_close(iterates, by_name(expected))
    assert_told(states, log)
    if tol == 1e9:
        switched_at(log)


def test_the_tolerances_above_switch_at_different_steps():
    """So that the criterion, not only what comes after it, is compared."""
    steps = set()
    for _, inner in INNERS.values():
        for tol in (1e-9, 0.001, 0.002, 1e9):
            _, log = switching.switch_to_sgd(
                PARAMS, tree_gradient, inner(), constant(0.05), STEPS, tol=tol
            )
            steps.add(log[-1]["switch_step"])
    assert len(steps) > 3


@every_inner
@pytest.mark.parametrize("tol", [0.001, 0.002, 1e9])
def test_switch_per_leaf(name, tol):
    tx, inner = INNERS[name]
    tx = optax_ia.switch_to_sgd(tx, tol=tol, scope="leaf")
    iterates, states = library_states(tx)
    expected = {}
    for leaf, w in PARAMS.items():
        run, log = switching.switch_to_sgd(
            {leaf: w}, tree_gradient, inner(), constant(0.05), STEPS, tol=tol
        )
        expected |= by_name(run)
        assert_told(states, log, f"/{leaf}")
    assert_close(iterates, expected)


@pytest.mark.parametrize("scope", ["global", "leaf"])
@pytest.mark.parametrize("rate", [None, 0.03])
def test_switch_at_a_given_step_to_a_given_rate(scope, rate):
    options = {"b1": 0.7, "switch_at": 4, "sgd_learning_rate": rate}
    tx = optax_ia.switch_to_sgd(optax.adam(0.05), scope=scope, **options)
    iterates, states = library_states(tx)
    groups = [PARAMS] if scope == "global" else [{n: w} for n, w in PARAMS.items()]
    expected = {}
    for group in groups:
        run, log = switching.switch_to_sgd(
            group,
            tree_gradient,
            switching.adam(constant(0.05)),
            constant(0.05),
            STEPS,
            **options,
        )
        expected |= by_name(run)
        assert_told(states, log, "" if scope == "global" else f"/{next(iter(group))}")
        assert switched_at(log) == 4
    assert_close(iterates, expected)


every_monitor = pytest.mark.parametrize("monitor", [None, "relative", "gamma"])


@every_monitor
@pytest.mark.parametrize("scope", ["global", "leaf"])
@pytest.mark.parametrize("rate", [None, 0.03])
def test_the_schedule_goes_on_after_the_switch(scope, rate, monitor):
    def schedule(count):
        return 0.1 / (1 + count)

    options = {"tol": 1e9, "b1": 0.6, "b2": 0.9, "sgd_learning_rate": rate}
    tx = optax_ia.switch_to_sgd(
        optax.adam(schedule),
        scope=scope,
        learning_rate=schedule,
        monitor=monitor,
        **options,
    )
    iterates, states = library_states(tx)
    groups = [PARAMS] if scope == "global" else [{n: w} for n, w in PARAMS.items()]
    expected = {}
    for group in groups:
        run, log = switching.switch_to_sgd(
            group,
            tree_gradient,
            switching.adam(lambda k: 0.1 / k),
            lambda k: 0.1 / k,
            STEPS,
            relative=monitor != "gamma",
            **options,
        )
        expected |= by_name(run)
        assert_told(states, log, "" if scope == "global" else f"/{next(iter(group))}")
        switched_at(log)
    assert_close(iterates, expected)


@every_monitor
@pytest.mark.parametrize("recorded", [False, True], ids=["injected", "recorded"])
def test_a_schedule_is_read_from_the_inner_state_and_monitored(recorded, monitor):
    """Its first change makes the monitor relative."""
    padam = optax_ia.padam if recorded else optax.inject_hyperparams(optax.adam)
    inner = switching.padam if recorded else switching.adam
    options = {"tol": 1e-9, "rtol": 0.1, "b2": 0.5}
    tx = optax_ia.switch_to_sgd(
        padam(lambda n: 0.02 * (1 + n)), monitor=monitor, **options
    )
    expected, log = switching.switch_to_sgd(
        PARAMS,
        tree_gradient,
        inner(lambda k: 0.02 * k),
        lambda k: 0.02 * k,
        STEPS,
        relative=monitor != "gamma",
        **options,
    )
    iterates, states = library_states(tx)
    assert_close(iterates, by_name(expected), rtol=1e-12 if recorded else 1e-6)
    if recorded:
        assert_told(states, log)


# Gradients that do not depend on w: a step against the momentum makes the estimate
# negative for updates 2 to 5, and two zero gradients in a row have no projection.
CLIMBING = [1.0, -0.2, -0.1, -2.0, -3.0, -1.0, 0.5, 0.3, 1.0, -1.0]
EMPTY = [1.0, 0.0, 0.0, 1.5, 0.5, -0.2, 0.0, 0.3, 1.0, -1.0]


@pytest.mark.parametrize(("sequence", "step"), [(CLIMBING, 6), (EMPTY, 4)])
@pytest.mark.parametrize("scope", ["global", "leaf"])
def test_no_switch_without_a_positive_estimate_or_a_projection(sequence, step, scope):
    sequence = np.outer(sequence, [1.0, 0.7])
    start = {"w": np.array([0.5, -0.5])}
    options = {"tol": 1e9, "b2": 0.5}
    expected, log = switching.switch_to_sgd(
        start,
        lambda k, w: {"w": sequence[k - 1]},
        switching.adam(constant(0.1)),
        constant(0.1),
        STEPS,
        **options,
    )
    assert switched_at(log) == step
    if sequence[1].any():
        assert all(log[k - 1]["lambda_hat"] < 0 for k in range(2, step))
    iterates, states = library_states(
        optax_ia.switch_to_sgd(optax.adam(0.1), scope=scope, **options),
        lambda params, t: jnp.sum(jnp.asarray(sequence)[t - 1] * params["w"]),
        start,
    )
    assert_close(iterates, by_name(expected))
    assert_told(states, log, "" if scope == "global" else "/w")


SWATS_SCHEDULES = {
    "constant": 0.05,
    "decay": lambda count: 0.1 / (2 + count),
    "from 0": lambda count: 0.02 * jnp.asarray(count, float),
    "from 1e-8": lambda count: 1e-8 + 0.02 * jnp.asarray(count, float),
}


@pytest.mark.parametrize("scope", ["global", "leaf"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tol": 1e9},
        {"tol": 0.002},
        {"tol": 1e9, "b1": 0.6, "b2": 0.9, "eps": 1e-2},
        {"switch_at": 3},
        {"switch_at": 3, "sgd_learning_rate": 0.02},
        {"rtol": 0.3, "b2": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("schedule", SWATS_SCHEDULES)
def test_swats(scope, options, schedule):
    """Defaults, L2 decay and the schedule in both phases."""
    relative = schedule != "constant"
    schedule = SWATS_SCHEDULES[schedule]

    def rate(k):
        return float(schedule(k - 1)) if callable(schedule) else schedule

    tx = optax_ia.swats(schedule, scope=scope, weight_decay=0.1, **options)
    rest = dict(options)
    eps = rest.pop("eps", 1e-9)
    betas = {n: rest[n] for n in ("b1", "b2") if n in rest}
    groups = [PARAMS] if scope == "global" else [{n: w} for n, w in PARAMS.items()]
    iterates, states = library_states(tx)
    expected = {}
    for group in groups:
        inner = switching.swats_adam(rate, eps=eps, **betas)
        run, log = switching.switch_to_sgd(
            group, tree_gradient, inner, rate, STEPS, l2=0.1, relative=relative, **rest
        )
        expected |= by_name(run)
        assert_told(states, log, "" if scope == "global" else f"/{next(iter(group))}")
    assert_close(iterates, expected)


def test_swats_defaults_are_the_papers():
    expected, _ = switching.switch_to_sgd(
        PARAMS,
        tree_gradient,
        switching.swats_adam(constant(1e-3)),
        constant(1e-3),
        STEPS,
    )
    assert_close(library_states(optax_ia.swats())[0], by_name(expected))


@pytest.mark.parametrize(
    ("lower", "upper"),
    [(1.0, 1.0), (0.0, 1.0), (1.0, np.inf), (0.5, 2.0), (0.0, np.inf)],
)
def test_adam_clip(lower, upper):
    tx = optax_ia.adam_clip(0.05, 0.03, lower, upper, weight_decay=0.1)
    bounds = {"lower": lower, "upper": upper, "l2": 0.1}
    rates = (constant(0.05), constant(0.03))
    expected = reference_run(switching.adam_clip, *rates, STEPS, **bounds)
    assert_close(library_run(tx)[0], expected)


@pytest.mark.parametrize("own_schedule", [False, True])
def test_the_bounds_of_adam_clip_follow_a_schedule(own_schedule):
    sgd_rate = (lambda count: 0.2 / (2 + count) ** 2) if own_schedule else 0.03
    tx = optax_ia.adam_clip(
        lambda count: 0.1 / (2 + count), sgd_rate, 0.8, 1.5, b1=0.8, b2=0.95, eps=1e-3
    )
    expected = reference_run(
        switching.adam_clip,
        lambda t: 0.1 / (1 + t),
        (lambda t: 0.2 / (1 + t) ** 2) if own_schedule else (lambda t: 0.06 / (1 + t)),
        STEPS,
        lower=0.8,
        upper=1.5,
        b1=0.8,
        b2=0.95,
        eps=1e-3,
    )
    assert_close(library_run(tx)[0], expected)


def test_adam_clip_of_one_and_one_is_sgd_with_an_averaged_momentum():
    tx = optax_ia.adam_clip(1e-3, 0.05, 1.0, 1.0)
    # b1 m + (1 - b1) g is (1 - b1) times the heavy ball.
    expected = reference_run(
        adaptive.sgd, constant(0.05 * (1 - 0.9)), STEPS, momentum=0.9
    )
    assert_close(library_run(tx)[0], expected)
