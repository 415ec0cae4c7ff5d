"""Replicas' statistics, small batches, precision, smoothing and memory of images."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from experiments.data import load_dataset
from experiments.loops import image
from experiments.loops._accumulate import accumulated, gradient_norm
from experiments.loops._image_network import network
from experiments.loops._image_step import _loss
from experiments.loops.evaluation import evaluate
from experiments.parallel import per_replica, place_over
from tests.experiments.meshes import assert_close
from tests.experiments.tiny_images import CONFIG, PLAIN, trained, visible


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def still(digits):
    """Digits without augmentation, whose draws follow the number of small batches."""
    return dataclasses.replace(digits, augment=_as_they_are)


def _as_they_are(key, images):
    del key
    return jnp.asarray(images)


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-3)(x)


@pytest.mark.parametrize("devices", [1, 4, 8])
def test_statistics_of_replicas_are_those_of_their_rows(devices):
    rng = np.random.default_rng(0)
    x = rng.normal(1, 2, (32, 3)).astype(np.float32)
    model = Normalised()
    variables = model.init(jax.random.key(0), x, train=False)
    placement = place_over(devices)
    apply = per_replica(model.apply, 8, placement)
    rows = x if placement is None else placement.whole(x)
    run = jax.jit(lambda v, x: apply(v, x, train=True, mutable=["batch_stats"]))
    outputs, updated = run(variables, rows)
    shares = x.astype(np.float64).reshape(8, 4, 3)
    mean, var = shares.mean(1, keepdims=True), shares.var(1, keepdims=True)
    expected = ((shares - mean) / np.sqrt(var + 1e-3)).reshape(32, 3)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    found = updated["batch_stats"]["BatchNorm_0"]
    # the mean over replicas of 0.9 old + 0.1 new, from 0 and 1
    np.testing.assert_allclose(found["mean"], 0.1 * mean.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * var.mean((0, 1)), atol=1e-5)
    still = apply(variables, rows, train=False)
    np.testing.assert_allclose(still, x / np.sqrt(1.001), rtol=1e-5)


def test_replicas_draw_dropout_of_their_own():
    model = nn.Dropout(0.5)

    def apply(variables, x, *, train, rngs, mutable):
        return model.apply(variables, x, deterministic=not train, rngs=rngs)

    rngs = {"dropout": jax.random.key(0)}
    outputs = per_replica(apply, 2, None)({}, jnp.ones((128, 4)), rngs=rngs)
    assert set(np.unique(outputs)) == {0.0, 2.0}
    assert (outputs[:64] != outputs[64:]).any()


def test_a_run_with_replicas_is_the_same_on_any_devices(digits):
    config = dataclasses.replace(CONFIG, batch_stats="replica", replicas=8)
    _, one = trained(config, digits, None, 3)
    _, eight = trained(config, digits, place_over(8), 3)
    assert_close(visible(eight.state), visible(one.state))
    _, whole = trained(CONFIG, digits, None, 3)
    var = [
        s.state.batch_stats["ConvBlock_0"]["BatchNorm_0"]["var"] for s in (one, whole)
    ]
    assert np.abs(np.asarray(var[0]) - var[1]).max() > 1e-5


@pytest.mark.parametrize("placement", [None, 4])
def test_accumulation_equals_the_large_batch(still, placement):
    config = dataclasses.replace(PLAIN, optimizer="gadamx", clip_norm=0.5)
    placement = None if placement is None else place_over(placement)
    _, large = trained(config, still, None, 16)
    small = dataclasses.replace(config, accumulate=4)
    _, parts = trained(small, still, placement, 16)
    assert_close(parts.state.params, large.state.params, 1e-5)
    assert_close(parts.totals, large.totals, 1e-4)
    # schedules and averages count updates
    told, expected = (optax_ia.diagnostics(t.state.opt_state) for t in (parts, large))
    assert_close({name: told[name] for name in expected}, expected)
    assert int(parts.state.step) == 4 * int(large.state.step)


def test_accumulation_hands_extra_arguments_on():
    def update(updates, state, params=None, *, value):
        del params
        return jax.tree.map(lambda g: g * value, updates), state + 1

    scaled = optax.GradientTransformationExtraArgs(lambda _: jnp.zeros([]), update)
    tx = accumulated(scaled, 2)
    params = jnp.zeros(2)
    state = tx.init(params)
    first, state = tx.update(jnp.array([1.0, 3.0]), state, params, value=7.0)
    second, state = tx.update(jnp.array([5.0, 5.0]), state, params, value=10.0)
    np.testing.assert_allclose(first, [0, 0])
    np.testing.assert_allclose(second, [30, 40])
    np.testing.assert_allclose(gradient_norm(state), 5)


def test_bf16_computes_in_bf16_and_keeps_float32(still):
    config = dataclasses.replace(PLAIN, precision="bf16", learning_rate=0.1)
    _, training = trained(config, still, None, 14)
    dtypes = {x.dtype for x in jax.tree.leaves(training.state.params)}
    assert dtypes == {jnp.dtype("float32")}
    _, apply = network(config, 10)
    variables = {"params": training.state.params}
    text = str(
        jax.make_jaxpr(lambda x: apply(variables, x, train=True))(
            still.train.images[:2]
        )
    )
    assert "bf16" in text
    assert "dot_general" in text
    before, _ = evaluate(apply, {"params": _fresh(config, still)}, still.test)
    after, _ = evaluate(apply, variables, still.test)
    assert after < 0.7 * before


def _fresh(config, data):
    return image.init_state(config, data, jax.random.key(0)).params


def test_label_smoothing_is_the_formula(still):
    logits = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    labels = np.array([0, 1, 2, 3, 1, 1])
    log_p = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
    target = np.full((6, 4), 0.2 / 4)
    target[np.arange(6), labels] += 0.8
    loss, metrics = _loss(jnp.asarray(logits), (None, labels), label_smoothing=0.2)
    assert loss == pytest.approx(-(target * log_p).sum(-1).mean(), rel=1e-5)
    right = (logits.argmax(-1) == labels).mean()
    assert metrics["correct"] == pytest.approx(right)
    # it reaches the step: with everything spread, the loss is near log 10
    config = dataclasses.replace(PLAIN, label_smoothing=0.999)
    task, training = trained(config, still, None, 14)
    assert float(training.totals["loss"]) / 14 > 2.2
    assert task.end_epoch(training, dict.fromkeys(training.totals, 0.0), 1, 14)[1]


def test_remat_keeps_less_for_the_backward_pass_and_gives_the_same_gradient():
    images = np.random.default_rng(0).normal(size=(16, 16, 16, 3)).astype(np.float32)

    def kept_and_gradient(remat):
        config = dataclasses.replace(CONFIG, model="preresnet_tiny", remat=remat)
        model, apply = network(config, 10)
        variables = jax.jit(functools.partial(model.init, train=False))(
            jax.random.key(0), images[:1]
        )

        def loss(params, images):
            outputs, _ = apply(
                variables | {"params": params},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            return (outputs**2).mean()

        # A pass forward as a program of its own: what it gives is what is kept.
        forward = jax.jit(lambda *arguments: jax.vjp(loss, *arguments)[1])
        compiled = forward.lower(variables["params"], images).compile()
        kept = compiled.memory_analysis().output_size_in_bytes
        return kept, jax.jit(jax.grad(loss))(variables["params"], images)

    (kept, expected), (less, found) = kept_and_gradient(False), kept_and_gradient(True)
    assert less < 0.6 * kept
    assert_close(found, expected, 1e-5)
