"""SWATS: its Adam, its decay in both phases, and a run that it ends well."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

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


def test_in_the_registry():
    tx = optax_ia.get_optimizer("swats", learning_rate=0.05, scope="leaf", switch_at=1)
    told = optax_ia.diagnostics(tx.init(initial()))
    assert "phase/dense/kernel" in told
    assert told["learning_rate"] == 0.05
    with pytest.raises(ValueError, match="weight_decay must be >= 0, got -1"):
        optax_ia.swats(weight_decay=-1)
    with pytest.raises(ValueError, match="eps must be >= 0, got -1"):
        optax_ia.swats(eps=-1)
