"""Adam-Clip, AdaBound and AMSBound: what the bounds hold, and where they go."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
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


@pytest.mark.parametrize("amsbound", [False, True])
def test_the_bounds_of_adabound_hold_at_every_step_and_close(amsbound):
    tx = optax_ia.adabound(1e-3, 0.1, gamma=0.2, amsbound=amsbound)
    sizes, _ = step_sizes(tx, 40)
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

    ends = {}
    for amsbound in (False, True):
        tx = optax_ia.adabound(
            1e-3, gamma=1e-6, b1=0.0, b2=0.5, eps=0.0, amsbound=amsbound
        )
        _, iterates, _ = run(
            lambda tx=tx: tx, 60, params=jnp.zeros(1), gradient=gradient
        )
        ends[amsbound] = -float(np.diff(iterates, axis=0)[-1, 0])
    np.testing.assert_allclose(ends[False], 1e-3, rtol=1e-6)
    np.testing.assert_allclose(ends[True], 1e-3 * 0.1 / np.sqrt(50.0), rtol=1e-6)


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


RAMPS = {"up": lambda count: 0.01 * count, "down": lambda count: 0.01 * (3 - count)}


@pytest.mark.parametrize("ramp", RAMPS)
@pytest.mark.parametrize(
    "make",
    [
        lambda rate: optax_ia.adam_clip(rate),
        lambda rate: optax_ia.adam_clip(rate, rate, 0.5, 2.0),
        lambda rate: optax_ia.adabound(rate),
    ],
    ids=["adam_clip", "own_schedule", "adabound"],
)
def test_a_rate_of_zero_at_either_end_gives_no_nan(make, ramp):
    tx = make(RAMPS[ramp])
    _, iterates, told = run(lambda: tx, 4, params=jnp.zeros(4), gradient=alternating)
    assert np.isfinite(iterates).all()
    assert np.isfinite(told["learning_rate"]).all()
    steps = np.diff(iterates, axis=0, prepend=np.zeros((1, 4)))
    assert (steps[1:3] < 0).all()
    if ramp == "down":
        np.testing.assert_array_equal(steps[3], 0)


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
]
CLIP = [
    ({"sgd_learning_rate": -0.1}, r"sgd_learning_rate must be >= 0, got -0.1"),
    ({"lower": -1.0}, r"lower must be >= 0, got -1.0"),
    ({"lower": 2.0, "upper": 1.0}, r"upper must be >= 2.0, got 1.0"),
    ({"upper": 0.5}, r"upper must be >= 1.0, got 0.5"),
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
    ],
)
def test_construction_errors_name_argument_bound_and_value(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
