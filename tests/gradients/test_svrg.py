"""SVRG: linear convergence where SGD stalls, its snapshots, and what it asks for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from sklearn import datasets

import optax_ia

EXAMPLES, BATCH, DECAY = 160, 8, 0.05
PERIOD = 2 * EXAMPLES // BATCH
W = jnp.array([1.0, -1.0])


@functools.cache
def digits():
    """Unit-length images of digits and their labels: a smoothness below 0.6."""
    images, labels = datasets.load_digits(return_X_y=True)
    images = images[:EXAMPLES] / np.linalg.norm(images[:EXAMPLES], axis=1)[:, None]
    return jnp.asarray(images), jnp.asarray(labels[:EXAMPLES])


def loss(w, images, labels, weights=1.0):
    """Multinomial logistic regression with L2."""
    log_p = jax.nn.log_softmax(images @ w)
    picked = jnp.take_along_axis(log_p, labels[:, None], axis=1)
    return -jnp.mean(weights * picked[:, 0]) + 0.5 * DECAY * jnp.sum(w**2)


@functools.cache
def optimum():
    """The least value, to rounding: the gradient's square bounds the gap."""
    images, labels = digits()
    value_and_grad = jax.jit(jax.value_and_grad(loss))

    def function(flat):
        value, grads = value_and_grad(flat.reshape(64, 10), images, labels)
        return float(value), np.asarray(grads).ravel()

    found = scipy.optimize.minimize(
        function,
        np.zeros(640),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "gtol": 1e-9, "ftol": 0.0},
    )
    assert np.sum(found.jac**2) / (2 * DECAY) < 1e-14
    return found.fun


@functools.cache
def compiled_run():
    """Forty epochs; ``weights`` say which examples the full gradient is over.

    With a ``correction`` of 0 in place of 1 the two other gradients are zero, and what
    is left is plain SGD.
    """
    images, labels = digits()
    tx = optax_ia.svrg(optax.sgd(1.0), PERIOD)

    def step(carry, rows, weights, correction):
        w, state = carry

        def batch_gradient(w):
            return jax.grad(loss)(w, images[rows], labels[rows])

        mean = jax.lax.cond(
            optax_ia.svrg_snapshot_due(state),
            lambda w: jax.grad(loss)(w, images, labels, weights),
            jnp.zeros_like,
            w,
        )
        updates, state = tx.update(
            batch_gradient(w),
            state,
            w,
            grad_fn=lambda w: correction * batch_gradient(w),
            full_gradient=correction * mean,
        )
        return (optax.apply_updates(w, updates), state), None

    @jax.jit
    def run(order, weights, correction):
        def period(carry, rows):
            carry, _ = jax.lax.scan(
                lambda carry, rows: step(carry, rows, weights, correction), carry, rows
            )
            return carry, loss(carry[0], images, labels)

        w = jnp.zeros((64, 10))
        (w, _), losses = jax.lax.scan(period, (w, tx.init(w)), order)
        return w, losses

    return run


@functools.cache
def gaps(full_examples=EXAMPLES, correction=1.0):
    """Distances of the loss from its least value, one a snapshot, and the end."""
    rng = np.random.default_rng(0)
    order = np.stack([rng.permutation(EXAMPLES) for _ in range(40)])
    weights = (jnp.arange(EXAMPLES) < full_examples) * (EXAMPLES / full_examples)
    w, losses = compiled_run()(
        jnp.asarray(order.reshape(20, PERIOD, BATCH)), weights, correction
    )
    return np.asarray(losses) - optimum(), w


def test_it_converges_linearly_to_the_optimum_where_sgd_stalls():
    gap, _ = gaps()
    above_rounding = gap[:-1] > 1e-13
    assert above_rounding.sum() > 4
    assert (gap[1:][above_rounding] < 0.5 * gap[:-1][above_rounding]).all()
    assert gap[-1] < 1e-12
    assert gaps(correction=0.0)[0][-10:].min() > 1e-4


def test_with_a_large_batch_it_settles_where_that_batch_has_its_optimum():
    """SGD goes on wandering by the noise of its small batches."""
    images, labels = digits()
    gap, w = gaps(full_examples=120)
    assert np.ptp(gap[-4:]) < 1e-10
    assert np.ptp(gaps(correction=0.0)[0][-4:]) > 1e-3
    gradient = jax.jit(jax.grad(loss))(w, images[:120], labels[:120])
    assert jnp.linalg.norm(gradient) < 1e-6
    assert gap[-1] > 1e-4


def grad_fn(w):
    return 2 * w


def dues(tx, steps, read=lambda state: state):
    """Whether a snapshot is due before each update."""
    update = jax.jit(functools.partial(tx.update, grad_fn=grad_fn))
    w, state, found = W, tx.init(W), []
    for _ in range(steps):
        found.append(bool(optax_ia.svrg_snapshot_due(read(state))))
        updates, state = update(grad_fn(w), state, w, full_gradient=grad_fn(w))
        w = optax.apply_updates(w, updates)
    return found, state


@pytest.mark.parametrize("every", [1, 3, 4])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: tx,
        lambda tx: optax.chain(optax.clip(1.0), tx, optax_ia.tail_average(1)),
        lambda tx: optax.apply_if_finite(tx, 2),
        lambda tx: optax_ia.lookahead(tx, 2),
    ],
    ids=["bare", "chain", "apply_if_finite", "lookahead"],
)
def test_snapshots_before_the_updates_1_and_1_plus_k(wrap, every):
    found, state = dues(wrap(optax_ia.svrg(optax.sgd(0.1), every)), 9)
    assert found == [t % every == 0 for t in range(9)]
    assert optax_ia.diagnostics(state)["num_snapshots"] == sum(found)


@pytest.mark.parametrize("steps", [1, 3])
def test_multi_steps_of_several_batches_is_refused(steps):
    """It hands on the last batch's gradient function beside the gradient of all."""
    tx = optax.MultiSteps(optax_ia.svrg(optax.sgd(0.1), 2), steps)

    def update():
        return tx.update(W, tx.init(W), W, grad_fn=grad_fn, full_gradient=W)

    if steps == 1:
        update()
    else:
        with pytest.raises(ValueError, match=r"svrg evaluates.*MultiSteps.*accumulate"):
            update()


def test_the_question_inside_jit():
    tx = optax_ia.svrg(optax.sgd(0.1), 2)
    _, state = dues(tx, 1)
    due = jax.jit(optax_ia.svrg_snapshot_due)
    assert due(tx.init(W)).shape == ()
    assert [bool(due(tx.init(W))), bool(due(state))] == [True, False]


def test_the_inner_optimiser_sees_the_reduced_gradient():
    seen = []

    def record(updates, state, params=None, **extra_args):
        seen.append((updates, params, extra_args))
        return jax.tree.map(jnp.zeros_like, updates), state

    inner = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), record)
    tx = optax_ia.svrg(inner, 10)
    asked = []

    def batch_gradient(w):
        asked.append(w)
        return w**2

    state = tx.init(W)
    full = jnp.array([0.5, 0.25])
    extra = {"grad_fn": batch_gradient, "value": 1.0}
    _, state = tx.update(jnp.array([1.0, 1.0]), state, W, full_gradient=full, **extra)
    away = W + 1.0
    _, state = tx.update(
        away**2, state, away, full_gradient=jnp.full(2, jnp.nan), **extra
    )
    np.testing.assert_array_equal(asked, [W, W])  # the snapshot, at both updates
    np.testing.assert_array_equal(seen[0][0], 1.0 - W**2 + full)
    np.testing.assert_array_equal(seen[1][0], away**2 - W**2 + full)
    assert seen[1][1] is away
    assert seen[1][2]["value"] == 1.0
    assert seen[1][2]["grad_fn"] is batch_gradient
    assert "full_gradient" in seen[1][2]


def test_masked_out_tensors_have_no_snapshot():
    params = {"a": W, "b": W}
    tx = optax.masked(optax_ia.svrg(optax.sgd(0.5), 2), {"a": True, "b": False})

    def gradient(params):
        return jax.tree.map(lambda w: 2 * w, params)

    state = tx.init(params)
    updates, state = jax.jit(functools.partial(tx.update, grad_fn=gradient))(
        params, state, params, full_gradient=gradient(params)
    )
    np.testing.assert_allclose(updates["a"], -0.5 * W)  # w - 2 w + 2 w
    np.testing.assert_array_equal(updates["b"], W)
    assert not bool(optax_ia.svrg_snapshot_due(state))


def test_the_period_may_be_traced_and_changed():
    tx = optax.inject_hyperparams(lambda every: optax_ia.svrg(optax.sgd(0.1), every))(3)
    found, state = dues(tx, 4)
    assert found == [True, False, False, True]
    state.hyperparams["every"] = jnp.full_like(state.hyperparams["every"], 2)
    _, state = tx.update(W, state, W, grad_fn=grad_fn, full_gradient=W)
    _, state = tx.update(W, state, W, grad_fn=grad_fn, full_gradient=W)
    assert bool(optax_ia.svrg_snapshot_due(state))


@pytest.mark.parametrize(
    ("every", "message"),
    [
        (0, r"snapshot_every must be >= 1, got 0"),
        (-2, r"snapshot_every must be >= 1, got -2"),
        (1.5, r"snapshot_every must be a whole number, got 1.5"),
    ],
)
def test_construction_errors_name_argument_bound_and_value(every, message):
    with pytest.raises(ValueError, match=message):
        optax_ia.svrg(optax.sgd(0.1), every)
    with pytest.raises(ValueError, match=message):
        optax_ia.get_optimizer("svrg_sgd", snapshot_every=every)


CALL = r".*update\(grads, state, params, grad_fn=grad_fn, full_gradient=full_gradient\)"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"grad_fn": grad_fn}, "svrg needs full_gradient:" + CALL),
        ({"full_gradient": W}, "svrg needs grad_fn:" + CALL),
        ({}, "svrg needs grad_fn and full_gradient:" + CALL),
    ],
)
def test_what_update_lacks_is_named_and_the_call_shown(extra, message):
    tx = optax_ia.svrg(optax.sgd(0.1), 2)
    with pytest.raises(ValueError, match=message):
        tx.update(W, tx.init(W), W, **extra)
    with pytest.raises(ValueError, match="svrg needs the parameters"):
        tx.update(W, tx.init(W), **extra)


@pytest.mark.parametrize("number", ["none", "2"])
def test_a_state_without_svrg_or_with_two_is_refused(number):
    tx = optax.sgd(0.1)
    if number == "2":
        tx = optax.chain(*(optax_ia.svrg(optax.identity(), 2) for _ in range(2)))
    with pytest.raises(ValueError, match=f"exactly one SvrgState, got {number}"):
        optax_ia.svrg_snapshot_due(tx.init(W))
