"""Masked language modelling: its loss, its schedule, its precision, every optimiser."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia
from experiments.configs.p2 import masked as config
from experiments.errors import ExperimentError
from experiments.loops import _masked_step as steps
from experiments.loops import masked
from experiments.loops._masked_evaluation import evaluate, evaluation_batches
from experiments.loops._masked_optimizer import build_optimizer
from experiments.optimizers import damping_of, rates_of
from experiments.parallel import place_over
from experiments.tasks.masked import TrainConfig, plan, resolve_run
from tests.experiments.meshes import assert_close
from tests.experiments.tiny_masked import settings, task, write_texts


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts"))


def test_the_loss_is_the_cross_entropy_of_chosen_tokens_alone():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 4, 7)).astype(np.float32)
    labels = rng.integers(0, 7, (3, 4)).astype(np.int32)
    weights = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    batch = {"labels": labels, "weights": weights}
    masked_loss = jax.jit(steps.masked_loss, static_argnames="label_smoothing")
    loss, sums = masked_loss(logits, batch)
    terms = [
        np.log(np.exp(logits[place].astype(float)).sum()) - logits[place][labels[place]]
        for place in ((0, 0), (0, 1), (1, 0))
    ]
    np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-6)
    np.testing.assert_allclose(sums["masked_loss"], np.sum(terms), rtol=1e-6)
    assert sums["masked"] == 3
    assert masked_loss(logits, batch | {"weights": np.zeros_like(weights)})[0] == 0
    # smoothed: the mean over the tokens of the vocabulary, a fifth of it
    smooth, smooth_sums = masked_loss(logits, batch, label_smoothing=0.2)
    spread = [
        np.log(np.exp(logits[place].astype(float)).sum()) - logits[place].mean()
        for place in ((0, 0), (0, 1), (1, 0))
    ]
    wanted = 0.8 * np.mean(terms) + 0.2 * np.mean(spread)
    np.testing.assert_allclose(smooth, wanted, rtol=1e-6)
    assert smooth_sums == sums  # what is reported is without it


def test_logits_are_those_at_the_chosen_positions(texts):
    made = task(texts)
    batch = next(made.batches())
    state = made.init().state

    @jax.jit
    def both(params, batch):
        variables = {"params": params}
        chosen = state.apply_fn(variables, steps.inputs_of(batch), train=False)
        return chosen, made._model.apply(variables, batch["tokens"], train=False)

    got, everywhere = map(np.asarray, both(state.params, batch))
    wanted = np.take_along_axis(everywhere, batch["positions"][..., None], 1)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_evaluation_is_the_mean_over_all_masked_tokens(texts):
    made = task(texts)
    state = made.init().state
    row = evaluate(state, made.data, ("validation",))
    total = right = count = 0.0
    apply = jax.jit(functools.partial(state.apply_fn, train=False))
    batches = evaluation_batches(
        made.data.validation, 3, vocab_size=made.data.vocab_size
    )
    for batch in batches:  # another size of batches, another sum, the same mean
        inputs = steps.inputs_of(batch)
        logits = np.asarray(apply({"params": state.params}, inputs), np.float64)
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        picked = np.take_along_axis(logs, batch["labels"][..., None], -1)[..., 0]
        total -= (picked * batch["weights"]).sum()
        right += ((logits.argmax(-1) == batch["labels"]) * batch["weights"]).sum()
        count += batch["weights"].sum()
    np.testing.assert_allclose(row["validation_loss"], total / count, rtol=1e-5)
    np.testing.assert_allclose(
        row["validation_perplexity"], np.exp(total / count), rtol=1e-5
    )
    np.testing.assert_allclose(row["validation_accuracy"], right / count, atol=1e-6)
    assert row["average_validation_loss"] is None


def test_the_rate_rises_then_falls_in_lines(texts):
    run = dataclasses.replace(
        settings(texts), optimizer="sgd", learning_rate=1.0, warmup=0.2, epochs=10
    )
    transformation = build_optimizer(run, 10, None)  # 100 steps
    state = transformation.init(np.zeros(1, np.float32))
    rates = []
    for _ in range(100):
        _, state = transformation.update(
            np.zeros(1, np.float32), state, np.zeros(1, np.float32)
        )
        rates.append(float(optax_ia.diagnostics(state)["learning_rate"]))
    steps_ = np.arange(100)
    wanted = np.where(steps_ < 20, (steps_ + 1) / 20, 1 - (steps_ - 20) / 80)
    np.testing.assert_allclose(rates, wanted, atol=1e-6)


FAST = ("kfac", "gadam")
OTHERS = [name for name in optax_ia.list_optimizers() if name not in FAST]


def chosen(name):
    """A run that lowers the loss of one batch from its first step on."""
    rate, _ = rates_of(name, config.RATES)
    damping = damping_of(name, config.RATES)
    if name == "lanczos_newton":
        # its own damping, 0.001, is less than the negative curvature at the start
        rate, damping = 0.1, 1.0
    return {
        "optimizer": name,
        "learning_rate": rate,
        "damping": damping,
        "weight_decay": None,
        "warmup": 0.0,
        "epochs": 40,
        "average_from": 0.0,
    }


@pytest.mark.parametrize(
    "name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_every_optimizer_lowers_the_loss_of_a_batch(texts, name):
    made = task(texts, **chosen(name))
    batch, training = next(made.batches()), made.init()
    losses, before = [], 0.0
    for step in range(8):
        training = made.step(training, batch, step)
        total = float(training.totals["loss"])
        losses.append(total - before)
        before = total
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_every_batch_is_the_same_whenever_asked_for(texts):
    data = masked.load(settings(texts))
    placement = place_over(8)
    alone = steps.every_batch(data, 16)
    eight = steps.every_batch(data, 16, placement)
    assert alone is steps.every_batch(data, 16)  # steps are found again by it
    first = list(alone())
    assert len(first) == len(data.train) // 16
    for one, again, placed in zip(first, alone(), eight(), strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(again[name], array)
            np.testing.assert_array_equal(placed[name], array)
            assert placed[name].sharding == placement.by_rows


def trained(made, count):
    training, batches = made.init(), made.batches()
    for step in range(count):
        training = made.step(training, next(batches), step)
    batches.close()
    return training


@pytest.mark.parametrize("devices", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_small_batches_equal_the_large_one(texts, devices):
    options = chosen("gadam")
    large = trained(task(texts, **options), 6)
    made = task(texts, **options, accumulate=4, placement=place_over(devices))
    parts = next(made.batches())
    counts = [float(part["weights"].sum()) for part in parts]
    assert len(counts) == 4
    assert len(set(counts)) > 1  # the mean of their means would be another
    small = trained(made, 6)
    for name in ("loss", "masked_loss", "masked", "gradient_norm", "update_norm"):
        assert float(small.totals[name]) == pytest.approx(
            float(large.totals[name]), rel=1e-5
        )
    assert_close(small.state.params, large.state.params, 1e-5)
    # schedules and averages count updates
    told, wanted = (optax_ia.diagnostics(t.state.opt_state) for t in (small, large))
    assert float(told["learning_rate"]) == float(wanted["learning_rate"])
    assert int(told["num_averaged"]) == int(wanted["num_averaged"]) > 0
    assert int(small.state.step) == 4 * int(large.state.step)


def test_bf16_and_remat_change_rounding_and_memory_alone(texts):
    batch = next(task(texts).batches())

    def taken(**changes):
        made = task(texts, **changes)

        def loss(params, batch):
            inputs = steps.inputs_of(batch)
            logits = made._apply({"params": params}, inputs, train=True)
            return steps.masked_loss(logits, batch)[0]

        value_and_grad = jax.value_and_grad(loss)
        program = str(jax.make_jaxpr(value_and_grad)(params, batch))
        return *jax.jit(value_and_grad)(params, batch), program

    params = task(texts).init().state.params
    value, gradient, plain = taken()
    again, same, program = taken(remat=True)
    assert "remat" in program
    assert "remat" not in plain
    np.testing.assert_allclose(again, value, rtol=1e-6)
    assert_close(same, gradient, 1e-6)
    rough, close, program = taken(precision="bf16")
    assert "bf16" in program
    assert "bf16" not in plain
    assert rough != value
    np.testing.assert_allclose(rough, value, rtol=1e-2)
    assert {leaf.dtype for leaf in jax.tree.leaves(close)} == {jnp.dtype("float32")}
    made = task(texts, precision="bf16")
    shapes = jax.eval_shape(made.init).state
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(shapes.params)}
    assert dtypes == {jnp.dtype("float32")}


def test_arguments_are_checked(texts):
    for changes, message in (
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"batch_size": 10_000}, "--batch-size must be at most .* got 10000"),
        ({"dropout": 1.0}, "--dropout must be at least 0 and below 1, got 1.0"),
        ({"warmup": -0.1}, "--warmup must be between 0 and 1, got -0.1"),
        ({"clip_norm": 0.0}, "--clip-norm must be above 0 and finite, got 0.0"),
        ({"hidden_size": 7}, "roberta_tiny: num_heads must divide hidden_size 7"),
        ({"model": "resnet18"}, "unknown model 'resnet18'"),
        ({"vocab_size": 20}, "--vocab-size must be at least 261"),
        ({"accumulate": 0}, "--accumulate must be at least 1, got 0"),
        ({"accumulate": 3}, r"a multiple of 3 \(--accumulate\), got 16"),
        ({"label_smoothing": 1.0}, "--label-smoothing must be at least 0 and below 1"),
    ):
        with pytest.raises(ExperimentError, match=message):
            masked.load(dataclasses.replace(settings(texts), **changes))
    for changes, message in (
        ({"batch_size": 12}, r"multiple of 8 \(8 devices; --devices takes fewer\)"),
        ({"accumulate": 4}, "multiple of 32 .8 devices times --accumulate 4.*got 16"),
        ({"optimizer": "kfac", "remat": True}, "--remat does not go with kfac"),
        ({"optimizer": "kfac", "accumulate": 2}, "--accumulate must be 1 for kfac"),
        ({"accumulate": 2, "skip": True}, "--accumulate must be 1 with --on-nan skip"),
    ):
        with pytest.raises(ExperimentError, match=message):
            task(texts, placement=place_over(8), **changes)
    for changes, message in (
        ({"optimizer": "adma"}, "unknown optimizer 'adma'"),
        ({"learning_rate": -1.0}, "--learning-rate must be above 0"),
        ({"checkpoint_every": 0}, "--checkpoint-every must be at least 1, got 0"),
    ):
        with pytest.raises(ExperimentError, match=message):
            resolve_run(TrainConfig(**changes))
    with pytest.raises(ExperimentError, match="--optimizers needs at least one name"):
        plan(config.MaskedCompare(optimizers=()))
    with pytest.raises(ExperimentError, match="--seeds must differ, got 1 1"):
        plan(config.MaskedCompare(seeds=(1, 1)))
    run = dataclasses.replace(settings(texts), optimizer="sls", weight_decay=0.1)
    with pytest.raises(ExperimentError, match="sls has no weight decay"):
        build_optimizer(run, 10, None)


def test_the_default_comparison_is_that_of_the_paper():
    runs = plan(config.MaskedCompare())
    assert [run.optimizer for run in runs] == list(config.REPORTED)
    assert all(run.damping is None for run in runs if run.optimizer != "kfac")
