"""Averaging under ``nnx.Optimizer``: reading, starting, evaluating."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import optax_ia
from optax_ia.flax import averaged_model, recalibrate_batch_stats
from tests.flax.problem import NNXNet, batches


def train_step(model, optimizer, x):
    def loss(model):
        return jnp.mean((model(x) - 1.0) ** 2)

    optimizer.update(model, nnx.grad(loss)(model))


eager_and_jit = pytest.mark.parametrize(
    "step", [train_step, nnx.jit(train_step)], ids=["eager", "jit"]
)


def pure(model):
    return jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(model, nnx.Param)))


def trained(tx, steps=4, step=train_step, between=lambda t, optimizer: None):
    model = NNXNet(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    iterates = []
    data = batches((8, 8, 8))
    for t in range(steps):
        step(model, optimizer, data[t % 3])
        iterates.append(pure(model))
        between(t + 1, optimizer)
    return model, optimizer, iterates


def assert_is_mean(params, iterates):
    expected = jax.tree.map(lambda *w: np.mean(w, axis=0), *iterates)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        nnx.to_pure_dict(params),
        expected,
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: optax_ia.gadam(1e-2, start=2),
        lambda: optax_ia.gadamx(1e-2, start=2),
        lambda: optax_ia.swa(1e-2, start=2),
        lambda: optax_ia.gadam_lookahead(1e-2, start=2),
        lambda: optax.chain(
            optax.clip_by_global_norm(1.0),
            optax_ia.lookahead(optax.adam(1e-2), 2),
            optax_ia.tail_average(2),
        ),
    ],
    ids=["gadam", "gadamx", "swa", "gadam_lookahead", "chain"],
)
def test_the_average_is_read_from_the_optimizer(make):
    model, optimizer, iterates = trained(make(), step=nnx.jit(train_step))
    params = optax_ia.averaged_params(optimizer.opt_state, nnx.state(model, nnx.Param))
    assert_is_mean(params, iterates[1:])
    assert optax_ia.num_averaged(optimizer.opt_state) == 3
    assert optax_ia.diagnostics(optimizer.opt_state)["num_averaged"] == 3


def test_eager_training_averages_and_equals_jit():
    model, optimizer, eager = trained(optax_ia.gadamx(1e-2, start=1))
    params = optax_ia.averaged_params(optimizer.opt_state, nnx.state(model, nnx.Param))
    assert_is_mean(params, eager)
    _, _, compiled = trained(optax_ia.gadamx(1e-2, start=1), step=nnx.jit(train_step))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        eager[-1],
        compiled[-1],
    )


@eager_and_jit
def test_start_averaging(step):
    def begin(t, optimizer):
        if t == 2:
            optimizer.opt_state = optax_ia.start_averaging(optimizer.opt_state)

    tx = optax_ia.gadam(1e-2, None)
    model, optimizer, iterates = trained(tx, step=step, between=begin)
    params = optax_ia.averaged_params(optimizer.opt_state, nnx.state(model, nnx.Param))
    assert_is_mean(params, iterates[2:])


@eager_and_jit
def test_gadam_auto(step):
    def record(t, optimizer):
        optimizer.opt_state = optax_ia.record_metric(optimizer.opt_state, 1.0)

    model, optimizer, iterates = trained(
        optax_ia.gadam_auto(1e-2, patience=1), 4, step, record
    )
    assert bool(optax_ia.should_stop(optimizer.opt_state))
    params = optax_ia.averaged_params(optimizer.opt_state, nnx.state(model, nnx.Param))
    assert_is_mean(params, iterates[2:])


def test_averaged_model_is_ready_to_evaluate():
    model, optimizer, iterates = trained(optax_ia.gadam(1e-2, start=2))
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(model)))
    data = batches()
    averaged = averaged_model(model, optimizer, data)
    assert averaged is not model
    assert_is_mean(nnx.state(averaged, nnx.Param), iterates[1:])
    assert averaged.norm_0.use_running_average
    assert not model.norm_0.use_running_average

    expected = nnx.merge(*nnx.split(averaged), copy=True)
    recalibrate_batch_stats(expected, data)
    np.testing.assert_array_equal(expected.norm_1.var[...], averaged.norm_1.var[...])
    assert jnp.isfinite(averaged(data[0])).all()
    # the model in training is as it was
    jax.tree.map(
        np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(model)), before
    )


def test_averaged_model_without_data_keeps_the_statistics():
    model, optimizer, _ = trained(optax_ia.gadam(1e-2, start=1))
    averaged = averaged_model(model, optimizer)
    np.testing.assert_array_equal(averaged.norm_0.mean[...], model.norm_0.mean[...])


def test_training_goes_on_after_an_evaluation():
    def evaluate(t, optimizer):
        if t == 2:
            averaged_model(models[-1], optimizer, batches())

    models = []

    def step(model, optimizer, x):
        models.append(model)
        train_step(model, optimizer, x)

    _, _, disturbed = trained(optax_ia.gadam(1e-2, start=1), 4, step, evaluate)
    _, _, undisturbed = trained(optax_ia.gadam(1e-2, start=1), 4)
    jax.tree.map(np.testing.assert_array_equal, disturbed[-1], undisturbed[-1])


def test_before_the_start_the_model_itself_is_evaluated():
    model, optimizer, iterates = trained(optax_ia.gadam(1e-2, start=100), 2)
    averaged = averaged_model(model, optimizer)
    jax.tree.map(np.testing.assert_array_equal, pure(averaged), iterates[-1])


def test_an_optimiser_without_average_says_so():
    model, optimizer, _ = trained(optax.adam(1e-2), 1)
    with pytest.raises(ValueError, match="holds no average"):
        averaged_model(model, optimizer)


def test_extra_arguments_reach_the_transformation():
    seen = []

    def update(updates, state, params=None, **extra_args):
        seen.append(extra_args)
        return updates, state

    inner = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
    model = NNXNet(nnx.Rngs(0))
    tx = optax.chain(optax_ia.lookahead(inner), optax_ia.tail_average(1))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    grads = jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param))
    optimizer.update(model, grads, value=2.0)
    assert seen == [{"value": 2.0}]


@eager_and_jit
def test_a_mask_by_path_reads_nnx_names(step):
    """The same strings as for Linen, in init and in update."""
    decayed = optax_ia.padamw(0.0, weight_decay=0.5, mask=optax_ia.path_mask("kernel$"))
    tx = optax.chain(optax_ia.independent_decay(0.5, optax_ia.path_mask("kernel$")))
    trained(decayed, 1, step)
    model = NNXNet(nnx.Rngs(0))
    before = pure(model)
    optimizer = nnx.Optimizer(model, optax.chain(optax.scale(0.0), tx), wrt=nnx.Param)
    step(model, optimizer, batches()[0])
    for layer, leaves in pure(model).items():
        for name, value in leaves.items():
            factor = 0.5 if name == "kernel" else 1.0
            np.testing.assert_allclose(value, factor * before[layer][name], rtol=1e-6)
