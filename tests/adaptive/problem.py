"""A noisy quadratic in float64, and runs on it that record every step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_ia

_RNG = np.random.default_rng(0)
_SHAPES = {"dense": {"bias": (3,), "kernel": (4, 3)}}


def _tree(draw):
    return jax.tree.map(draw, _SHAPES, is_leaf=lambda node: isinstance(node, tuple))


_PARAMS = _tree(lambda shape: 2 * _RNG.normal(size=shape))
_CURVATURE = _tree(lambda shape: _RNG.uniform(0.5, 2.0, size=shape))
_NOISE = _tree(lambda shape: 0.1 * _RNG.normal(size=(64, *shape)))


def initial():
    """Fresh parameters, with buffers of their own."""
    return jax.tree.map(jnp.array, _PARAMS)


def gradients(params, t):
    """The gradient of update ``t`` (from 0, below 64), in NumPy."""
    return jax.tree.map(
        lambda w, c, noise: c * np.asarray(w) + noise[t], params, _CURVATURE, _NOISE
    )


def make_step(make):
    """A compiled update of ``make(**options)``, shared by runs with other options.

    Args:
      make: makes the transformation; called with traced options.

    Returns:
      ``step(params, state, grads, **options)`` to the new parameters and state, and
      the diagnostics.
    """

    @jax.jit
    def step(params, state, grads, **options):
        updates, state = make(**options).update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return params, state, optax_ia.diagnostics(state)

    return step


def record(step, carry, steps, *, first=0, gradient=gradients, **options):
    """Calls ``step`` for the updates ``first`` to ``first + steps - 1``.

    Returns:
      ``(params, state)`` after the last, the list of the parameters after each, and
      the diagnostics, stacked.
    """
    iterates, told = [], []
    for t in range(first, first + steps):
        *carry, values = step(*carry, gradient(carry[0], t), **options)
        iterates.append(jax.tree.map(np.asarray, carry[0]))
        told.append(values)
    stacked = {n: np.array([values[n] for values in told]) for n in told[0]}
    return tuple(carry), iterates, stacked


def run(make, steps, *, params=None, gradient=gradients, **options):
    """:func:`record` from the start, compiled for this run alone."""
    params = initial() if params is None else params
    state = make(**options).init(params)
    carry = params, state
    return record(make_step(make), carry, steps, gradient=gradient, **options)


_sgd_step = make_step(
    lambda rate, momentum: optax.chain(optax.trace(momentum), optax.scale(-rate))
)


def sgd_iterates(params, rates, momentum=0.9, *, first=0, gradient=gradients):
    """The iterates of ``optax.sgd`` at the given rates, with a fresh momentum."""
    carry = params, optax.chain(optax.trace(0.0), optax.scale(1.0)).init(params)
    iterates = []
    for t, rate in enumerate(rates, start=first):
        carry, (iterate,), _ = record(
            lambda *a, **k: (*_sgd_step(*a, **k)[:2], {}),
            carry,
            1,
            first=t,
            gradient=gradient,
            rate=rate,
            momentum=momentum,
        )
        iterates.append(iterate)
    return iterates


def assert_same(actual, expected, rtol=1e-12, atol=1e-14):
    """Asserts equal structure and (almost) equal float64 values."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for got, want in zip(
        jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
    ):
        assert got.dtype == want.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


def copied(tree):
    """As a checkpoint brings a tree back: arrays of its own, by way of NumPy."""
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, [jnp.asarray(np.array(x)) for x in leaves])
