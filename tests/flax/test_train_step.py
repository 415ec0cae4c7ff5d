"""``build_train_step`` on Linen networks, for every optimiser that asks for more."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from optax_ia import models
from optax_ia.flax import TrainState, build_train_step
from tests.flax.step_problem import (
    BATCH,
    KEY,
    LOOKS,
    NEEDY,
    OPTIONS,
    PLAIN,
    RATES,
    LinenNet,
    X,
    Y,
    assert_agreed,
    counting,
    onlooker,
    prepare,
    squared_error,
    statistics,
)


def make_state(tx, **net):
    net = LinenNet(**net)
    variables = net.init(jax.random.key(0), X)
    return TrainState.create(
        apply_fn=net.apply,
        params=variables["params"],
        tx=tx,
        batch_stats=variables.get("batch_stats"),
    )


def stepped(needs, tx, steps=2, *, key=KEY, batch=BATCH, net=None, **options):
    """The state and the metrics after some steps on one batch."""
    train_step = build_train_step(needs, squared_error, **options)
    state = make_state(tx, **(net or {}))
    metrics = {}
    for _ in range(steps):
        state, metrics = train_step(state, batch, key)
    return state, metrics


SGD = optax.sgd(0.1)
plain_step = build_train_step((), squared_error, donate=False)


@functools.cache
def sgd_with_dropout():
    tx = optax.sgd(0.05, momentum=0.9)
    return stepped((), tx, 3, net={"dropout": 0.5})


def assert_same_params(actual, expected, rtol=1e-5, atol=1e-6):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
        actual.params,
        expected.params,
    )


def test_the_registry_has_the_optimisers_that_need_more():
    assert {"sam_sgd", "svrg_sgd", "sls"} <= set(NEEDY)


@pytest.mark.parametrize("name", NEEDY + PLAIN)
def test_the_loss_falls_and_only_the_first_two_steps_compile(name):
    """Two: SVRG's with a snapshot, and without."""
    loss_fn, traces = counting()
    options = {"snapshot_every": 3} if name == "svrg_sgd" else {}
    tx = optax_ia.get_optimizer(name, learning_rate=RATES.get(name, 0.05), **options)
    train_step = build_train_step(
        name,
        loss_fn,
        full_batches=[(X[:6], Y[:6]), (X[6:], Y[6:])],
        **OPTIONS.get(name, {}),
    )
    state = make_state(tx)
    losses = []
    for t in range(25):
        state, metrics = train_step(state, BATCH, KEY)
        losses.append(float(metrics["loss"]))
        if t == 1:
            compiled = len(traces)
    assert len(traces) == compiled
    assert state.step == 25
    assert np.mean(losses[-3:]) < 0.5 * losses[0]
    assert isinstance(state, TrainState)


def test_all_evaluations_of_a_step_see_the_same_keys_batch_and_statistics():
    train_step = build_train_step(LOOKS, squared_error, prepare=prepare)
    state = make_state(onlooker(), dropout=0.5, norm=True)
    losses = []
    for _ in range(3):
        state, metrics = train_step(state, BATCH, KEY)
        assert_agreed(state.opt_state, metrics["loss"])
        losses.append(float(metrics["loss"]))
    assert len(set(losses)) == 3


def test_sam_with_a_rho_of_zero_is_its_inner_optimiser():
    tx = optax_ia.sam(optax.sgd(0.05, momentum=0.9), rho=0.0)
    state, metrics = stepped("sam_sgd", tx, 3, net={"dropout": 0.5})
    expected, expected_metrics = sgd_with_dropout()
    assert_same_params(state, expected)
    np.testing.assert_allclose(metrics["loss"], expected_metrics["loss"], rtol=1e-5)


def test_svrg_with_a_snapshot_at_each_step_of_one_batch_is_sgd_on_it():
    """The two gradients of the batch cancel only under the same dropout."""
    tx = optax_ia.svrg(optax.sgd(0.05, momentum=0.9), 1)
    net = {"dropout": 0.5}
    state, _ = stepped("svrg_sgd", tx, 3, net=net, full_batches=[BATCH])
    assert_same_params(state, sgd_with_dropout()[0])


def test_full_batches_are_weighed_by_their_numbers_of_examples():
    """Each step is full gradient descent, whatever batch it is called with."""
    parts = [(X[:7], Y[:7]), (X[7:8], Y[7:8]), (X[8:], Y[8:])]
    tx = optax_ia.svrg(SGD, 1)
    state, _ = stepped("svrg_sgd", tx, 3, batch=(X[:2], Y[:2]), full_batches=parts)
    expected = make_state(SGD)
    for _ in range(3):
        expected, _ = plain_step(expected, BATCH)
    assert_same_params(state, expected)


def test_the_full_gradient_is_as_precise_as_the_parameters():
    """Weights such as 1/3 in float32 would be off in the eighth digit."""
    x, y = X.astype(np.float64), Y.astype(np.float64)
    net = nn.Dense(1, param_dtype=jnp.float64)
    params = net.init(jax.random.key(0), x)["params"]
    parts = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 12, 4)]
    ends = []
    for needs, tx, full in (
        ("svrg_sgd", optax_ia.svrg(optax.sgd(0.1), 1), parts),
        ((), optax.sgd(0.1), None),
    ):
        train_step = build_train_step(
            needs, squared_error, apply_kwargs={}, full_batches=full
        )
        fresh = jax.tree.map(jnp.array, params)
        state = TrainState.create(apply_fn=net.apply, params=fresh, tx=tx)
        ends.append(train_step(state, (x, y))[0])
    assert_same_params(*ends, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ["sam_sgd", "sls"])
def test_batch_statistics_are_those_of_one_pass_at_the_old_parameters(name):
    tx = optax_ia.get_optimizer(name, learning_rate=0.5)
    before = make_state(tx, norm=True)
    mean, var = statistics(**before.params["Dense_0"])
    state, _ = build_train_step(name, squared_error)(before, BATCH)
    found = state.batch_stats["BatchNorm_0"]
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["var"], var, rtol=1e-5)


def test_each_step_has_its_own_key_and_each_run_key_its_own_masks():
    """At a rate of zero the loss changes by dropout alone."""
    state = make_state(optax.sgd(0.0), dropout=0.5)
    after, first = plain_step(state, BATCH, KEY)
    _, again = plain_step(state, BATCH, key=KEY)
    _, second = plain_step(after, BATCH, KEY)
    _, other = plain_step(state, BATCH, jax.random.key(8))
    assert first["loss"] == again["loss"]
    assert len({float(m["loss"]) for m in (first, second, other)}) == 3


def test_a_convolutional_network_with_batch_norm_and_its_average():
    net = models.create_model("vgg_tiny", num_classes=3)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(6, 8, 8, 1)).astype(np.float32)
    labels = np.arange(6) % 3
    # Flax's initialisers take longer to compile than the step
    variables = jax.tree.map(
        lambda leaf: rng.normal(1, 0.3, leaf.shape).astype(leaf.dtype),
        jax.eval_shape(net.init, jax.random.key(0), images),
    )
    state = TrainState.create(
        apply_fn=net.apply, tx=optax_ia.gadam(0.02, start=3), **variables
    )

    def loss_fn(logits, batch):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch[1])
        return losses.mean(), {"accuracy": jnp.mean(logits.argmax(-1) == batch[1])}

    train_step = build_train_step("gadam", loss_fn)
    losses = []
    for _ in range(8):
        state, metrics = train_step(state, (images, labels))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    assert 0 <= metrics["accuracy"] <= 1
    assert optax_ia.num_averaged(state.opt_state) == 6
    averaged = state.averaged_variables([(images, labels)])
    assert jax.tree.structure(averaged) == jax.tree.structure(
        {"params": state.params, "batch_stats": state.batch_stats}
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(averaged))


def test_the_average_is_of_the_steps_iterates():
    state = make_state(optax_ia.swa(0.05, start=2))
    iterates = []
    for _ in range(4):
        state, _ = plain_step(state, BATCH)
        iterates.append(state.params)
    expected = jax.tree.map(lambda *w: np.mean(w, axis=0), *iterates[1:])
    variables = state.averaged_variables()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        variables["params"],
        expected,
    )
