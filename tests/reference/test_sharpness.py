"""Ten float64 steps of SAM, plain and adaptive, around several inner rules."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.reference import sharpness
from tests.reference.problem import (
    NOISE,
    PARAMS,
    STEPS,
    assert_close,
    by_name,
    constant,
    library_states,
    tree_gradient,
)

both = pytest.mark.parametrize("adaptive", [False, True])


def quartic(params, t):
    """A function that is not quadratic: its gradient at w + e is no linear matter."""
    return sum(
        jnp.sum(0.25 * w**4 + jnp.asarray(NOISE[n])[t - 1] * w)
        for n, w in params.items()
    )


def quartic_gradient(t, params):
    return {n: w**3 + NOISE[n][t - 1] for n, w in params.items()}


@both
@pytest.mark.parametrize("rho", [0.05, 0.5])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_sam_of_sgd(adaptive, rho, momentum, l2):
    inner = optax.chain(optax_ia.l2_decay(l2), optax.sgd(0.05, momentum=momentum))
    expected = sharpness.sam(
        PARAMS,
        tree_gradient,
        sharpness.sgd(constant(0.05), momentum=momentum, l2=l2),
        STEPS,
        rho=rho,
        adaptive=adaptive,
    )
    tx = optax_ia.sam(inner, rho, adaptive)
    assert_close(library_states(tx)[0], by_name(expected))


@both
def test_sam_of_adam_with_a_schedule(adaptive):
    tx = optax_ia.sam(optax.adam(lambda count: 0.1 / (1 + count)), 0.2, adaptive)
    expected = sharpness.sam(
        PARAMS,
        tree_gradient,
        sharpness.adam(lambda t: 0.1 / t),
        STEPS,
        rho=0.2,
        adaptive=adaptive,
    )
    assert_close(library_states(tx)[0], by_name(expected))


@both
def test_sam_of_a_function_that_is_not_quadratic(adaptive):
    tx = optax_ia.sam(optax.sgd(0.05, momentum=0.9), 0.3, adaptive)
    expected = sharpness.sam(
        PARAMS,
        quartic_gradient,
        sharpness.sgd(constant(0.05), momentum=0.9),
        STEPS,
        rho=0.3,
        adaptive=adaptive,
    )
    assert_close(library_states(tx, quartic)[0], by_name(expected))


@both
def test_epsilon_stands_beside_the_norm(adaptive):
    tx = optax_ia.sam(optax.sgd(0.05), 0.3, adaptive, eps=2.0)
    expected = sharpness.sam(
        PARAMS,
        tree_gradient,
        sharpness.sgd(constant(0.05)),
        STEPS,
        rho=0.3,
        adaptive=adaptive,
        eps=2.0,
    )
    assert_close(library_states(tx)[0], by_name(expected))


def test_the_defaults_are_the_papers():
    expected = sharpness.sam(
        PARAMS, tree_gradient, sharpness.sgd(constant(0.05)), STEPS, rho=0.05
    )
    tx = optax_ia.sam(optax.sgd(0.05))
    assert_close(library_states(tx)[0], by_name(expected))


@both
def test_the_registry_has_sam_of_momentum_with_l2_decay(adaptive):
    tx = optax_ia.get_optimizer(
        "sam_sgd", learning_rate=0.05, weight_decay=0.1, rho=0.1, adaptive=adaptive
    )
    expected = sharpness.sam(
        PARAMS,
        tree_gradient,
        sharpness.sgd(constant(0.05), momentum=0.9, l2=0.1),
        STEPS,
        rho=0.1,
        adaptive=adaptive,
    )
    assert_close(library_states(tx)[0], by_name(expected))


@both
def test_a_zero_gradient_climbs_nowhere(adaptive):
    start = {"w": np.array([1.0, -2.0])}
    tx = optax_ia.sam(optax.sgd(0.1), 0.5, adaptive)
    # Zero at the first iterate, so SAM's second gradient is the first again.
    target = jnp.asarray(start["w"])

    def loss(params, t):
        return jnp.sum(jnp.where(t > 1, 1.0, 0.0) + (params["w"] - target) ** 2)

    iterates, _ = library_states(tx, loss, start, 2)
    np.testing.assert_array_equal(iterates["w"], [start["w"]] * 2)
