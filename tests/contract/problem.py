"""The small quadratic on which every case is run, and one shared run per case."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

STEPS = 6
_RNG = np.random.default_rng(0)
SHAPES = {"dense": {"kernel": (8, 3), "bias": (8,)}}
"""Both leading axes split over eight devices."""


def _tree(draw):
    return jax.tree.map(draw, SHAPES, is_leaf=lambda node: isinstance(node, tuple))


PARAMS = _tree(lambda shape: _RNG.normal(size=shape))
TARGET = _tree(lambda shape: _RNG.normal(size=shape))
NOISE = _tree(lambda shape: 0.1 * _RNG.normal(size=(STEPS, *shape)))


def initial(dtype=jnp.float32):
    """Fresh parameters, with buffers of their own."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), PARAMS)


def gradients(params, t):
    """Gradients of a quadratic with the noise of update ``t`` (from 0)."""
    return jax.tree.map(
        lambda w, target, noise: (
            w - jnp.asarray(target, w.dtype) + jnp.asarray(noise, w.dtype)[t]
        ),
        params,
        TARGET,
        NOISE,
    )


def make_step(tx, **extra_args):
    """One update, not compiled: ``(params, state, t) -> (params, state)``."""

    def step(params, state, t):
        grads = gradients(params, t)
        updates, state = tx.update(grads, state, params, **extra_args)
        return optax.apply_updates(params, updates), state

    return step


def run(step, params, state, first=0, last=STEPS):
    """Calls ``step`` for the updates ``first`` to ``last - 1``."""
    for t in range(first, last):
        params, state = step(params, state, t)
    return params, state


_JITTED = {}
_BASELINES = {}


def jitted(case):
    """The case's transformation and its one compiled step, shared by all tests."""
    if case.name not in _JITTED:
        tx = case.make()
        _JITTED[case.name] = tx, jax.jit(make_step(tx))
    return _JITTED[case.name]


def baseline(case):
    """Parameters and state after all steps, jitted, float32, on one device."""
    if case.name not in _BASELINES:
        tx, step = jitted(case)
        params = initial()
        _BASELINES[case.name] = run(step, params, case.init(tx, params))
    return _BASELINES[case.name]


def assert_trees_close(actual, expected, rtol=1e-5, atol=1e-6):
    """Asserts equal structure, shapes, dtypes and (almost) equal values."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, want), got in zip(
        jax.tree_util.tree_leaves_with_path(expected),
        jax.tree.leaves(actual),
        strict=True,
    ):
        name = jax.tree_util.keystr(path)
        assert jnp.shape(got) == jnp.shape(want), name
        assert jnp.result_type(got) == jnp.result_type(want), name
        np.testing.assert_allclose(
            np.asarray(got, np.float64),
            np.asarray(want, np.float64),
            rtol=rtol,
            atol=atol,
            err_msg=name,
        )


def assert_trees_identical(actual, expected):
    """Asserts equal structure, shapes, dtypes and bits."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, want), got in zip(
        jax.tree_util.tree_leaves_with_path(expected),
        jax.tree.leaves(actual),
        strict=True,
    ):
        assert got.dtype == want.dtype, jax.tree_util.keystr(path)
        np.testing.assert_array_equal(
            np.asarray(got), np.asarray(want), err_msg=jax.tree_util.keystr(path)
        )


def signature(tree):
    """Structure, shapes, dtypes and weak types of a tree, comparable with ``==``."""
    leaves = [
        (leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False))
        for leaf in jax.tree.leaves(jax.eval_shape(lambda tree: tree, tree))
    ]
    return jax.tree.structure(tree), leaves
