"""Averages and slow weights of the parameters that arrive, whatever changes them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.reference.averaging import collected

PARAMS = {"a": jnp.array([0.02, -0.5]), "b": jnp.array([[1.0], [2.0]])}
STEPS = 9
START, EVERY = 3, 2


def gradients(params, t):
    return jax.tree.map(lambda w: w + jnp.cos(t + w), params)


def freeze_a():
    return optax.transforms.freeze({"a": True, "b": False})


def zero_a():
    return optax.masked(optax.set_to_zero(), {"a": True, "b": False})


def clip(params):
    return jax.tree.map(lambda w: jnp.clip(w, -0.4, 0.9), params)


def normalise(params):
    return jax.tree.map(lambda w: w / jnp.linalg.norm(w), params)


def keep(params):
    return params


def reduced():
    """A second scale that follows the loss."""
    return optax.contrib.reduce_on_plateau(factor=0.1, patience=1, cooldown=0)


SURROUNDINGS = {
    "frozen": ([], [freeze_a], keep),
    "masked": (
        [],
        [lambda: optax.masked(optax.set_to_zero(), {"a": True, "b": False})],
        keep,
    ),
    "scaled": ([], [functools.partial(optax.scale, 0.1)], keep),
    "plateau": ([], [reduced], keep),
    "first": ([], [functools.partial(optax.sgd, 0.1)], keep),
    "middle": (
        [functools.partial(optax.trace, 0.9)],
        [functools.partial(optax.scale, -0.1), freeze_a],
        keep,
    ),
    "clipped": ([], [], clip),
    "normalised": ([], [], normalise),
}
KINDS = {
    "tail": lambda: optax_ia.tail_average(START, EVERY),
    "weighted": lambda: optax_ia.tail_average(START, EVERY, weights=lambda n: 1 + n),
    "ema": lambda: optax_ia.ema_average(0.7, start=START, every=EVERY),
    "window": lambda: optax_ia.window_average(2, EVERY, start=START),
    "auto": lambda: optax_ia.auto_average(EVERY),
}
WEIGHTS = {
    "tail": lambda n: 1.0,
    "weighted": lambda n: 1.0 + n,
    "ema": lambda n: 0.7**-n,
    "auto": lambda n: 1.0,
}


def expected_average(kind, iterates):
    chosen = [iterates[t - 1] for t in collected(len(iterates), START, EVERY)]
    if kind == "window":
        chosen, weights = chosen[-2:], np.ones(2)
    else:
        weights = np.array([WEIGHTS[kind](n) for n in range(1, len(chosen) + 1)])
    weights = weights[-len(chosen) :] / weights[-len(chosen) :].sum()
    return jax.tree.map(lambda *w: np.tensordot(weights, np.stack(w), axes=1), *chosen)


def train(tx, project, steps=STEPS, params=PARAMS, state=None, first=0, read=None):
    """The iterates that are really visited, and what ``read`` says after each."""

    @jax.jit
    def step(params, state, t):
        value = sum(jnp.sum(w**2) for w in jax.tree.leaves(params))
        updates, state = tx.update(gradients(params, t), state, params, value=value)
        return project(optax.apply_updates(params, updates)), state

    state = tx.init(params) if state is None else state
    iterates, told = [], []
    for t in range(first, first + steps):
        if isinstance(optax.tree.get(state, "averaging_phase"), jax.Array):
            state = optax_ia.start_averaging(state, when=t == START - 1)
        params, state = step(params, state, t)
        iterates.append(jax.tree.map(np.asarray, params))
        told.append(read and read(state, params))
    return params, state, iterates, told


def assert_close(actual, expected, rtol=1e-12):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("around", SURROUNDINGS)
def test_the_average_is_of_the_points_that_were_visited(kind, around):
    """After every step, from the read-out of that step."""
    before, after, project = SURROUNDINGS[around]
    rule = [] if around in ("first", "middle") else [optax.sgd(0.1)]
    tx = optax.with_extra_args_support(
        optax.chain(
            *rule, *(make() for make in before), KINDS[kind](), *(m() for m in after)
        )
    )
    _, _, iterates, told = train(tx, project, read=optax_ia.averaged_params)
    for t in range(START, STEPS + 1):
        assert_close(told[t - 1], expected_average(kind, iterates[:t]))
    if around in ("frozen", "masked"):
        np.testing.assert_array_equal(told[-1]["a"], PARAMS["a"])


@pytest.mark.parametrize("name", ["gadam", "gadamx", "swa", "asgd", "gadam_lookahead"])
def test_the_averaged_optimisers_are_exact_before_a_freeze(name):
    make = getattr(optax_ia, name)
    tx = optax.chain(make(0.05, START, EVERY), freeze_a())
    params, state, iterates, _ = train(optax.with_extra_args_support(tx), keep)
    average = optax_ia.averaged_params(state, params)
    assert_close(average, expected_average("tail", iterates))
    np.testing.assert_array_equal(average["a"], PARAMS["a"])


def test_the_place_of_an_average_in_a_chain_does_not_matter():
    average = optax_ia.tail_average(0)
    expected = None
    for parts in (
        (average, optax.trace(0.9), optax.scale(-0.1)),
        (optax.trace(0.9), average, optax.scale(-0.1)),
        (optax.trace(0.9), optax.scale(-0.1), average),
    ):
        tx = optax.with_extra_args_support(optax.chain(*parts))
        params, state, iterates, _ = train(tx, keep)
        read = optax_ia.averaged_params(state, params)
        expected = read if expected is None else expected
        for a, b in zip(jax.tree.leaves(read), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_resumed_before_the_iterate_is_folded_ends_in_the_same_bits(kind):
    """At each step: also between a collecting update and the next one."""
    tx = optax.with_extra_args_support(optax.chain(optax.adam(0.1), KINDS[kind]()))
    whole = train(tx, clip)
    for stop in range(1, STEPS):
        params, state, *_ = train(tx, clip, stop)
        params, state = jax.tree.map(np.asarray, (params, state))
        params, state = jax.tree.map(jnp.asarray, (params, state))
        optax_ia.averaged_params(state, params)  # a read-out changes nothing
        resumed = train(tx, clip, STEPS - stop, params, state, first=stop)
        for a, b in zip(
            jax.tree.leaves(resumed[:2]), jax.tree.leaves(whole[:2]), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_parameters_may_be_changed_after_the_average_was_read():
    """As when the average is loaded into the model: it becomes an iterate."""
    tx = optax.chain(optax.sgd(1.0), optax_ia.tail_average(1))
    w = jnp.zeros(1)
    state = tx.init(w)
    for _ in range(3):
        updates, state = tx.update(-jnp.ones(1), state, w)
        w = optax.apply_updates(w, updates)
    w = optax_ia.averaged_params(state, w)
    np.testing.assert_allclose(w, 2.0)
    _, state = tx.update(-jnp.ones(1), state, w)
    assert optax_ia.num_averaged(state) == 4
    np.testing.assert_allclose(
        optax_ia.averaged_params(state, w + 1), (1 + 2 + 2 + 3) / 4
    )


def reference_lookahead(project, steps, period=3, size=0.5):
    params, slow, iterates = PARAMS, PARAMS, []
    for t in range(steps):
        grads = gradients(params, t)
        fast = jax.tree.map(lambda w, g: w - 0.1 * g, params, grads)
        if (t + 1) % period == 0:
            fast = jax.tree.map(lambda s, f: s + size * (f - s), slow, fast)
        params = project(params, fast)
        if (t + 1) % period == 0:
            slow = params
        iterates.append(params)
    return iterates


def frozen_by(factor):
    def project(old, new):
        moved = jax.tree.map(lambda a, b: a + factor * (b - a), old, new)
        return {"a": old["a"], "b": moved["b"]}

    return project


@pytest.mark.parametrize(
    ("after", "project", "reference"),
    [
        ([freeze_a], keep, frozen_by(1.0)),
        ([functools.partial(optax.scale, 0.3), freeze_a], keep, frozen_by(0.3)),
        ([], clip, lambda _, new: clip(new)),
        ([], normalise, lambda _, new: normalise(new)),
    ],
    ids=["frozen", "scaled", "clipped", "normalised"],
)
def test_the_slow_weights_are_the_parameters_that_arrive(after, project, reference):
    wrapped = optax_ia.lookahead(optax.sgd(0.1), 3)
    tx = optax.with_extra_args_support(optax.chain(wrapped, *(m() for m in after)))
    _, _, iterates, _ = train(tx, project)
    for actual, expected in zip(
        iterates, reference_lookahead(reference, STEPS), strict=True
    ):
        assert_close(actual, expected, rtol=1e-10)


def test_the_first_slow_weights_are_the_first_parameters_that_arrive():
    """Also where a checkpoint was loaded into the model after ``init``."""
    tx = optax_ia.lookahead(optax.sgd(1.0), 2)
    w, state = jnp.array([10.0]), tx.init(jnp.array([0.0]))
    for _ in range(2):
        updates, state = tx.update(jnp.array([-1.0]), state, w)
        w = optax.apply_updates(w, updates)
    np.testing.assert_allclose(w, 11.0)


@pytest.mark.parametrize("name", ["gadam", "gadamx", "swa", "asgd", "gadam_lookahead"])
def test_start_is_required_and_none_waits(name):
    make = getattr(optax_ia, name)
    for args in ((), (0.1,)):
        with pytest.raises(TypeError, match=rf"{name} needs .*start.*start=None"):
            make(*args)
    assert make(start=None) is not None
    with pytest.raises(TypeError):
        make(0.1, 1, 1, 0.1)  # weight_decay is a keyword
