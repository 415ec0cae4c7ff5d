"""What Shampoo's options promise, and what it does with difficult numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_ia.second_order._shampoo import scale_by_shampoo, shampoo
from tests.second_order.shampoo_numbers import split

RNG = np.random.default_rng(0)
SHAPES = {"kernel": (3, 3, 4, 10), "matrix": (12, 7), "bias": (10,), "scale": ()}


def tree(seed=0, dtype=jnp.float32, scale=1.0):
    rng = np.random.default_rng(seed)
    return {
        n: jnp.asarray(scale * rng.normal(size=s), dtype) for n, s in SHAPES.items()
    }


def norms(updates):
    return {n: float(np.linalg.norm(np.ravel(u))) for n, u in updates.items()}


@functools.partial(jax.jit, static_argnames=("make", "choices"))
def update(make, choices, numbers, grads, state):
    return make(**dict(choices), **numbers).update(grads, state, grads)


def states(gradients, make=scale_by_shampoo, **options):
    """The updates and states after each of several gradients.

    Options that differ in numbers alone share a program.
    """
    numbers, choices = {}, tuple(options.items())
    if make is scale_by_shampoo:
        numbers, choices = split(options)
    state = make(**options).init(gradients[0])
    every = []
    for grads in gradients:
        updates, state = update(make, choices, numbers, grads, state)
        every.append((updates, state))
    return every


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decay": 0.999},
        {"start": 5},
        {"block_size": 6, "precondition_every": 100},
        {"make": shampoo, "weight_decay": 0.0},
    ],
)
def test_the_first_step_moves_downhill(options):
    ((updates, _),) = states([tree()], **options)
    sign = -1 if "make" in options else 1
    for name, g in tree().items():
        assert sign * np.vdot(updates[name], g) > 0


def test_the_first_step_of_an_average_has_the_size_of_later_ones():
    """The same gradient over and over gives the same update over and over."""
    first, *_, last = (norms(u) for u, _ in states([tree()] * 5, decay=0.99))
    for name, size in first.items():
        assert size == pytest.approx(last[name], rel=1e-4)


def test_before_the_start_the_direction_is_the_gradients():
    gradients = [tree(i) for i in range(5)]
    every = states(gradients, start=3, precondition_every=2, grafting="rmsprop")
    for i, (updates, _) in enumerate(every):
        g, u = np.asarray(tree(i)["matrix"]), np.asarray(updates["matrix"])
        cosine = np.vdot(g, u) / np.linalg.norm(g) / np.linalg.norm(u)
        assert (cosine > 0.9999) == (i < 2)


def test_roots_and_statistics_change_when_they_are_due():
    gradients = [tree(i) for i in range(8)]
    periods = {"start": 2, "precondition_every": 3, "statistics_every": 2}
    every = [
        (None, scale_by_shampoo().init(gradients[0])),
        *states(gradients, decay=0.9, **periods),
    ]
    changed = {"statistics": [], "roots": []}
    for t in range(1, len(every)):
        for field, steps in changed.items():
            pair = [every[i][1].stacks[0] for i in (t - 1, t)]
            before, after = (getattr(stack, field)[0] for stack in pair)
            if not np.array_equal(before, after):
                steps.append(t)
    assert changed == {"statistics": [1, 3, 5, 7], "roots": [2, 5, 8]}


PIECES = {"block_size": 4, "merge_axes": True}
GRAFTED = {
    "sgd": optax.identity(),
    "adagrad": optax.scale_by_rss(initial_accumulator_value=0.0, eps=0.0),
    "rmsprop": optax.scale_by_rms(
        0.9, eps=1e-8, eps_in_sqrt=False, bias_correction=True
    ),
}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        *((method, {}) for method in GRAFTED),
        ("rmsprop", PIECES),
        *(pytest.param(m, PIECES, marks=pytest.mark.slow) for m in ("sgd", "adagrad")),
    ],
)
def test_each_tensor_takes_the_size_of_the_grafted_step(method, options):
    gradients = [tree(i, scale=10.0**-i) for i in range(4)]
    found = states(gradients, grafting=method, grafting_decay=0.9, **options)
    for (updates, _), (other, _) in zip(
        found, states(gradients, lambda: GRAFTED[method]), strict=True
    ):
        sizes = norms(other)
        for name, size in norms(updates).items():
            assert size == pytest.approx(sizes[name], rel=1e-4)
    memory = found[0][1].stacks[0].memory
    assert (memory is None) == (method == "sgd")


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("tx", [scale_by_shampoo(grafting="adagrad"), shampoo()])
def test_dtypes(tx, dtype):
    wide = jnp.promote_types(dtype, jnp.float32)
    grads = tree(0, dtype)
    first = jax.eval_shape(tx.init, grads)
    updates, second = jax.eval_shape(tx.update, grads, first, grads)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
    for state in (first, second):  # and so after any number of steps
        own = state if hasattr(state, "stacks") else state[0]
        assert {leaf.dtype for leaf in jax.tree.leaves(own.stacks)} == {wide}


def test_bfloat16_statistics_are_those_of_float32():
    """At a decay that bfloat16 could not resolve."""
    exact = [tree(i, jnp.bfloat16) for i in range(20)]
    wider = [optax.tree.cast(grads, jnp.float32) for grads in exact]
    narrow, wide = (
        [stack.statistics for stack in states(gradients, decay=0.999)[-1][1].stacks]
        for gradients in (exact, wider)
    )
    for a, b in zip(jax.tree.leaves(narrow), jax.tree.leaves(wide), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-4])
@pytest.mark.parametrize("relative_eps", [False, True])
@pytest.mark.parametrize("decay", [None, 0.9])
def test_ill_conditioned_statistics_are_safe(eps, relative_eps, decay):
    """Singular values over twelve decades, then nothing, then something else."""
    left, _ = np.linalg.qr(RNG.normal(size=(12, 12)))
    right, _ = np.linalg.qr(RNG.normal(size=(12, 12)))
    g = jnp.asarray((left * 10.0 ** -np.arange(12)) @ right, jnp.float32)
    gradients = [jnp.zeros_like(g), 1e3 * g, 1e3 * g, jnp.zeros_like(g), g.T]
    options = {"eps": eps, "decay": decay, "relative_eps": relative_eps}
    for updates, state in states(gradients, **options):
        assert np.isfinite(updates).all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        assert (np.linalg.eigvalsh(state.stacks[0].roots[0][0]) > 0).all()


def test_statistics_of_zeros():
    """The printed rule has its ridge; without one a gradient passes as it is."""
    grads = {"w": jnp.zeros((3, 2))}
    for eps, relative, expected in (
        (1e-4, False, 10.0),
        (0.0, False, 1.0),
        (1e-4, True, 1.0),
    ):
        ((updates, state),) = states([grads], eps=eps, relative_eps=relative)
        assert not np.asarray(updates["w"]).any()
        root = state.stacks[0].roots[0][0]
        np.testing.assert_allclose(root, expected * np.eye(3), rtol=1e-6)


def poisoned_by(bad):
    grads = tree(1)
    grads["matrix"] = grads["matrix"].at[0, 0].set(bad)
    return grads


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e25])
@pytest.mark.parametrize("decay", [None, 0.9])
def test_a_gradient_that_is_not_finite_stays_out_of_the_statistics(bad, decay):
    """Nor do squares that overflow; the other blocks take it in."""
    gradients = [tree(), poisoned_by(bad)]
    (_, first), (_, second) = states(gradients, block_size=6, decay=decay)
    changed = []
    for old, new in zip(first.stacks, second.stacks, strict=True):
        for a, b in zip(old.statistics, new.statistics, strict=True):
            assert np.isfinite(b).all()
            changed += [not np.array_equal(x, y) for x, y in zip(a, b, strict=True)]
    assert changed.count(False) == 2  # both axes of one block


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("max_dim", [None, 5])
def test_a_root_that_is_not_finite_keeps_the_previous(bad, max_dim):
    """Block by block: the others go on."""
    gradients = [tree(), poisoned_by(bad)]
    options = {} if max_dim is None else {"max_dim": max_dim}
    (_, before), (_, after) = states(gradients, block_size=6, **options)
    kept = []
    for old, new in zip(before.stacks, after.stacks, strict=True):
        for a, b in zip(old.roots, new.roots, strict=True):
            assert np.isfinite(b).all()
            same = [np.array_equal(x, y) for x, y in zip(a, b, strict=True)]
            kept += [a.shape[1:]] * sum(same)
    # both axes of the one block that holds the bad number, or of all the matrix
    assert sorted(kept) == ([(4, 4), (6, 6)] if max_dim is None else [(7,), (12,)])


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({}, [(1, 10, 10), (1, 3, 3), (1, 3, 3), (1, 4, 4), (1, 10, 10)]),
        ({"merge_axes": True}, [(1, 10, 10), (1, 36, 36), (1, 10, 10)]),
        (
            {"merge_axes": True, "block_size": 16},
            [(1, 10, 10), (3, 12, 12), (3, 10, 10)],
        ),
        (
            {"merge_axes": True, "block_size": 8, "max_dim": 20},
            [(2, 5, 5), (2, 36), (2, 5, 5)],
        ),
    ],
)
def test_shapes_of_the_statistics(options, shapes):
    params = {name: tree()[name] for name in ("bias", "kernel")}
    state = jax.eval_shape(scale_by_shampoo(**options).init, params)
    for field in ("statistics", "roots"):
        leaves = jax.tree.leaves([getattr(stack, field) for stack in state.stacks])
        assert [leaf.shape for leaf in leaves] == shapes


def test_padding_changes_nothing():
    """Seven rows in blocks of four: the last of three is as if it were alone."""
    gradients = [RNG.normal(size=(7, 4)) for _ in range(3)]
    whole = states(list(map(jnp.asarray, gradients)), block_size=4)
    for rows in (slice(0, 4), slice(4, 7)):
        alone = states([jnp.asarray(g[rows]) for g in gradients])
        for (got, _), (want, _) in zip(whole, alone, strict=True):
            np.testing.assert_allclose(got[rows], want, rtol=1e-10)


def test_tensors_without_elements_pass():
    params = {"none": jnp.zeros((0, 3)), "some": jnp.ones((2, 3))}
    for options in ({"grafting": "rmsprop"}, {"make": shampoo}):
        ((updates, _),) = states([params], **options)
        assert updates["none"].shape == (0, 3)
        assert np.isfinite(updates["some"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": -1.0}, "eps must be >= 0, got -1.0"),
        ({"decay": 1.0}, "decay must be < 1, got 1.0"),
        ({"decay": -0.1}, "decay must be >= 0, got -0.1"),
        ({"block_size": 0}, "block_size must be >= 1, got 0"),
        ({"block_size": 2.5}, "block_size must be a whole number, got 2.5"),
        ({"precondition_every": 0}, "precondition_every must be >= 1, got 0"),
        ({"statistics_every": 0}, "statistics_every must be >= 1, got 0"),
        ({"start": 0}, "start must be >= 1, got 0"),
        ({"grafting": "adam"}, "grafting must be one of 'sgd', 'adagrad', 'rmsprop'"),
        ({"grafting_decay": 1.0}, "grafting_decay must be < 1, got 1.0"),
        ({"grafting_eps": -1e-8}, "grafting_eps must be >= 0, got -1e-08"),
        ({"max_dim": -1}, "max_dim must be >= 0, got -1"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        scale_by_shampoo(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate must be >= 0"),
        ({"b1": 1.0}, "b1 must be < 1"),
        ({"b2": 1.0}, "b2 must be < 1"),
        ({"weight_decay": -1.0}, "weight_decay must be >= 0"),
    ],
)
def test_bad_arguments_of_the_alias(options, message):
    with pytest.raises(ValueError, match=message):
        shampoo(**options)
