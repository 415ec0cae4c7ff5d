"""Averages around any optimiser, the window average, and where they are used."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import optax_ia

WRAPPERS = {
    "tail": lambda tx, **kw: optax_ia.with_average(tx, 2, 2, **kw),
    "ema": lambda tx, **kw: optax_ia.with_ema_average(tx, 0.5, start=2, every=2, **kw),
    "window": lambda tx, **kw: optax_ia.with_window_average(tx, 2, 2, start=2, **kw),
    "auto": lambda tx, **kw: optax_ia.with_auto_average(tx, 2, **kw),
}
every_wrapper = pytest.mark.parametrize("kind", WRAPPERS)


def started(state, kind, t):
    """The controller of the automatic average begins with update 2."""
    return optax_ia.start_averaging(state, when=t == 1) if kind == "auto" else state


def expected(kind, iterates):
    """Of the iterates 2, 4, 6, ... (1-based)."""
    chosen = np.stack([np.asarray(w) for w in iterates[1::2]])
    weights = {"ema": 0.5 ** np.arange(len(chosen))[::-1]}.get(
        kind, np.ones(len(chosen))
    )
    if kind == "window":
        weights[:-2] = 0
    return np.tensordot(weights / weights.sum(), chosen, axes=1)


def walk(tx, kind, params, steps=8, update=None):
    update = update or jax.jit(tx.update)
    state, iterates = tx.init(params), []
    for t in range(steps):
        state = started(state, kind, t)
        updates, state = update(-jnp.ones_like(params), state, params)
        params = optax.apply_updates(params, updates)
        iterates.append(params)
    return params, state, iterates


@every_wrapper
@pytest.mark.parametrize("rule", [lambda: optax.sgd(1.0), lambda: optax.adam(0.1)])
def test_the_steps_are_the_optimisers_and_the_average_is_of_them(kind, rule):
    params, state, iterates = walk(WRAPPERS[kind](rule()), kind, jnp.zeros(3))
    for actual, plain in zip(
        iterates, walk(rule(), None, jnp.zeros(3))[2], strict=True
    ):
        np.testing.assert_allclose(actual, plain, rtol=1e-14)
    average = optax_ia.averaged_params(state, params)
    np.testing.assert_allclose(average, expected(kind, iterates), rtol=1e-12)


@every_wrapper
def test_extra_arguments_reach_the_optimiser(kind):
    seen = []

    def update(updates, state, params=None, **extra_args):
        seen.append(extra_args)
        return updates, state

    inner = optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)
    tx = WRAPPERS[kind](inner)
    tx.update(jnp.ones(2), tx.init(jnp.ones(2)), jnp.ones(2), value=3.0)
    assert seen == [{"value": 3.0}]


@every_wrapper
def test_multi_steps_goes_outside(kind):
    with pytest.raises(TypeError, match=r"count micro-steps.*MultiSteps\(with_average"):
        WRAPPERS[kind](optax.MultiSteps(optax.sgd(1.0), 2))
    with pytest.raises(TypeError, match="optimizer must be an optimiser"):
        WRAPPERS[kind](0.1)
    tx = optax.MultiSteps(WRAPPERS[kind](optax.sgd(1.0)), 2)
    params, state, read = jnp.zeros(2), None, []
    state = tx.init(params)
    for t in range(16):
        state = started(state, kind, t // 2)
        updates, state = jax.jit(tx.update)(-jnp.ones(2), state, params)
        params = optax.apply_updates(params, updates)
        read.append(optax_ia.averaged_params(state, params))
    of_updates = [np.full(2, t) for t in range(1, 9)]
    np.testing.assert_allclose(read[-1], expected(kind, of_updates))
    np.testing.assert_allclose(read[-2], expected(kind, of_updates[:-2]))


@every_wrapper
def test_members_of_an_ensemble_have_averages_of_their_own(kind):
    """States with a leading axis, read with an iterate pending and without one."""
    tx = WRAPPERS[kind](optax.sgd(1.0))
    rates = jnp.array([1.0, 2.0])
    params = jnp.zeros((2, 3))
    state = jax.vmap(tx.init)(params)
    iterates = []
    for t in range(7):
        state = started(state, kind, t)
        grads = -rates[:, None] * jnp.ones((2, 3))
        updates, state = jax.jit(jax.vmap(tx.update))(grads, state, params)
        params = optax.apply_updates(params, updates)
        iterates.append(params)
        if t > 1:
            average = optax_ia.averaged_params(state, params)
            np.testing.assert_allclose(average, expected(kind, iterates), rtol=1e-12)
            assert optax_ia.num_averaged(state).shape == (2,)


@every_wrapper
def test_parameters_may_be_donated_at_every_step(kind):
    """No part of the state is the parameters' buffer, nor a read-out the state's."""
    tx = WRAPPERS[kind](optax.sgd(1.0))
    step = jax.jit(
        lambda p, s: (lambda u, s: (p + u, s))(*tx.update(-jnp.ones(3), s, p)),
        donate_argnums=(0, 1),
    )
    params = jnp.zeros(3)
    state, copies, kept = tx.init(params), [], []
    for t in range(8):
        state = started(state, kind, t)
        params, state = step(params, state)
        copies.append(np.array(params))
        if t > 1:
            kept.append((optax_ia.averaged_params(state, params), len(copies)))
        held = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, state))]
        assert len(set(held)) == len(held)
    for average, steps in kept:
        np.testing.assert_allclose(average, expected(kind, copies[:steps]))


@every_wrapper
def test_sharded_parameters_keep_their_sharding(kind):
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    params = jax.device_put(jnp.arange(8.0), sharding)
    tx = WRAPPERS[kind](optax.sgd(1.0))
    params, state, iterates = walk(tx, kind, params)
    average = optax_ia.averaged_params(state, params)
    np.testing.assert_allclose(average, expected(kind, iterates), rtol=1e-12)
    assert average.sharding.is_equivalent_to(params.sharding, 1)
    held = jax.tree.leaves(state[-1])
    trees = [x for x in held if x.ndim and x.shape[-1] == 8]
    assert trees
    assert all(not x.sharding.is_fully_replicated for x in trees)


@every_wrapper
def test_gradients_pass_through_the_update(kind):
    """As where the learning rate is learned through the steps."""

    def final(rate):
        tx = WRAPPERS[kind](optax.sgd(rate))
        params = jnp.ones(2)
        state = tx.init(params)
        for t in range(4):
            state = started(state, kind, t)
            updates, state = tx.update(params, state, params)
            params = optax.apply_updates(params, updates)
        return jnp.sum(optax_ia.averaged_params(state, params))

    numeric = (final(0.1 + 1e-6) - final(0.1 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(final)(0.1), numeric, rtol=1e-6)


def test_weights_by_the_number_of_the_iterate():
    """1 - sqrt, as in cooldowns; before the first positive one the newest iterate."""

    def weights(n):
        return jnp.maximum(0, jnp.sqrt(n) - 1)

    tx = optax_ia.with_average(optax.sgd(1.0), 1, weights=weights)
    params, state, iterates = walk(tx, None, jnp.zeros(2), 1)
    np.testing.assert_allclose(optax_ia.averaged_params(state, params), 1.0)
    params, state, iterates = walk(tx, None, jnp.zeros(2), 20)
    relative = np.sqrt(np.arange(1, 21)) - 1
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, params),
        np.tensordot(relative / relative.sum(), np.stack(iterates), axes=1),
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("weights", "error"), [(0.5, TypeError), (lambda n: jnp.ones(2), ValueError)]
)
def test_weights_must_be_a_function_to_one_number(weights, error):
    with pytest.raises(error, match="weights must"):
        optax_ia.tail_average(1, weights=weights)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.int32])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_the_window_holds_the_last_iterates(dtype, steps):
    tx = optax_ia.with_window_average(optax.identity(), 3)
    params = jnp.zeros(2, dtype)
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(jnp.ones_like(params), state, params)
        params = optax.apply_updates(params, updates)
    average = optax_ia.averaged_params(state, params)
    last = np.arange(1, steps + 1)[-3:]
    wanted = steps if dtype == jnp.int32 else np.mean(last)
    np.testing.assert_allclose(average, wanted)
    assert average.dtype == dtype
    assert optax_ia.num_averaged(state) == len(last)
    assert jax.tree.leaves(state[-1].recent)[0].dtype == dtype


def test_start_and_every_may_be_changed_while_injected():
    tx = optax.inject_hyperparams(
        lambda start, every: optax_ia.with_average(optax.sgd(1.0), start, every)
    )(start=100, every=2)
    params = jnp.zeros(1)
    state = tx.init(params)
    update = jax.jit(tx.update)
    for t in range(1, 10):
        if t == 4:
            start = state.hyperparams["start"]
            state.hyperparams["start"] = jnp.full_like(start, 5)
        updates, state = update(-jnp.ones(1), state, params)
        params = optax.apply_updates(params, updates)
    assert optax_ia.num_averaged(state) == 3  # 5, 7, 9
    np.testing.assert_allclose(optax_ia.averaged_params(state, params), 7.0)
    assert update._cache_size() == 1
