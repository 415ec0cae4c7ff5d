"""Ten float64 steps of Shampoo against its transcription, tensors of order 0 to 4."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_ia.second_order._shampoo import scale_by_shampoo, shampoo
from tests.reference import shampoo as reference
from tests.reference.problem import assert_close, constant
from tests.second_order.shampoo_numbers import split

STEPS = 10
RATE = 0.05
RNG = np.random.default_rng(0)
SHAPES = {
    "scalar": (),
    "vector": (7,),
    "matrix": (5, 9),
    "order 3": (4, 3, 5),
    "order 4": (2, 3, 4, 6),
}
PARAMS = {name: RNG.normal(size=shape) for name, shape in SHAPES.items()}
TARGET = {name: RNG.normal(size=shape) for name, shape in SHAPES.items()}
CURVATURE = {name: RNG.uniform(0.1, 5.0, size=s) for name, s in SHAPES.items()}
NOISE = {name: RNG.normal(size=(STEPS, *shape)) for name, shape in SHAPES.items()}


def gradient(name):
    return lambda t, w: CURVATURE[name] * (w - TARGET[name]) + NOISE[name][t - 1]


def expected(rate=RATE, **options):
    return {
        name: reference.shampoo(w, gradient(name), constant(rate), STEPS, **options)
        for name, w in PARAMS.items()
    }


def rule(**options):
    return optax.chain(scale_by_shampoo(**options), optax.scale(-RATE))


@functools.partial(jax.jit, static_argnames=("make", "choices"))
def step(make, choices, numbers, params, state, t):
    tx = make(**dict(choices), **numbers)
    grads = {
        name: jnp.asarray(CURVATURE[name]) * (w - jnp.asarray(TARGET[name]))
        + jnp.asarray(NOISE[name])[t]
        for name, w in params.items()
    }
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def found(make=rule, **options):
    """The iterates; options that differ in numbers alone share a program."""
    numbers, choices = split(options)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = make(**options).init(params)
    iterates = {name: [] for name in params}
    for t in range(STEPS):
        params, state = step(make, choices, numbers, params, state, t)
        for name, w in params.items():
            iterates[name].append(np.asarray(w))
    return iterates


BLOCKS = {"decay": 0.9, "block_size": 3}
# what the statistics have not seen is multiplied by eps ** -1/2: 100 is no descent
TAME = {**BLOCKS, "eps": 0.1, "statistics_every": 3}
RMSPROP = {"grafting": "rmsprop", "grafting_decay": 0.8, "grafting_eps": 1e-3}
OPTIONS = {
    "the printed rule": {},
    "another eps": {"eps": 0.1},
    "average": {"decay": 0.9},
    "blocks": {"block_size": 3},
    "blocks of one": {"block_size": 1},
    "average and blocks": BLOCKS,
    "roots now and then": {**BLOCKS, "precondition_every": 3},
    "statistics now and then": TAME,
    "both": {**TAME, "precondition_every": 2},
    "later": {**BLOCKS, "start": 4, "precondition_every": 3},
    "diagonal": {"max_dim": 4},
    "all diagonal": {"max_dim": 0, "decay": 0.9},
    "diagonal beside blocks": {"max_dim": 5, "block_size": 2},
    "sgd": {"grafting": "sgd"},
    "adagrad": {"grafting": "adagrad"},
    "rmsprop": RMSPROP,
    "rmsprop on blocks": {**BLOCKS, **RMSPROP},
}
# what others have together
SLOW = ("average", "blocks", "rmsprop")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in OPTIONS
    ],
)
def test_ten_steps(name):
    options = OPTIONS[name]
    assert_close(found(**options), expected(**options), rtol=1e-10)


@pytest.mark.parametrize(
    "options",
    [pytest.param({}, marks=pytest.mark.slow), {"block_size": 4, "max_dim": 11}],
)
def test_axes_merged_into_matrices(options):
    actual = found(merge_axes=True, **options)
    assert_close(actual, expected(merged=True, **options), rtol=1e-10)


def test_ridge_in_units_of_the_largest_eigenvalue():
    options = {"eps": 1e-3, "decay": 0.9}
    actual = found(relative_eps=True, **options)
    assert_close(actual, expected(relative=True, **options), rtol=1e-10)


@pytest.mark.parametrize(
    "grafting",
    [
        *(None, "rmsprop"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("sgd", "adagrad")),
    ],
)
def test_alias(grafting):
    """With every default of the alias but the periods and the size of the blocks."""
    tx = shampoo(
        RATE,
        b1=0.8,
        b2=0.95,
        eps=1e-3,
        block_size=3,
        precondition_every=2,
        statistics_every=2,
        start=2,
        grafting=grafting,
        weight_decay=0.1,
    )
    iterates = expected(
        eps=1e-3,
        relative=True,
        decay=0.95,
        block_size=3,
        precondition_every=2,
        statistics_every=2,
        start=2,
        merged=True,
        diagonal_vectors=True,
        grafting=grafting,
        grafting_decay=0.95,
        momentum=0.8,
        decoupled=0.1,
    )
    assert_close(found(lambda **numbers: tx), iterates, rtol=1e-10)


def test_matrices_take_the_step_of_equation_36():
    """Written out for two dimensions, without the transcription."""
    left, right = 1e-4 * np.eye(5), 1e-4 * np.eye(9)
    w, iterates = PARAMS["matrix"], []
    for t in range(1, STEPS + 1):
        g = gradient("matrix")(t, w)
        left, right = left + g @ g.T, right + g.T @ g
        w = w - RATE * reference.power(left, -1 / 4) @ g @ reference.power(
            right, -1 / 4
        )
        iterates.append(w)
    actual = found()["matrix"]
    assert_close({"matrix": actual}, {"matrix": iterates}, rtol=1e-10)
