"""The noisy quadratic on which reference and library are compared, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

STEPS = 10
_RNG = np.random.default_rng(0)
PARAMS = {"kernel": _RNG.normal(size=(3, 4)), "bias": _RNG.normal(size=(4,))}
_TARGET = {name: _RNG.normal(size=w.shape) for name, w in PARAMS.items()}
_CURVATURE = {name: _RNG.uniform(0.1, 5.0, size=w.shape) for name, w in PARAMS.items()}
NOISE = {name: _RNG.normal(size=(64, *w.shape)) for name, w in PARAMS.items()}


def gradient(name):
    """The gradient of one leaf as the references ask for it, t counted from 1."""
    return lambda t, w: _CURVATURE[name] * (w - _TARGET[name]) + NOISE[name][t - 1]


def constant(value):
    """A constant learning rate as the references ask for it."""
    return lambda t: value


def reference_run(rule, *args, **kwargs):
    """Runs a reference rule leaf by leaf; a dict of lists of iterates."""
    return {n: rule(w, gradient(n), *args, **kwargs) for n, w in PARAMS.items()}


def library_run(tx, steps=STEPS):
    """Runs a transformation under jit; its iterates, per leaf, and the last state."""

    @jax.jit
    def step(params, state, t):
        grads = {
            n: jnp.asarray(_CURVATURE[n]) * (w - jnp.asarray(_TARGET[n]))
            + jnp.asarray(NOISE[n])[t]
            for n, w in params.items()
        }
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.asarray, PARAMS)
    state = tx.init(params)
    iterates = {name: [] for name in params}
    for t in range(steps):
        params, state = step(params, state, t)
        for name, w in params.items():
            iterates[name].append(np.asarray(w))
    return iterates, params, state


def tree_gradient(t, params):
    """The gradient of every leaf, for the references that reduce over all of them."""
    return {n: gradient(n)(t, w) for n, w in params.items()}


def value(t, params):
    """The function of update t whose gradient :func:`tree_gradient` is."""
    return sum(
        np.sum(0.5 * _CURVATURE[n] * (w - _TARGET[n]) ** 2 + NOISE[n][t - 1] * w)
        for n, w in params.items()
    )


def loss(params, t):
    """:func:`value` for the library; ``t``, counted from 1, may be traced."""
    return sum(
        jnp.sum(
            0.5 * _CURVATURE[n] * (w - _TARGET[n]) ** 2
            + jnp.asarray(NOISE[n])[t - 1] * w
        )
        for n, w in params.items()
    )


def library_states(tx, loss=loss, params=PARAMS, steps=STEPS):
    """Runs a transformation that may ask for the loss; its iterates and its states.

    Every update gets ``value``, ``value_fn`` and ``grad_fn`` of its own ``loss``.
    """

    @jax.jit
    def step(params, state, t):
        current, grads = jax.value_and_grad(loss)(params, t)
        updates, state = tx.update(
            grads,
            state,
            params,
            value=current,
            value_fn=lambda w: loss(w, t),
            grad_fn=lambda w: jax.grad(loss)(w, t),
        )
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params)
    iterates = {name: [] for name in params}
    states = []
    for t in range(1, steps + 1):
        params, state = step(params, state, t)
        states.append(state)
        for name, w in params.items():
            iterates[name].append(np.asarray(w))
    return iterates, states


def by_name(iterates):
    """A list of trees as a tree of lists."""
    return {n: [w[n] for w in iterates] for n in iterates[0]}


def assert_close(actual, expected, rtol=1e-12):
    """Asserts equal dtype and shape, and values equal relative to the largest entry.

    An entry on its way through zero has no digits of its own to agree on.
    """
    assert set(actual) == set(expected)
    for name, want in expected.items():
        want = np.asarray(want)
        got = np.asarray(actual[name])
        assert got.dtype == want.dtype == np.float64
        assert got.shape == want.shape
        error = np.abs(got - want).max() / np.abs(want).max()
        assert error <= rtol, (name, error)
