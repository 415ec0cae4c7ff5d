"""SAM: where the second gradient is taken, who sees it, and what it asks for."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia

PARAMS = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([[0.5], [3.0]])}


def loss(params):
    return jnp.sum(params["a"] ** 4) + jnp.sum(jnp.cos(params["b"])) * params["a"][0]


grad_fn = jax.grad(loss)


def recorder(seen):
    """An inner optimiser that keeps what it is called with and moves nothing."""

    def update(updates, state, params=None, **extra_args):
        seen.append((updates, params, extra_args))
        return jax.tree.map(jnp.zeros_like, updates), state

    return optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)


def climbed(grads, *, params=PARAMS, **options):
    """The displacement at which the second gradient is asked for."""
    asked = []

    def spy(at):
        asked.append(at)
        return grads

    tx = optax_ia.sam(recorder([]), **options)
    tx.update(grads, tx.init(params), params, grad_fn=spy)
    (at,) = asked
    return jax.tree.map(lambda x, w: np.asarray(x - w), at, params)


def assert_close(actual, expected, rtol=1e-12):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-15),
        actual,
        expected,
    )


def test_the_inner_optimiser_sees_the_gradient_uphill_at_the_parameters_themselves():
    seen = []
    tx = optax_ia.sam(recorder(seen), rho=0.3)
    grads = grad_fn(PARAMS)
    tx.update(grads, tx.init(PARAMS), PARAMS, grad_fn=grad_fn, value=2.5)
    ((given, params, extra),) = seen
    norm = optax.tree.norm(grads)
    uphill = jax.tree.map(lambda w, g: w + 0.3 * g / norm, PARAMS, grads)
    assert_close(given, grad_fn(uphill))
    assert all(map(operator.is_, jax.tree.leaves(params), jax.tree.leaves(PARAMS)))
    assert extra == {"value": 2.5, "grad_fn": grad_fn}
    assert loss(uphill) > loss(PARAMS)


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_the_climb_has_length_rho_however_long_the_gradient(scale):
    grads = jax.tree.map(lambda g: scale * g, grad_fn(PARAMS))
    moved = climbed(grads, rho=0.3)
    np.testing.assert_allclose(optax.tree.norm(moved), 0.3, rtol=1e-7)
    direction = jax.tree.map(lambda g: 0.3 * g / optax.tree.norm(grads), grads)
    assert_close(moved, direction, rtol=1e-6)


def test_the_adaptive_climb_by_hand():
    """w = (2, -1), g = (3, 4): |w| g = (6, 4), w² g = (12, 4)."""
    moved = climbed(
        jnp.array([3.0, 4.0]), params=jnp.array([2.0, -1.0]), rho=0.5, adaptive=True
    )
    np.testing.assert_allclose(moved, 0.5 * np.array([12, 4]) / np.sqrt(52), rtol=1e-9)


def test_the_adaptive_climb_does_not_see_the_units_of_a_weight():
    """A weight in units a hundred times smaller has a gradient as much smaller."""
    units = np.array([100.0, 0.1])
    w, g = jnp.array([2.0, -1.0]), jnp.array([3.0, 4.0])
    moved = climbed(g, params=w, adaptive=True)
    rescaled = climbed(g / units, params=w * units, adaptive=True)
    np.testing.assert_allclose(rescaled, moved * units, rtol=1e-9)
    plain = climbed(g / units, params=w * units)
    assert not np.allclose(plain, climbed(g, params=w) * units)


def train(tx, steps=5, **extra_args):
    @jax.jit
    def step(params, state):
        updates, state = tx.update(
            grad_fn(params), state, params, grad_fn=grad_fn, **extra_args
        )
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_rho_of_zero_is_the_inner_optimiser(adaptive):
    inner = optax.adam(0.01)
    assert_close(train(optax_ia.sam(inner, 0.0, adaptive)), train(inner))


def test_inside_and_around_other_wrappers():
    """The extra argument goes through a chain, Lookahead and the switch to SGD."""
    expected, _ = train(optax_ia.sam(optax.sgd(0.01), 0.1))
    for tx in (
        optax.chain(optax_ia.sam(optax.sgd(0.01), 0.1), optax_ia.tail_average(1)),
        optax_ia.lookahead(optax_ia.sam(optax.sgd(0.01), 0.1), 2, 1.0),
        optax_ia.switch_to_sgd(optax_ia.sam(optax.sgd(0.01), 0.1), switch_at=100),
        optax.MultiSteps(
            optax_ia.sam(optax.sgd(0.01), 0.1), 1
        ).gradient_transformation(),
    ):
        assert_close(train(tx, value=1.0)[0], expected)


def test_rho_may_be_traced_and_changed():
    def make(rho):
        return optax_ia.sam(optax.sgd(0.01), rho)

    tx = optax.inject_hyperparams(make)(rho=0.1)
    params, state = train(tx)
    assert_close(params, train(make(0.1))[0])
    state.hyperparams["rho"] = jnp.zeros_like(state.hyperparams["rho"])
    updates, _ = tx.update(grad_fn(params), state, params, grad_fn=grad_fn)
    assert_close(updates, jax.tree.map(lambda g: -0.01 * g, grad_fn(params)))


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_a_zero_gradient_stays_where_it_is(dtype, adaptive):
    w = jnp.array([1.0, -2.0], dtype)
    zeros = jnp.zeros_like(w)
    moved = climbed(zeros, params=w, adaptive=adaptive)
    np.testing.assert_array_equal(moved.astype(np.float32), 0)
    # nor do weights of zero have a neighbourhood in their own units
    if adaptive:
        moved = climbed(w, params=zeros, adaptive=True)
        np.testing.assert_array_equal(moved.astype(np.float32), 0)


def test_bfloat16_climbs_by_float32_and_keeps_its_dtype():
    """4096 squares of 1: their sum in bfloat16 would stop at 256."""
    w = jnp.zeros(4096, jnp.bfloat16)
    g = jnp.ones_like(w)
    moved = climbed(g, params=w, rho=64.0)
    assert moved.dtype == jnp.bfloat16
    np.testing.assert_array_equal(moved.astype(np.float32), 1.0)
    tx = optax_ia.sam(optax.sgd(0.5))
    updates, _ = tx.update(
        g, tx.init(w), w, grad_fn=lambda w: w.astype(jnp.float32) + 1.0
    )
    assert updates.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": -0.05}, r"rho must be >= 0, got -0.05"),
        ({"rho": float("nan")}, r"rho must be >= 0, got nan"),
        ({"eps": 0.0}, r"eps must be > 0, got 0.0"),
    ],
)
def test_construction_errors_name_argument_bound_and_value(options, message):
    with pytest.raises(ValueError, match=message):
        optax_ia.sam(optax.sgd(0.1), **options)


def test_the_registrys_arguments_are_checked_too():
    with pytest.raises(ValueError, match=r"rho must be >= 0, got -1"):
        optax_ia.get_optimizer("sam_sgd", rho=-1)
    with pytest.raises(ValueError, match=r"learning_rate must be >= 0, got -1"):
        optax_ia.get_optimizer("sam_sgd", learning_rate=-1)


def test_what_update_lacks_is_named_and_the_call_shown():
    tx = optax_ia.sam(optax.sgd(0.1))
    state = tx.init(PARAMS)
    call = r"sam needs grad_fn.*update\(grads, state, params, grad_fn=grad_fn\)"
    with pytest.raises(ValueError, match=call):
        tx.update(PARAMS, state, PARAMS, value=1.0)
    with pytest.raises(ValueError, match=r"sam needs the parameters.*state, params\)"):
        tx.update(PARAMS, state, grad_fn=grad_fn)
