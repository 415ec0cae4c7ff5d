"""Adam-Clip, AdaBound and AMSBound: what the bounds hold, and where they go."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from optax_ia import registry
from tests.adaptive.problem import assert_same, gradients, run

# Step sizes that Adam would make differ by six orders of magnitude.
SPREAD = np.array([100.0, 1.0, 1e-2, 1e-4])


def alternating(params, t):
    """Gradients of one size, whose moving average the tests know."""
    return SPREAD * (1.0 + 0.5 * (-1) ** t)


def step_sizes(tx, steps):
    """What each entry of the moving average of the gradients was multiplied by."""
    _, iterates, told = run(
        lambda: tx, steps, params=jnp.zeros(4), gradient=alternating
    )
    mu, moments = np.zeros(4), []
    for t in range(steps):
        mu = 0.9 * mu + 0.1 * alternating(None, t)
        moments.append(mu)
    updates = np.diff(iterates, axis=0, prepend=np.zeros((1, 4)))
    return -updates / np.array(moments), told


@functools.cache
def adams_step_sizes():
    return step_sizes(adam_as_the_paper_has_it(0.01), 12)[0]


def adam_as_the_paper_has_it(learning_rate):
    return optax.chain(
        optax_ia.scale_by_padam(partial=0.5, amsgrad=False, correction="sqrt"),
        optax_ia.scale_by_learning_rate(learning_rate),
    )


def test_clip_to_one_and_one_is_sgd_with_an_averaged_momentum():
    ours = optax_ia.adam_clip(1e-3, 0.05, 1.0, 1.0)
    theirs = optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.05))
    assert_same(run(lambda: ours, 10)[1], run(lambda: theirs, 10)[1])


def test_clip_to_nothing_is_adam():
    ours = optax_ia.adam_clip(0.05, 0.1, 0.0, jnp.inf)
    theirs = adam_as_the_paper_has_it(0.05)
    assert_same(run(lambda: ours, 10)[1], run(lambda: theirs, 10)[1])


@pytest.mark.parametrize(("lower", "upper"), [(0.5, 2.0), (1.0, np.inf), (0.0, 1.0)])
def test_each_bound_of_adam_clip_holds_and_is_reached(lower, upper):
    sizes, _ = step_sizes(optax_ia.adam_clip(0.01, 0.01, lower, upper), 12)
    slack = 1e-9
    assert (sizes >= lower * 0.01 * (1 - slack)).all()
    assert (sizes <= upper * 0.01 * (1 + slack)).all()
    free = adams_step_sizes()
    np.testing.assert_allclose(
        sizes, np.clip(free, lower * 0.01, upper * 0.01), rtol=1e-9
    )
    assert (free < 0.005).any()
    assert (free > 0.02).any()


@pytest.mark.parametrize("make", [optax_ia.adabound, optax_ia.amsbound])
def test_the_bounds_of_adabound_hold_at_every_step_and_close(make):
    sizes, _ = step_sizes(make(1e-3, 0.1, gamma=0.2), 40)
    t = np.arange(1, 41)[:, None]
    lower, upper = 0.1 * (1 - 1 / (0.2 * t + 1)), 0.1 * (1 + 1 / (0.2 * t))
    assert (sizes >= lower * (1 - 1e-9)).all()
    assert (sizes <= upper * (1 + 1e-9)).all()
    np.testing.assert_allclose(sizes[:, 0], lower[:, 0], rtol=1e-9)
    np.testing.assert_allclose(sizes[:, 3], upper[:, 0], rtol=1e-9)
    spread = sizes[:, 3] / sizes[:, 0]
    assert (np.diff(spread) < 0).all()
    assert spread[-1] < 1.3 < spread[0]


def test_adabound_with_bounds_that_have_closed_is_sgd():
    ours = optax_ia.adabound(1e-3, 0.05, gamma=1e13)
    theirs = optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.05))
    assert_same(run(lambda: ours, 10)[1], run(lambda: theirs, 10)[1], rtol=1e-11)


def test_amsbound_remembers_a_large_gradient_and_adabound_forgets_it():
    def gradient(params, t):
        return np.array([10.0 if t == 0 else 0.1])

    ends = []
    for make in (optax_ia.adabound, optax_ia.amsbound):
        tx = make(1e-3, gamma=1e-6, b1=0.0, b2=0.5, eps=0.0)
        _, iterates, _ = run(
            lambda tx=tx: tx, 60, params=jnp.zeros(1), gradient=gradient
        )
        ends.append(-float(np.diff(iterates, axis=0)[-1, 0]))
    np.testing.assert_allclose(ends, [1e-3, 1e-3 * 0.1 / np.sqrt(50.0)], rtol=1e-6)


def halving(count):
    return 0.01 * 0.5**count


def test_a_number_for_sgd_follows_the_shape_of_adams_schedule():
    sizes, told = step_sizes(optax_ia.adam_clip(halving, 0.04, 1.0, 1.0), 6)
    ratio = 0.5 ** np.arange(6)
    np.testing.assert_allclose(sizes, np.outer(0.04 * ratio, np.ones(4)), rtol=1e-9)
    np.testing.assert_allclose(told["learning_rate"], 0.01 * ratio)


def test_a_schedule_for_sgd_is_taken_as_it_is():
    tx = optax_ia.adam_clip(halving, lambda count: 0.1 / (1 + count), 0.5, 0.5)
    sizes, _ = step_sizes(tx, 6)
    expected = 0.5 * 0.1 / np.arange(1, 7)
    np.testing.assert_allclose(sizes, np.outer(expected, np.ones(4)), rtol=1e-9)


def test_the_final_rate_of_adabound_follows_the_schedule():
    sizes, _ = step_sizes(optax_ia.adabound(halving, 0.04, gamma=1e13), 6)
    expected = 0.04 * 0.5 ** np.arange(6)
    np.testing.assert_allclose(sizes, np.outer(expected, np.ones(4)), rtol=1e-9)


MAKERS = {
    "adam_clip": optax_ia.adam_clip,
    "own_schedule": lambda rate, **options: optax_ia.adam_clip(
        rate, lambda count: 0.1, 0.5, 2.0, **options
    ),
    "adabound": optax_ia.adabound,
    "amsbound": optax_ia.amsbound,
}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
ZEROS = {
    "a number": (0.0, {0, 1, 2, 3}),
    "always": (lambda count: 0.0 * count, {0, 1, 2, 3}),
    "at first": (optax.linear_schedule(0.0, 0.01, 3), {0}),
    "at last": (lambda count: 0.01 * (3 - count), {3}),
    "between": (optax.piecewise_constant_schedule(0.01, {1: 0.0}), {1, 2, 3}),
}


@every_maker
@pytest.mark.parametrize("rate", ZEROS)
def test_a_rate_of_zero_moves_nothing(make, rate):
    rate, still = ZEROS[rate]
    tx = make(rate)
    _, iterates, told = run(lambda: tx, 4, params=jnp.zeros(4), gradient=alternating)
    assert np.isfinite(told["learning_rate"]).all()
    for t, step in enumerate(np.diff(iterates, axis=0, prepend=np.zeros((1, 4)))):
        if t in still:
            np.testing.assert_array_equal(step, 0)
        else:
            assert (step < 0).all()


FOLLOWING = {name: make for name, make in MAKERS.items() if name != "own_schedule"}
following = pytest.mark.parametrize("make", FOLLOWING.values(), ids=FOLLOWING)
UNKNOWN = {
    "rising": lambda count: 1e-6 * count,
    "growing": lambda count: 1e-7 * 1.1**count,
    "negative": lambda count: -0.1,
    "late": lambda count: jnp.where(count < 600_000, 0.1, 0.2),
    "not traceable": lambda count: 0.1 if count < 10 else 0.01,
}


@following
@pytest.mark.parametrize("schedule", UNKNOWN)
def test_a_schedule_without_a_known_maximum_needs_the_base(make, schedule):
    with pytest.raises(TypeError, match="Pass base_learning_rate"):
        make(UNKNOWN[schedule])
    make(UNKNOWN[schedule], base_learning_rate=0.1)


def test_a_schedule_of_sgd_needs_no_base():
    optax_ia.adam_clip(UNKNOWN["rising"], optax.constant_schedule(0.1))


@following
def test_a_schedule_that_holds_a_traced_value_needs_the_base(make):
    def init(peak, **base):
        return make(lambda count: peak * jnp.exp(-count), **base).init(jnp.zeros(1))

    with pytest.raises(TypeError, match="cannot be evaluated at construction"):
        jax.jit(init)(0.1)
    jax.jit(lambda peak: init(peak, base_learning_rate=peak))(0.1)


def test_the_maximum_is_found_inside_jit():
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.1, 3, 10)
    outside = optax_ia.adabound(schedule)

    def update(g):
        inside = optax_ia.adabound(schedule)
        return inside.update(g, inside.init(g), g)[0]

    g = jnp.ones(2)
    expected, _ = outside.update(g, outside.init(g), g)
    assert_same(jax.jit(update)(g), np.asarray(expected))


@following
def test_an_injected_number_is_its_own_base_and_may_be_lowered(make):
    """Like the schedule that falls to the same value."""
    tx = optax.inject_hyperparams(make)(learning_rate=0.01)
    update = jax.jit(tx.update)
    params = jnp.ones(4)
    state = tx.init(params)
    falling = make(optax.piecewise_constant_schedule(0.01, {2: 0.5}))
    expected = falling.init(params)
    for t in range(4):
        if t == 2:
            state.hyperparams["learning_rate"] = jnp.asarray(0.005)
        g = jnp.asarray(alternating(None, t))
        updates, state = update(g, state, params)
        wanted, expected = falling.update(g, expected, params)
        assert_same(np.asarray(updates), np.asarray(wanted), rtol=1e-6)


@following
def test_an_injected_warm_up_needs_the_base(make):
    """Its first value is no base: named where it is known, NaN inside jit."""
    injected = optax.inject_hyperparams(make)
    params = jnp.ones(4)
    with pytest.raises(ValueError, match="0 at init.*Pass base_learning_rate"):
        injected(optax.linear_schedule(0.0, 0.01, 3)).init(params)
    tx = injected(optax.linear_schedule(1e-8, 0.01, 3))
    _, state = tx.update(params, tx.init(params), params)
    with pytest.raises(ValueError, match="risen from .* Pass base_learning_rate"):
        tx.update(params, state, params)
    updates, _ = jax.jit(tx.update)(params, state, params)
    assert np.isnan(updates).all()


@following
def test_learning_rates_under_vmap_are_their_own_bases(make):
    rates = jnp.array([0.01, 0.02])

    def run(rate):
        tx = make(rate)
        g = jnp.ones(2)
        return tx.update(g, tx.init(g), g)[0]

    expected = [run(float(rate)) for rate in rates]
    np.testing.assert_allclose(jax.vmap(run)(rates), expected, rtol=1e-12)


def test_l2_decay_is_seen_by_the_moments_and_masked():
    mask = {"dense": {"kernel": True, "bias": False}}
    for make in (optax_ia.adam_clip, optax_ia.adabound):
        decaying = make(0.05, weight_decay=0.3, mask=mask)

        def gradient(params, t):
            grads = gradients(params, t)
            grads["dense"]["kernel"] += 0.3 * np.asarray(params["dense"]["kernel"])
            return grads

        plain = make(0.05)
        assert_same(
            run(lambda tx=decaying: tx, 5)[1],
            run(lambda tx=plain: tx, 5, gradient=gradient)[1],
        )


def test_amsbound_in_the_registry_has_one_tree_of_state_more():
    params = jnp.zeros(3)
    assert registry.get_record("amsbound").factory is optax_ia.amsbound
    sizes = {
        name: len(jax.tree.leaves(optax_ia.get_optimizer(name).init(params)))
        for name in ("adabound", "amsbound")
    }
    assert sizes["amsbound"] == sizes["adabound"] + 1


COMMON = [
    ({"learning_rate": -0.1}, r"learning_rate must be >= 0, got -0.1"),
    ({"b1": 1.0}, r"b1 must be < 1, got 1.0"),
    ({"b1": -0.1}, r"b1 must be >= 0, got -0.1"),
    ({"b2": 1.0}, r"b2 must be < 1, got 1.0"),
    ({"eps": -1e-8}, r"eps must be >= 0, got -1e-08"),
    ({"weight_decay": -1.0}, r"weight_decay must be >= 0, got -1.0"),
    ({"base_learning_rate": 0.0}, r"base_learning_rate must be > 0, got 0.0"),
]
CLIP = [
    ({"sgd_learning_rate": -0.1}, r"sgd_learning_rate must be >= 0, got -0.1"),
    ({"lower": -1.0}, r"lower must be >= 0, got -1.0"),
    ({"lower": 2.0, "upper": 1.0}, r"upper must be >= lower = 2.0, got 1.0"),
    ({"upper": 0.5}, r"upper must be >= lower = 1.0, got 0.5"),
    ({"upper": float("nan")}, r"upper .* got nan"),
]
BOUND = [
    ({"final_learning_rate": 0.0}, r"final_learning_rate must be > 0, got 0.0"),
    ({"gamma": 0.0}, r"gamma must be > 0, got 0.0"),
    ({"gamma": -1e-3}, r"gamma must be > 0, got -0.001"),
]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        *((optax_ia.adam_clip, *case) for case in COMMON + CLIP),
        *((optax_ia.adabound, *case) for case in COMMON + BOUND),
        *((optax_ia.amsbound, *case) for case in COMMON + BOUND),
    ],
)
def test_construction_errors_name_argument_bound_and_value(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
