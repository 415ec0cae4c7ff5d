"""Ten float64 steps of the stochastic line search against a loop in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia
from tests.reference import linesearch
from tests.reference.problem import (
    NOISE,
    PARAMS,
    STEPS,
    assert_close,
    by_name,
    library_states,
    tree_gradient,
    value,
)

OPTIONS = [
    {},
    {"steps_per_epoch": 5},
    {"learning_rate": 1e-3},
    {"learning_rate": 30.0, "beta": 0.5},
    {"c": 0.5, "beta": 0.8, "gamma": 3.0, "steps_per_epoch": 2},
    {"gamma": 1.0},
    {"c": 1e-3, "beta": 0.7, "gamma": 8.0},
]


def rounded(params, t):
    """Its curvature falls with the distance, so the rate comes down and goes up.

    And it is bounded, so that a step near Armijo's bound, which overshoots, does not
    blow the runs' rounding errors up from one update to the next.
    """
    return sum(
        jnp.sum(jnp.sqrt(1 + 4 * w**2) + 0.6 * jnp.asarray(NOISE[n])[t - 1] * w)
        for n, w in params.items()
    )


def rounded_value(t, params):
    return sum(
        np.sum(np.sqrt(1 + 4 * w**2) + 0.6 * NOISE[n][t - 1] * w)
        for n, w in params.items()
    )


def rounded_gradient(t, params):
    return {
        n: 4 * w / np.sqrt(1 + 4 * w**2) + 0.6 * NOISE[n][t - 1]
        for n, w in params.items()
    }


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_sls(options):
    expected, _, _ = linesearch.sls(PARAMS, value, tree_gradient, STEPS, **options)
    iterates, _ = library_states(optax_ia.sls(**options))
    assert_close(iterates, by_name(expected))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_sls_of_a_function_that_is_not_quadratic(options):
    expected, _, _ = linesearch.sls(
        PARAMS, rounded_value, rounded_gradient, STEPS, **options
    )
    iterates, _ = library_states(optax_ia.sls(**options), rounded)
    assert_close(iterates, by_name(expected))


def test_the_problems_above_ask_for_several_backtracks_and_several_increases():
    _, rates, backtracks = linesearch.sls(PARAMS, value, tree_gradient, STEPS)
    assert sum(n > 1 for n in backtracks) > 2
    _, rates, backtracks = linesearch.sls(
        PARAMS, value, tree_gradient, STEPS, learning_rate=1e-3
    )
    # From far below: every trial holds at once until the rate has grown to its size.
    assert backtracks[:3] == [0, 0, 0]
    assert rates[3] == 8e-3
    _, rates, _ = linesearch.sls(PARAMS, rounded_value, rounded_gradient, STEPS)
    moves = np.sign(np.diff(rates))
    assert {-1.0, 1.0} <= set(moves)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_rate_that_is_reported_is_the_one_that_was_taken(options):
    _, rates, _ = linesearch.sls(PARAMS, value, tree_gradient, STEPS, **options)
    _, states = library_states(optax_ia.sls(**options))
    told = [float(optax_ia.diagnostics(s)["learning_rate"]) for s in states]
    np.testing.assert_allclose(told, rates, rtol=1e-12)


def test_the_registry_has_the_papers_defaults():
    expected, _, _ = linesearch.sls(PARAMS, value, tree_gradient, STEPS)
    iterates, _ = library_states(optax_ia.get_optimizer("sls"))
    assert_close(iterates, by_name(expected))
