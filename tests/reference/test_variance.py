"""Ten float64 steps of SVRG on a finite sum against equation 27 in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.reference import variance
from tests.reference.problem import PARAMS, STEPS, assert_close, constant

# Each summand has a curvature and a target of its own: a shared curvature would let
# the correction remove all of the noise.
SUMMANDS = 7
_RNG = np.random.default_rng(5)
CURVATURE = {n: _RNG.uniform(0.1, 4.0, (SUMMANDS, *w.shape)) for n, w in PARAMS.items()}
TARGET = {n: _RNG.normal(size=(SUMMANDS, *w.shape)) for n, w in PARAMS.items()}
ORDER = _RNG.integers(SUMMANDS, size=STEPS)
# The summands of the large batch with which each snapshot is taken.
BATCHES = [_RNG.permutation(SUMMANDS)[:4] for _ in range(STEPS)]
every_period = pytest.mark.parametrize("snapshot_every", [1, 3, 4, 10, 20])


def summand_gradient(name):
    return lambda i, w: CURVATURE[name][i] * (w - TARGET[name][i])


def full_gradient(name, large_batch):
    """The mean over all summands, or over the batch of the update at hand."""

    def function(t, w):
        chosen = BATCHES[t - 1] if large_batch else range(SUMMANDS)
        return np.mean([summand_gradient(name)(i, w) for i in chosen], axis=0)

    return function


def expected_run(snapshot_every, large_batch=False, **options):
    return {
        n: variance.svrg(
            w,
            summand_gradient(n),
            ORDER,
            full_gradient(n, large_batch),
            STEPS,
            snapshot_every=snapshot_every,
            **options,
        )[0]
        for n, w in PARAMS.items()
    }


def library_run(tx, large_batch=False, unused=0.0):
    """The iterates, and the updates at which the caller was told to bring the mean.

    At the other updates ``full_gradient`` is filled with ``unused``.
    """

    @jax.jit
    def step(params, state, i, mean):
        def grad_fn(w):
            return {
                n: jnp.asarray(CURVATURE[n])[i] * (d - jnp.asarray(TARGET[n])[i])
                for n, d in w.items()
            }

        updates, state = tx.update(
            grad_fn(params), state, params, grad_fn=grad_fn, full_gradient=mean
        )
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.asarray, PARAMS)
    state = tx.init(params)
    iterates, due = {n: [] for n in params}, []
    for t in range(1, STEPS + 1):
        mean = {n: jnp.full_like(w, unused) for n, w in params.items()}
        if optax_ia.svrg_snapshot_due(state):
            due.append(t)
            mean = {
                n: jnp.asarray(full_gradient(n, large_batch)(t, np.asarray(w)))
                for n, w in params.items()
            }
        params, state = step(params, state, ORDER[t - 1], mean)
        for n, w in params.items():
            iterates[n].append(np.asarray(w))
    return iterates, due


@every_period
@pytest.mark.parametrize("large_batch", [False, True])
@pytest.mark.parametrize("unused", [0.0, np.nan])
def test_svrg(snapshot_every, large_batch, unused):
    tx = optax_ia.svrg(optax.sgd(0.1), snapshot_every)
    iterates, due = library_run(tx, large_batch, unused)
    expected = expected_run(snapshot_every, large_batch, rate=constant(0.1))
    assert_close(iterates, expected)
    assert due == [t for t in range(1, STEPS + 1) if (t - 1) % snapshot_every == 0]


@every_period
def test_svrg_under_momentum_and_a_schedule(snapshot_every):
    inner = optax.sgd(lambda count: 0.1 / (1 + count), momentum=0.9)
    expected = expected_run(snapshot_every, rate=lambda t: 0.1 / t, momentum=0.9)
    iterates, _ = library_run(optax_ia.svrg(inner, snapshot_every))
    assert_close(iterates, expected)


@every_period
def test_the_registry_has_svrg_of_plain_sgd(snapshot_every):
    tx = optax_ia.get_optimizer(
        "svrg_sgd", learning_rate=0.1, snapshot_every=snapshot_every
    )
    expected = expected_run(snapshot_every, rate=constant(0.1))
    assert_close(library_run(tx)[0], expected)


def test_a_snapshot_at_every_step_is_the_full_gradient():
    """The summand's two gradients cancel, whichever summand it is."""
    expected = {}
    for n, w in PARAMS.items():
        expected[n] = []
        for t in range(1, STEPS + 1):
            w = w - 0.1 * full_gradient(n, False)(t, w)
            expected[n].append(w)
    assert_close(library_run(optax_ia.svrg(optax.sgd(0.1), 1))[0], expected)


def test_the_reference_reduces_the_variance():
    """Against the full gradient where each step was taken."""
    name, w = "kernel", PARAMS["kernel"]
    iterates, used = variance.svrg(
        w,
        summand_gradient(name),
        ORDER,
        full_gradient(name, False),
        STEPS,
        snapshot_every=5,
        rate=constant(0.05),
    )
    starts = [w, *iterates[:-1]]
    full = [full_gradient(name, False)(1, start) for start in starts]
    plain = [summand_gradient(name)(i, s) for i, s in zip(ORDER, starts, strict=True)]
    error = np.mean((np.array(used) - full) ** 2)
    assert error < 0.2 * np.mean((np.array(plain) - full) ** 2)
