"""Meshes of eight devices, replicas' statistics, small batches, precision, memory."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from experiments import parallel
from experiments.__main__ import main
from experiments.configs.settings import RunConfig
from experiments.data import load_dataset
from experiments.errors import ExperimentError
from experiments.loops import image
from experiments.loops._accumulate import accumulated, gradient_norm
from experiments.loops._image_network import network
from experiments.loops._image_step import _loss, check_run
from experiments.loops.evaluation import evaluate
from experiments.parallel import Placement, per_replica, place_over

CONFIG = RunConfig(
    dataset="digits",
    model="vgg_tiny",
    epochs=2,  # of 14 steps
    batch_size=64,
    optimizer="gadamx",
    average_from=0.0,
    learning_rate=0.01,
)
PLAIN = dataclasses.replace(CONFIG, model="mlp_tiny", optimizer="sgd")


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


def cutting(devices=8):
    """Everything of eight elements or more is cut, so that a tiny network is."""
    placement = place_over(devices, "full")
    return dataclasses.replace(placement, smallest=8)


def trained(config, data, placement, steps):
    task = image.ImageTask(config, data, placement=placement)
    training, batches = task.init(), task.batches()
    for step in range(steps):
        training = task.step(training, next(batches), step)
    batches.close()
    return task, training


def assert_close(actual, expected, tolerance=2e-6):
    jax.tree.map(
        functools.partial(
            np.testing.assert_allclose, rtol=10 * tolerance, atol=tolerance
        ),
        jax.tree.map(np.asarray, actual),
        jax.tree.map(np.asarray, expected),
    )


def visible(state):
    return state.params, state.batch_stats, state.opt_state


@pytest.fixture(scope="module")
def alone(digits):
    task, training = trained(CONFIG, digits, None, 20)
    means = {name: float(total) / 20 for name, total in training.totals.items()}
    return training, task.end_epoch(training, means, 2, 20)[1]


@pytest.mark.parametrize("shard", ["replicated", "full"])
def test_eight_devices_equal_one_after_twenty_steps(digits, alone, shard):
    one, row = alone
    placement = place_over(8) if shard == "replicated" else cutting()
    task, eight = trained(CONFIG, digits, placement, 20)
    assert_close(visible(eight.state), visible(one.state))
    assert_close(eight.totals, one.totals, 1e-5)
    # laid out after the steps as before them: nothing was moved, or will be
    for leaf in jax.tree.leaves(eight):
        assert leaf.sharding.is_equivalent_to(placement.sharding(leaf.shape), leaf.ndim)
    cut = [x for x in jax.tree.leaves(eight) if not x.sharding.is_fully_replicated]
    average = sum("average" in str(path) for path, _ in _cut_paths(eight.state))
    assert bool(cut) == (shard == "full")
    assert bool(average) == (shard == "full")
    means = {name: float(total) / 20 for name, total in eight.totals.items()}
    eight, found = task.end_epoch(eight, means, 2, 20)  # 450 images, not 8 times n
    assert found.pop("optimizer") == row["optimizer"]
    assert found == pytest.approx({name: row[name] for name in found}, rel=1e-4)


def _cut_paths(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(path, x) for path, x in leaves if not x.sharding.is_fully_replicated]


def test_full_placement_cuts_the_longest_axis_that_fits():
    placement = dataclasses.replace(place_over(8, "full"), smallest=64)
    spec = {
        shape: tuple(placement.sharding(shape).spec)
        for shape in [(3, 3, 8, 16), (16, 8), (12, 16), (12, 10), (8,), ()]
    }
    assert spec == {
        (3, 3, 8, 16): (None, None, None, "data"),
        (16, 8): ("data",),
        (12, 16): (None, "data"),
        (12, 10): (),  # nothing that eight divides
        (8,): (),  # too small
        (): (),
    }
    whole = placement.place({"x": jnp.arange(128.0).reshape(16, 8)})["x"]
    assert [shard.data.shape for shard in whole.addressable_shards] == [(2, 8)] * 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam", "svrg", "kfac", "shampoo", "sls", "swats"])
def test_other_optimizers_train_fully_sharded(still, name):
    config = dataclasses.replace(CONFIG, optimizer=name, model="mlp_tiny")
    if name == "shampoo":
        config = dataclasses.replace(config, learning_rate=0.1)
    _, one = trained(config, still, None, 3)
    _, eight = trained(config, still, cutting(), 3)
    assert_close(eight.state.params, one.state.params, 1e-5)


def test_evaluation_is_exact_over_an_uneven_last_batch(digits):
    model, apply = network(PLAIN, 10)
    variables = model.init(jax.random.key(0), digits.test.images[:1], train=False)
    split = dataclasses.replace(
        digits.test,
        images=np.tile(digits.test.images, (2, 1, 1, 1))[:519],
        labels=np.tile(digits.test.labels, 2)[:519],  # 512 and 7
    )
    logits = np.asarray(apply(variables, split.images, train=False), np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    expected = -log_p[np.arange(519), split.labels].mean()
    right = (logits.argmax(-1) == split.labels).mean()
    for placement in (None, place_over(8), place_over(3)):
        loss, accuracy = evaluate(apply, variables, split, placement=placement)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert accuracy == pytest.approx(right, abs=1e-9)


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


@pytest.mark.parametrize(
    ("fields", "devices", "message"),
    [
        ({"batch_size": 60}, 8, "--batch-size must be a multiple of 8 .8 devices"),
        ({"accumulate": 3, "batch_size": 6}, 4, "must be a multiple of 12"),
        ({"batch_stats": "replica", "replicas": 3}, 1, "multiple of 3 .--replicas 3"),
        (
            {"optimizer": "sam", "accumulate": 2},
            1,
            "must be 1 for sam.* .needs|grad_fn",
        ),
        ({"optimizer": "kfac", "remat": True}, 1, "--remat does not go with kfac"),
    ],
)
def test_what_does_not_go_together_is_said(fields, devices, message):
    with pytest.raises(ExperimentError, match=message):
        check_run(dataclasses.replace(CONFIG, **fields), devices)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--accumulate=0"], "--accumulate must be at least 1, got 0"),
        (
            ["--batch-size=64", "--accumulate=3"],
            "must be a multiple of 3 (--accumulate)",
        ),
        (["--label-smoothing=1"], "--label-smoothing must be 0 or more and below 1"),
        (["--replicas=2"], "--replicas needs --batch-stats replica"),
        (["--precision=fp8"], "precision"),
        (["--devices=9"], "--devices must be between 1 and 8, the devices there are"),
        (["--batch-size=60"], "--batch-size must be a multiple of 8"),
        (["--coordinator=a:1"], "--coordinator needs --distributed"),
        (["--distributed", "--process-id=0"], "--process-id needs --coordinator too"),
        (
            ["--distributed", "--coordinator=here", "--num-processes=2"]
            + ["--process-id=0"],
            "--coordinator must be HOST:PORT, got here",
        ),
        (
            ["--distributed", "--coordinator=a:1", "--num-processes=2"]
            + ["--process-id=2"],
            "--process-id must be at least 0 and below --num-processes = 2, got 2",
        ),
        (["--batch-size=64", "--accumulate=2", "--on-nan=skip"], "--on-nan skip"),
    ],
)
def test_wrong_flags_are_said_on_one_line(tmp_path, capsys, flags, message):
    out = tmp_path / "run"
    assert main(["train", "--model=vgg_tiny", f"--out={out}", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_only_a_mesh_of_several_devices_is_one():
    assert place_over(1) is None
    assert isinstance(place_over(2), Placement)
    assert parallel.is_leader()
