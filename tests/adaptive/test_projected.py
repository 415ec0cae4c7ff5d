"""AdamP and SGDP: what they project, what they leave alone, and what it is for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.adaptive.problem import assert_same, make_step, record, run

_RNG = np.random.default_rng(1)
KERNEL = _RNG.normal(size=(5, 4))
PAIRS = {
    "adamp": (optax_ia.adamp, optax.adam(0.05)),
    "sgdp": (optax_ia.sgdp, optax.sgd(0.05, momentum=0.9)),
}
both = pytest.mark.parametrize("name", PAIRS)


def orthogonal(w, t, axis=0):
    """A gradient at right angles to each row of ``w``, rows along ``axis``."""
    w = np.asarray(w)
    g = np.sin(1 + t + np.arange(w.size)).reshape(w.shape)
    inner = (g * w).sum(axis, keepdims=True) / (w * w).sum(axis, keepdims=True)
    return g - inner * w


def radial(w, t):
    """A gradient along the weights: nothing to project."""
    return np.asarray(w) * (1.0 + 0.1 * t)


DEFAULTS = {
    "learning_rate": 0.05,
    "delta": 0.1,
    "wd_ratio": 0.1,
    "eps": 1e-8,
    "weight_decay": 0.0,
}
STEPS = {name: make_step(make) for name, (make, _) in PAIRS.items()}


def projected_run(name, steps=8, gradient=orthogonal, w=KERNEL, **options):
    """The iterates; what differs in numbers alone is compiled once."""
    params = jnp.asarray(w)
    carry = params, PAIRS[name][0](**options).init(params)
    options = DEFAULTS | options
    return record(STEPS[name], carry, steps, gradient=gradient, **options)[1]


@functools.cache
def plain_run(name, steps=8, gradient=orthogonal):
    tx = PAIRS[name][1]
    return run(lambda: tx, steps, params=jnp.asarray(KERNEL), gradient=gradient)[1]


@both
def test_a_delta_of_zero_is_the_plain_rule(name):
    assert_same(projected_run(name, delta=0.0), plain_run(name))


@both
def test_a_radial_gradient_is_not_projected(name):
    ours = projected_run(name, gradient=radial)
    assert_same(ours, plain_run(name, gradient=radial))


def test_nesterov_of_sgdp_is_optaxs():
    ours = optax_ia.sgdp(0.05, delta=0.0, nesterov=True)
    theirs = optax.sgd(0.05, momentum=0.9, nesterov=True)
    assert_same(*(run(lambda tx=tx: tx, 5)[1] for tx in (ours, theirs)))


@both
def test_projected_updates_are_at_right_angles_to_every_channel(name):
    """The momentum is not: only what is left of it after the projection moves."""
    before = KERNEL
    for after in projected_run(name, eps=1e-12):
        update = after - before
        cosine = (update * before).sum(0) / (
            np.linalg.norm(update, axis=0) * np.linalg.norm(before, axis=0)
        )
        np.testing.assert_allclose(cosine, 0, atol=1e-10)
        before = after


@both
def test_the_whole_layer_where_single_channels_are_not_invariant(name):
    """Channels that grow and shrink in balance: one row for the whole tensor."""

    def gradient(w, t):
        w = np.asarray(w)
        outwards = w * np.array([1.0, -1.0, 1.0, -1.0])
        outwards = outwards / (w * w).sum(0)  # as far out as in
        return orthogonal(w, t) + outwards

    update = projected_run(name, 1, gradient, eps=1e-12)[0] - KERNEL
    np.testing.assert_allclose((update * KERNEL).sum(), 0, atol=1e-12)
    assert (np.abs((update * KERNEL).sum(0)) > 1e-3).all()


@both
def test_the_weights_behind_a_normalisation_grow_slower(name):
    """The loss sees the directions of the columns alone."""
    targets = jnp.asarray(_RNG.normal(size=(5, 4)))
    targets = targets / jnp.linalg.norm(targets, axis=0, keepdims=True)

    def loss(w):
        directions = w / jnp.linalg.norm(w, axis=0, keepdims=True)
        return jnp.sum((directions - targets) ** 2)

    def train(delta):
        tx = PAIRS[name][0](0.1, delta=delta)

        def body(carry, _):
            w, state = carry
            updates, state = tx.update(jax.grad(loss)(w), state, w)
            return (optax.apply_updates(w, updates), state), None

        w = jnp.asarray(KERNEL)
        scan = jax.jit(lambda carry: jax.lax.scan(body, carry, length=100)[0][0])
        w = scan((w, tx.init(w)))
        return jnp.linalg.norm(w), loss(w)

    start = np.linalg.norm(KERNEL)
    (plain_norm, plain_loss), (norm, value) = train(0.0), train(0.1)
    assert start < norm < plain_norm
    assert norm - start < 0.8 * (plain_norm - start)
    assert value < 0.1 * loss(jnp.asarray(KERNEL))
    assert plain_loss < 0.1 * loss(jnp.asarray(KERNEL))


@both
def test_the_rows_of_a_convolution_are_all_its_axes_but_the_last(name):
    w = _RNG.normal(size=(3, 2, 3, 4))

    def gradient(w, t):
        return orthogonal(np.asarray(w).reshape(18, 4), t).reshape(np.shape(w))

    ours = projected_run(name, 4, gradient, w, weight_decay=0.1)
    flat = projected_run(name, 4, orthogonal, w.reshape(18, 4), weight_decay=0.1)
    assert_same([w.reshape(18, 4) for w in ours], flat)


@both
@pytest.mark.parametrize("shape", [(4,), ()])
def test_vectors_and_scalars_are_the_plain_rules(name, shape):
    """Also where the gradient is at a right angle, as that of two entries is."""
    w = _RNG.normal(size=shape)

    def gradient(w, t):
        return orthogonal(w, t) if shape else np.ones(())

    plain = PAIRS[name][1]
    expected = run(lambda: plain, 3, params=jnp.asarray(w), gradient=gradient)[1]
    assert_same(projected_run(name, 3, gradient, w), expected)


def decay_of(name, gradient, **options):
    """By what each entry of the weights shrinks in one step of rate 0.05."""
    with_decay = projected_run(name, 1, gradient, **options)[0]
    return (projected_run(name, 1, gradient)[0] - with_decay) / KERNEL


@both
@pytest.mark.parametrize("wd_ratio", [0.1, 0.0, 1.0])
def test_decay_is_multiplied_by_wd_ratio_where_projected(name, wd_ratio):
    """SGDP's is divided by 1 - momentum, as if it went through the buffer."""
    factor = {"adamp": 0.05 * 0.2, "sgdp": 0.05 * 0.2 / 0.1}[name]
    options = {"weight_decay": 0.2, "wd_ratio": wd_ratio}
    projected = decay_of(name, orthogonal, **options)
    np.testing.assert_allclose(projected, factor * wd_ratio, atol=1e-12)
    np.testing.assert_allclose(decay_of(name, radial, **options), factor, rtol=1e-10)


@both
@pytest.mark.parametrize("as_function", [False, True])
def test_mask(name, as_function):
    params = {"a": jnp.asarray(KERNEL), "b": jnp.ones(3), "c": jnp.ones(3)}
    mask = {"a": False, "b": True, "c": False}
    tx = PAIRS[name][0](
        0.05, weight_decay=0.2, mask=(lambda params: mask) if as_function else mask
    )
    grads = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(grads, tx.init(params), params)
    factor = {"adamp": 0.05 * 0.2, "sgdp": 0.05 * 0.2 / 0.1}[name]
    np.testing.assert_array_equal(updates["a"], 0)
    np.testing.assert_allclose(updates["b"], -factor, rtol=1e-12)
    np.testing.assert_array_equal(updates["c"], 0)


@both
def test_zero_weights_and_zero_gradients(name):
    make, plain = PAIRS[name]
    zeros, w = jnp.zeros((5, 4)), jnp.asarray(KERNEL)
    tx = make(0.05, weight_decay=0.1)
    update = jax.jit(tx.update)
    for weights, grads in ((zeros, w), (w, zeros), (zeros, zeros)):
        updates, state = update(grads, tx.init(weights), weights)
        assert np.isfinite(updates).all()
        updates, _ = update(w, state, weights)
        assert np.isfinite(updates).all()
    # nothing to project off weights of no length
    updates, _ = update(w, tx.init(zeros), zeros)
    expected, _ = plain.update(w, plain.init(zeros), zeros)
    np.testing.assert_allclose(updates, expected, rtol=1e-12)


COMMON = [
    ({"learning_rate": -0.1}, r"learning_rate must be >= 0, got -0.1"),
    ({"delta": -0.1}, r"delta must be >= 0, got -0.1"),
    ({"wd_ratio": -0.1}, r"wd_ratio must be >= 0, got -0.1"),
    ({"eps": -1e-8}, r"eps must be >= 0, got -1e-08"),
    ({"weight_decay": -1.0}, r"weight_decay must be >= 0, got -1.0"),
]
CASES = {
    "adamp": [
        *COMMON,
        ({"b1": 1.0}, r"b1 must be < 1, got 1.0"),
        ({"b2": -0.1}, r"b2 must be >= 0, got -0.1"),
    ],
    "sgdp": [
        *COMMON,
        ({"momentum": 1.0}, r"momentum must be < 1, got 1.0"),
        ({"momentum": -0.1}, r"momentum must be >= 0, got -0.1"),
    ],
}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [(name, *case) for name, cases in CASES.items() for case in cases],
)
def test_construction_errors_name_argument_bound_and_value(name, options, message):
    with pytest.raises(ValueError, match=message):
        PAIRS[name][0](**options)


@both
def test_without_parameters_it_says_so(name):
    tx = PAIRS[name][0](0.1)
    w = jnp.asarray(KERNEL)
    with pytest.raises(ValueError, match=r"parameters.*update\(grads, state, params\)"):
        tx.update(w, tx.init(w))
