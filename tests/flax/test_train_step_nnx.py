"""``build_train_step`` on NNX models, which it updates in place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import optax_ia
from optax_ia.flax import averaged_model, build_train_step
from tests.flax.step_problem import (
    BATCH,
    KEY,
    LOOKS,
    NEEDY,
    OPTIONS,
    RATES,
    NNXNet,
    X,
    Y,
    assert_agreed,
    counting,
    onlooker,
    prepare,
    squared_error,
    statistics,
)


def with_optimizer(tx, **net):
    model = NNXNet(**net)
    return model, nnx.Optimizer(model, tx, wrt=nnx.Param)


def pure(model, kind=nnx.Param):
    return jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(model, kind)))


def stepped(needs, tx, steps=2, *, batch=BATCH, net=None, **options):
    """The model, its optimiser and the metrics after some steps on one batch."""
    train_step = build_train_step(needs, squared_error, **options)
    model, optimizer = with_optimizer(tx, **(net or {}))
    metrics = {}
    for _ in range(steps):
        metrics = train_step(model, optimizer, batch, KEY)
    return model, optimizer, metrics


def assert_same(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        actual,
        expected,
    )


@pytest.mark.parametrize("name", NEEDY)
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
    model, optimizer = with_optimizer(tx)
    losses = []
    for t in range(25):
        metrics = train_step(model, optimizer, BATCH, KEY)
        losses.append(float(metrics["loss"]))
        if t == 1:
            compiled = len(traces)
    assert len(traces) == compiled
    assert optimizer.step[...] == 25
    assert np.mean(losses[-3:]) < 0.5 * losses[0]


def test_all_evaluations_of_a_step_see_the_same_keys_batch_and_statistics():
    train_step = build_train_step(LOOKS, squared_error, prepare=prepare)
    model, optimizer = with_optimizer(onlooker(), dropout=0.5, norm=True)
    losses = []
    for _ in range(3):
        metrics = train_step(model, optimizer, BATCH, KEY)
        assert_agreed(nnx.as_pure(optimizer.opt_state), metrics["loss"])
        losses.append(float(metrics["loss"]))
    assert len(set(losses)) == 3
    with pytest.raises(ValueError, match="prepare needs a key"):
        train_step(model, optimizer, BATCH)


@functools.cache
def sgd_with_dropout():
    return stepped((), optax.sgd(0.05, momentum=0.9), 3, net={"dropout": 0.5})[0]


@pytest.mark.parametrize("name", ["sam_sgd", "svrg_sgd"])
def test_under_dropout_sam_and_svrg_have_sgd_as_their_limit(name):
    """A neighbourhood of no size, or a snapshot at each step of the only batch."""
    sgd = optax.sgd(0.05, momentum=0.9)
    tx = optax_ia.sam(sgd, 0.0) if name == "sam_sgd" else optax_ia.svrg(sgd, 1)
    net = {"dropout": 0.5}
    model, _, _ = stepped(name, tx, 3, net=net, full_batches=[BATCH])
    assert_same(pure(model), pure(sgd_with_dropout()))
    # the random streams went on by one pass, not by all that were made
    counts = [int(m.dropout.rngs.count[...]) for m in (model, sgd_with_dropout())]
    assert counts[0] == counts[1] > 0


def test_full_batches_are_weighed_by_their_numbers_of_examples():
    parts = [(X[:7], Y[:7]), (X[7:8], Y[7:8]), (X[8:], Y[8:])]
    tx = optax_ia.svrg(optax.sgd(0.1), 1)
    model, _, _ = stepped("svrg_sgd", tx, 3, batch=(X[:2], Y[:2]), full_batches=parts)
    expected, _, _ = stepped((), optax.sgd(0.1), 3)
    assert_same(pure(model), pure(expected))


def test_batch_statistics_are_those_of_one_pass_at_the_old_parameters():
    first = NNXNet().first
    mean, var = statistics(first.kernel[...], first.bias[...])
    tx = optax_ia.get_optimizer("sam_sgd", learning_rate=0.5)
    model, _, _ = stepped("sam_sgd", tx, 1, net={"norm": True})
    found = pure(model, nnx.BatchStat)["norm"]
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["var"], var, rtol=1e-5)


def test_the_mode_of_the_model_stays_as_it_is():
    train_step = build_train_step((), squared_error)
    model, optimizer = with_optimizer(optax.sgd(0.1), dropout=0.5, norm=True)
    model.eval()
    before = pure(model, nnx.BatchStat)
    train_step(model, optimizer, BATCH)
    assert model.norm.use_running_average
    assert model.dropout.deterministic
    # and the step trained all the same
    assert not np.allclose(pure(model, nnx.BatchStat)["norm"]["mean"], 0)
    assert np.allclose(before["norm"]["mean"], 0)


def test_norms_metrics_inputs_and_apply_kwargs():
    class Scaled(nnx.Module):
        def __init__(self):
            self.weight = nnx.Param(jnp.ones(3))

        def __call__(self, x, scale):
            return scale * x @ self.weight

    def loss_fn(outputs, batch):
        return jnp.mean(outputs), {"first": outputs[0]}

    model = Scaled()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    train_step = build_train_step(
        (),
        loss_fn,
        inputs=lambda batch: batch["a"],
        apply_kwargs={"scale": 2.0},
        norms=True,
    )
    metrics = train_step(model, optimizer, {"a": jnp.ones((2, 3))})
    assert metrics["loss"] == metrics["first"] == 6.0
    norm = 2.0 * np.sqrt(3.0)
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-6)
    np.testing.assert_allclose(metrics["update_norm"], 0.1 * norm, rtol=1e-6)
    np.testing.assert_allclose(model.weight[...], 0.8, rtol=1e-6)


def test_only_what_the_optimizer_is_with_respect_to_is_trained():
    class Part(nnx.Param):
        pass

    model = NNXNet()
    model.last.kernel = Part(model.last.kernel[...])
    optimizer = nnx.Optimizer(model, optax_ia.sam(optax.sgd(0.1)), wrt=Part)
    before = pure(model)
    build_train_step("sam_sgd", squared_error)(model, optimizer, BATCH)
    after = pure(model)
    assert not np.allclose(after["last"]["kernel"], before["last"]["kernel"])
    np.testing.assert_array_equal(after["first"]["kernel"], before["first"]["kernel"])
    np.testing.assert_array_equal(after["last"]["bias"], before["last"]["bias"])


def test_the_average_is_read_afterwards():
    model, optimizer, _ = stepped("swa", optax_ia.swa(0.05, start=2), 4)
    assert optax_ia.num_averaged(optimizer.opt_state) == 3
    averaged = averaged_model(model, optimizer)
    expected = optax_ia.averaged_params(
        optimizer.opt_state, nnx.state(model, nnx.Param)
    )
    assert_same(pure(averaged), jax.tree.map(np.array, nnx.to_pure_dict(expected)))
    assert not np.allclose(averaged.last.kernel[...], model.last.kernel[...])


def test_without_full_batches_svrg_says_what_to_pass():
    train_step = build_train_step("svrg_sgd", squared_error)
    with pytest.raises(ValueError, match=r"pass full_batches= to build_train_step"):
        train_step(*with_optimizer(optax_ia.get_optimizer("svrg_sgd")), BATCH)


@pytest.mark.parametrize("arguments", [(), (BATCH, KEY, None)], ids=["few", "many"])
def test_a_wrong_number_of_arguments(arguments):
    train_step = build_train_step((), squared_error)
    message = r"takes \(model, optimizer, batch, key\), got [25] arg"
    with pytest.raises(TypeError, match=message):
        train_step(*with_optimizer(optax.sgd(0.1)), *arguments)
