"""SWATS: its Adam, its decay in both phases, and a run that it ends well."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.datasets

import optax_ia
from tests.adaptive.problem import (
    assert_same,
    gradients,
    initial,
    run,
    sgd_iterates,
)


def decayed(weight_decay, names=("bias", "kernel")):
    """The problem's gradients with L2 decay of some of the tensors."""

    def gradient(params, t):
        grads = gradients(params, t)
        for name in names:
            grads["dense"][name] += weight_decay * np.asarray(params["dense"][name])
        return grads

    return gradient


def test_before_the_switch_it_is_adam():
    """Their epsilons stand on different sides of the bias correction."""
    swats = optax_ia.swats(0.05, eps=0.0, switch_at=100)
    assert_same(run(lambda: swats, 8)[1], run(lambda: optax.adam(0.05, eps=0.0), 8)[1])


def test_it_is_switch_to_sgd_around_that_adam():
    options = {"b1": 0.8, "b2": 0.9, "tol": 2e-3}
    swats = optax_ia.swats(0.05, eps=0.0, **options)
    other = optax_ia.switch_to_sgd(optax.adam(0.05, 0.8, 0.9, eps=0.0), **options)
    _, iterates, told = run(lambda: swats, 10)
    _, expected, known = run(lambda: other, 10)
    assert_same(iterates, expected)
    assert told["switch_step"].tolist() == known["switch_step"].tolist()
    assert 1 < told["switch_step"][-1] < 10
    np.testing.assert_array_equal(told["learning_rate"], 0.05)


@pytest.mark.parametrize("masked", [False, True])
def test_l2_decay_in_both_phases(masked):
    mask = {"dense": {"kernel": True, "bias": False}} if masked else None
    names = ("kernel",) if masked else ("bias", "kernel")
    tx = optax_ia.swats(0.05, switch_at=4, weight_decay=0.3, mask=mask)
    _, iterates, told = run(lambda: tx, 10)
    plain = optax_ia.swats(0.05, switch_at=4)
    gradient = decayed(0.3, names)
    _, expected, known = run(lambda: plain, 10, gradient=gradient)
    assert_same(iterates, expected)
    # the estimate too is of the gradient with the decay in it
    np.testing.assert_allclose(told["gamma"], known["gamma"], rtol=1e-12)
    rates = [0.1 * told["sgd_learning_rate"][-1]] * 6
    assert_same(
        iterates[4:], sgd_iterates(iterates[3], rates, first=4, gradient=gradient)
    )


def test_a_decay_schedule_counts_on():
    tx = optax_ia.swats(0.05, switch_at=2, weight_decay=lambda count: 0.1 * count)
    plain = optax_ia.swats(0.05, switch_at=2)
    _, expected, _ = run(lambda: plain, 6, gradient=lambda w, t: decayed(0.1 * t)(w, t))
    assert_same(run(lambda: tx, 6)[1], expected)


def test_after_the_switch_it_solves_a_least_squares_problem_by_batches():
    key, data_key = jax.random.split(jax.random.key(0))
    x = jax.random.normal(data_key, (64, 5))
    solution = jnp.arange(5.0)
    y = x @ solution
    tx = optax_ia.swats(0.1, b2=0.9, tol=1e-2)

    def body(carry, key):
        w, state = carry
        rows = jax.random.choice(key, 64, (8,), replace=False)
        error = x[rows] @ w - y[rows]
        updates, state = tx.update(error @ x[rows] / 8, state, w)
        w = optax.apply_updates(w, updates)
        distance = jnp.linalg.norm(w - solution)
        return (w, state), (distance, optax_ia.diagnostics(state)["switch_step"])

    @jax.jit
    def train(w):
        keys = jax.random.split(key, 400)
        return jax.lax.scan(body, (w, tx.init(w)), keys)[1]

    distances, steps = train(jnp.zeros(5))
    assert 1 < steps[-1] < 100
    assert distances[-1] < 1e-2 * distances[steps[-1]]


@functools.cache
def digits():
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels


SEEDS = jnp.arange(5)
WARM_UP = 100


@functools.partial(jax.jit, static_argnums=0)
def train_on_digits(tx):
    """A small network, from five seeds; the losses and the steps of the switches."""
    images, labels = map(jnp.asarray, digits())

    def loss(w, rows):
        hidden = jnp.tanh(images[rows] @ w["hidden"])
        return optax.softmax_cross_entropy_with_integer_labels(
            hidden @ w["out"], labels[rows]
        ).mean()

    def body(carry, key):
        w, state = carry
        rows = jax.random.randint(key, (64,), 0, len(labels))
        value, grads = jax.value_and_grad(loss)(w, rows)
        updates, state = tx.update(grads, state, w)
        told = optax_ia.diagnostics(state)
        carry = optax.apply_updates(w, updates), state
        return carry, (value, told["switch_step"])

    def train(seed):
        keys = jax.random.split(jax.random.key(seed), 3)
        w = {
            "hidden": jax.random.normal(keys[0], (64, 32), jnp.float32) / 8,
            "out": jax.random.normal(keys[1], (32, 10), jnp.float32) / 6,
        }
        return jax.lax.scan(body, (w, tx.init(w)), jax.random.split(keys[2], 300))[1]

    losses, steps = jax.vmap(train)(SEEDS)
    return losses[:, -20:].mean(1), steps[:, -1]


def warm_up(start):
    return optax.linear_schedule(start, 1e-3, WARM_UP)


UNDER_A_SCHEDULE = {
    "swats": lambda rate, **options: optax_ia.swats(rate, **options),
    "injected": lambda rate, **options: optax.inject_hyperparams(
        optax_ia.swats, static_args=("monitor",)
    )(rate, **options),
    "recorded": lambda rate, **options: optax_ia.switch_to_sgd(
        optax_ia.padam(rate, partial=0.5, amsgrad=False), **options
    ),
    "inner_injected": lambda rate, **options: optax_ia.switch_to_sgd(
        optax.inject_hyperparams(optax.adam)(rate), **options
    ),
    "told": lambda rate, **options: optax_ia.switch_to_sgd(
        optax.adam(rate), learning_rate=rate, **options
    ),
}


@pytest.mark.parametrize("start", [0.0, 1e-8])
@pytest.mark.parametrize("name", UNDER_A_SCHEDULE)
def test_a_warm_up_does_not_trigger_the_switch(name, start):
    """The printed criterion is met at once, because the learning rate is small."""
    make = UNDER_A_SCHEDULE[name]
    losses, steps = train_on_digits(make(warm_up(start), tol=1e-2))
    assert (steps != 2).all()
    printed, early = train_on_digits(make(warm_up(start), tol=1e-2, monitor="gamma"))
    assert early.tolist() == [2] * len(SEEDS)
    assert (losses < 0.7).all()
    assert (losses < printed).all()


def test_the_relative_criterion_switches_under_a_warm_up():
    """Not at the first estimate, and to a rate that then follows the schedule."""
    tx = optax_ia.swats(warm_up(0.0), b2=0.9, tol=0.1)
    losses, steps = train_on_digits(tx)
    assert (steps != 2).all()
    assert (steps > 2).any()
    assert (losses < 0.7).all()


def test_a_change_of_a_constant_rate_makes_the_monitor_relative():
    """Until then the switch is that of the number."""
    numbers, injected = (
        run(make, 9)[2]["lambda_hat"]
        for make in (
            lambda: optax_ia.swats(0.05),
            lambda: optax.inject_hyperparams(optax_ia.swats)(
                lambda count: jnp.where(count < 5, 0.05, 0.01)
            ),
        )
    )
    np.testing.assert_allclose(injected[:5], numbers[:5], rtol=1e-6)
    np.testing.assert_allclose(injected[5], numbers[5] / 5, rtol=0.2)


def test_in_the_registry():
    tx = optax_ia.get_optimizer("swats", learning_rate=0.05, scope="leaf", switch_at=1)
    told = optax_ia.diagnostics(tx.init(initial()))
    assert "phase/dense/kernel" in told
    assert told["learning_rate"] == 0.05
    with pytest.raises(ValueError, match="weight_decay must be >= 0, got -1"):
        optax_ia.swats(weight_decay=-1)
    with pytest.raises(ValueError, match="eps must be >= 0, got -1"):
        optax_ia.swats(eps=-1)
