"""Float64 steps of the bounded methods against the released rules in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.datasets

import optax_ia
from tests.reference import adaptive, bounded, switching
from tests.reference.problem import (
    STEPS,
    assert_close,
    constant,
    library_run,
    reference_run,
)

both = pytest.mark.parametrize("amsbound", [False, True])


def make(amsbound):
    return optax_ia.amsbound if amsbound else optax_ia.adabound


@both
@pytest.mark.parametrize("gamma", [1e-3, 0.3, 10.0])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adabound(amsbound, gamma, weight_decay):
    """Bounds that never hold, that hold some entries, and that hold all."""
    tx = make(amsbound)(0.05, 0.04, gamma, weight_decay=weight_decay)
    expected = reference_run(
        bounded.adabound,
        constant(0.05),
        STEPS,
        final_learning_rate=0.04,
        gamma=gamma,
        amsbound=amsbound,
        l2=weight_decay,
    )
    assert_close(library_run(tx)[0], expected)


@both
def test_every_number_is_used_and_the_bounds_follow_the_schedule(amsbound):
    options = {"gamma": 0.2, "b1": 0.8, "b2": 0.9, "eps": 1e-2}
    tx = make(amsbound)(lambda count: 0.2 / (2 + count), 0.03, **options)
    expected = reference_run(
        bounded.adabound,
        lambda t: 0.2 / (1 + t),
        STEPS,
        final_learning_rate=0.03,
        amsbound=amsbound,
        **options,
    )
    assert_close(library_run(tx)[0], expected)


@pytest.mark.parametrize(
    ("name", "amsbound"), [("adabound", False), ("amsbound", True)]
)
def test_the_registry_has_both_with_the_papers_defaults(name, amsbound):
    expected = reference_run(bounded.adabound, constant(1e-3), STEPS, amsbound=amsbound)
    assert_close(library_run(optax_ia.get_optimizer(name))[0], expected)


def test_amsbound_differs_from_adabound_on_this_problem():
    runs = [
        reference_run(bounded.adabound, constant(0.05), STEPS, b2=0.9, amsbound=a)
        for a in (False, True)
    ]
    assert abs(runs[0]["kernel"][-1] - runs[1]["kernel"][-1]).max() > 1e-3


@both
def test_bounds_that_have_closed_are_sgd(amsbound):
    tx = make(amsbound)(1e-3, 0.05, gamma=1e13)
    expected = reference_run(
        adaptive.sgd, constant(0.05 * (1 - 0.9)), STEPS, momentum=0.9
    )
    assert_close(library_run(tx)[0], expected)


def test_mask_leaves_the_bias_undecayed():
    tx = optax_ia.adabound(0.05, weight_decay=0.5, mask={"kernel": True, "bias": False})
    decayed = reference_run(bounded.adabound, constant(0.05), STEPS, l2=0.5)
    plain = reference_run(bounded.adabound, constant(0.05), STEPS)
    assert_close(
        library_run(tx)[0], {"kernel": decayed["kernel"], "bias": plain["bias"]}
    )


def wide(schedule):
    """The schedule in float64; of an integer count Optax's give float32."""
    return lambda count: schedule(jnp.asarray(count, float))


def counted_from_1(schedule):
    """A schedule as the references ask for it."""
    return lambda t: float(schedule(t - 1))


def reference_rule(name, rate, peak):
    """The NumPy rule of a method, with bounds relative to the peak of its schedule."""
    if name == "adam_clip":
        sgd = lambda t: 0.1 * rate(t) / peak  # noqa: E731
        return lambda w, g, n: switching.adam_clip(w, g, rate, sgd, n, upper=2.0)
    options = {"gamma": 0.05, "base": peak, "amsbound": name == "amsbound"}
    return lambda w, g, n: bounded.adabound(w, g, rate, n, **options)


OPTIONS = {
    "adabound": {"gamma": 0.05},
    "amsbound": {"gamma": 0.05},
    "adam_clip": {"upper": 2.0},
}
every_method = pytest.mark.parametrize("name", OPTIONS)

SCHEDULES = {
    "from 0": optax.linear_schedule(0.0, 0.05, 4),
    "from 1e-8": optax.linear_schedule(1e-8, 0.05, 4),
    "cosine": optax.cosine_decay_schedule(0.05, STEPS),
    "warm-up and cosine": optax.warmup_cosine_decay_schedule(0.0, 0.05, 3, STEPS),
    "piecewise": optax.piecewise_constant_schedule(1e-4, {2: 500.0, 6: 0.1}),
    "joined": optax.join_schedules(
        [optax.linear_schedule(1e-8, 0.05, 3), optax.exponential_decay(0.05, 2, 0.5)],
        [3],
    ),
    "of this package": optax_ia.linear_schedule(0.05, STEPS),
}


@every_method
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("given", ["known", "argument", "injected"])
def test_bounds_are_relative_to_the_peak_of_any_schedule(name, schedule, given):
    """The peak is found, or given where the factory sees only the current rate."""
    schedule = wide(SCHEDULES[schedule])
    factory = getattr(optax_ia, name)
    options = dict(OPTIONS[name])
    if given != "known":
        options["base_learning_rate"] = 0.05
    if given == "injected":
        factory = optax.inject_hyperparams(factory)
    rule = reference_rule(name, counted_from_1(schedule), 0.05)
    expected = reference_run(rule, STEPS)
    assert_close(library_run(factory(schedule, **options))[0], expected)


@pytest.fixture(scope="module")
def digits():
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    return images[:300] / 16, np.eye(10)[labels[:300]]


@every_method
@pytest.mark.parametrize("start", [0.0, 1e-8])
def test_logistic_regression_on_digits_converges_under_a_warm_up(name, start, digits):
    images, targets = digits
    steps = 500
    schedule = wide(optax.linear_schedule(start, 1e-3, 50))

    def gradient(t, w):
        logits = images @ w
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return images.T @ (odds / odds.sum(1, keepdims=True) - targets) / len(images)

    def loss(w):
        return optax.softmax_cross_entropy(images @ w, targets).mean()

    tx = getattr(optax_ia, name)(schedule, **OPTIONS[name])

    @jax.jit
    def train(w):
        def body(carry, _):
            w, state = carry
            updates, state = tx.update(jax.grad(loss)(w), state, w)
            w = optax.apply_updates(w, updates)
            return (w, state), w

        return jax.lax.scan(body, (w, tx.init(w)), length=steps)[1]

    iterates = train(jnp.zeros((64, 10)))
    rule = reference_rule(name, counted_from_1(schedule), 1e-3)
    expected = rule(np.zeros((64, 10)), gradient, steps)
    assert_close({"w": iterates}, {"w": expected}, rtol=1e-10)
    assert loss(iterates[-1]) < 0.5 < 2.0 < loss(iterates[0])
