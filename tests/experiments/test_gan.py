"""The GAN: its images, losses and constraints, who steps when, what is left out."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia
from experiments.errors import ExperimentError
from experiments.loops._gan_images import RoundReader, images_of
from experiments.loops._gan_networks import variables_of
from experiments.loops.engine import NotFiniteError, fit
from tests.experiments.tiny_gan import TINY, digits, rounds, same, task

PLAIN = {
    "optimizer": "sgd",
    "critic_optimizer": "sgd",
    "learning_rate": 0.05,
    "epochs": 4,
}

# images


def test_images_fill_the_range_of_the_generator():
    data = digits()
    assert data.train.shape == (897, 8, 8, 1)
    assert data.train.min() == -1
    assert data.train.max() == 1
    assert data.train.dtype == np.float32
    # digits have 17 grey values, 0 to 16
    values = np.unique(np.round((data.train + 1) * 8, 3))
    np.testing.assert_allclose(values, np.arange(17))


def test_images_are_filled_up_evenly(monkeypatch):
    from experiments.data import load_dataset

    data = load_dataset("digits")
    padded = images_of(data, 16)
    assert padded.train.shape[1:] == (16, 16, 1)
    np.testing.assert_array_equal(padded.train[:, 4:12, 4:12], digits().train)
    border = padded.train.copy()
    border[:, 4:12, 4:12] = -1
    assert (border == -1).all()


def test_each_pass_shows_the_critic_every_image_once():
    images = np.arange(26, dtype=np.float32)[:, None, None, None]
    config = dataclasses.replace(TINY, batch_size=4, critic_steps=5)
    reader = RoundReader(images, config)
    shown = np.concatenate([reader(step).reshape(5, 4) for step in range(12)])
    # six batches of 4 a pass, 24 of the 26 images; 60 batches are ten passes
    for number in range(10):
        once = shown[6 * number : 6 * number + 6].ravel()
        assert len(set(once)) == 24
    assert len(set(shown.ravel())) == 26


# the steps


@functools.cache
def after_two_rounds():
    """The state before and after, in NumPy."""
    made = task()
    before = jax.tree.map(np.asarray, made.init())
    return before, jax.tree.map(np.asarray, rounds(made, 2))


def test_the_critic_steps_so_often_before_each_step_of_the_generator():
    before, training = after_two_rounds()
    before = before.state
    assert next(task(critic_steps=3).batches()).shape == (3, 8, 8, 8, 1)
    assert int(training.state.critic.step) == 4
    assert int(training.state.generator.step) == 2
    assert not same(before.critic.params, training.state.critic.params)
    assert not same(before.generator.params, training.state.generator.params)
    # statistics of both are those that their own steps left
    assert not same(before.generator.batch_stats, training.state.generator.batch_stats)


def test_weights_of_the_critic_stay_in_the_box():
    before, training = after_two_rounds()

    def widest(state):
        return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(state.params))

    assert widest(before.state.critic) > 0.03
    assert 0.0099 < widest(training.state.critic) <= 0.01 * (1 + 1e-6)
    assert widest(training.state.generator) > 0.03


def critic_batch(made):
    rng = np.random.default_rng(0)
    fake = rng.uniform(-1, 1, (4, 8, 8, 1)).astype(np.float32)
    return {"real": digits().train[:4], "fake": fake, "key": jax.random.key(7)}


def test_the_penalty_is_that_of_finite_differences():
    made = task(constraint="penalty", penalty=3.0)
    state = made.init().state.critic
    assert not state.batch_stats  # a score depends on its own image alone
    batch = critic_batch(made)
    outputs = state.apply_fn({"params": state.params}, batch)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), state.params)
    share = jax.random.uniform(batch["key"], (4, 1, 1, 1), jnp.float32)
    between = np.asarray(share * batch["real"] + (1 - share) * batch["fake"])
    shifts = np.eye(64).reshape(64, 8, 8, 1) * 1e-5
    norms = []
    for image in between.astype(np.float64):
        images = np.concatenate([image + shifts, image - shifts])
        scores = np.asarray(made.round.critic.apply({"params": wide}, images, True))
        norms.append(np.linalg.norm((scores[:64] - scores[64:]) / 2e-5))
    wanted = np.mean((np.array(norms) - 1) ** 2)
    assert wanted > 0.01
    np.testing.assert_allclose(outputs["penalty"], wanted, rtol=1e-3)


def test_losses_are_means_of_scores():
    # the loss of the critic's step, from the scores that its network gives
    made = task(constraint="penalty", penalty=3.0)
    state = made.init().state
    real = digits().train[:8]
    inputs = {"real": real, "generator": variables_of(state.generator), "number": 0}
    key = jax.random.key(1)
    prepare_key, _ = jax.random.split(jax.random.fold_in(key, 0))
    noise_key, _ = jax.random.split(jax.random.fold_in(prepare_key, 0))
    noise = jax.random.normal(noise_key, (8, 3), jnp.float32)
    fake, _ = made.round.generator.apply(
        variables_of(state.generator), noise, True, mutable=["batch_stats"]
    )
    critic = {"params": jax.tree.map(jnp.array, state.critic.params)}
    scores = [
        np.asarray(made.round.critic.apply(critic, x, True), np.float64)
        for x in (real, fake)
    ]
    _, metrics = made.round.critic_step(state.critic, inputs, key)
    distance = scores[0].mean() - scores[1].mean()
    np.testing.assert_allclose(metrics["distance"], distance, rtol=1e-4, atol=1e-6)
    loss = -distance + 3.0 * float(metrics["penalty"])
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-4, atol=1e-6)


def test_a_generator_step_raises_its_scores():
    made = task(skip=True, **PLAIN)
    state = made.init().state
    inputs = {"critic": variables_of(state.critic), "number": 0}
    key = jax.random.key(2)
    start = jax.tree.map(jnp.array, state.generator)
    after, before = made.round.generator_step(state.generator, inputs, key)
    # at the same step, so with the same latent numbers
    moved = start.replace(params=after.params)
    _, later = made.round.generator_step(moved, inputs, key)
    assert later["loss"] < before["loss"]


def test_no_layer_of_the_generator_is_taken_for_one_of_the_critic():
    made = task(extra_layers=1, optimizer="kfac", critic_optimizer="kfac")
    found = {layer.path for layer in made.round.generator_layers}
    assert found == {"project", "extra_0"}  # of the generator's own, one use each
    assert {layer.path for layer in made.round.critic_layers} == {
        "down_0",
        "extra_0",
        "score",
    }


def test_bf16_computes_in_bf16_and_keeps_float32():
    made = task(precision="bf16", constraint="penalty", optimizer="adam")
    state = made.init().state
    inputs = {
        "real": digits().train[:8],
        "generator": variables_of(state.generator),
        "number": 0,
    }
    key = jax.random.key(0)
    jaxpr, (after, metrics) = jax.make_jaxpr(made.round.critic_step, return_shape=True)(
        state.critic, inputs, key
    )
    inputs = {"critic": variables_of(state.critic), "number": 0}
    other, (later, _) = jax.make_jaxpr(made.round.generator_step, return_shape=True)(
        state.generator, inputs, key
    )
    for text in (str(jaxpr), str(other)):
        made_by = [line for line in text.splitlines() if "conv_general" in line]
        assert made_by
        assert all(":bf16[" in line for line in made_by)
    for leaf in jax.tree.leaves((after.params, later.params, later.batch_stats)):
        assert leaf.dtype == jnp.float32
    assert {leaf.dtype for leaf in metrics.values()} == {jnp.dtype("float32")}
    assert '"precision": "bf16"' in made.config.to_json()
    assert "precision" not in task().config.to_json()


FAST = ("kfac", "svrg_sgd")  # others train above, and in the runs
OTHERS = [name for name in optax_ia.list_optimizers() if name not in FAST]


@pytest.mark.parametrize(
    "name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_every_optimizer_steps_both_networks(name):
    made = task(optimizer=name, critic_optimizer=name, batch_size=256)
    start = made.init()
    before = jax.tree.map(np.asarray, (start.state.generator, start.state.critic))
    # Lookahead and SVRG may stand still once; nothing does twice
    training = rounds(made, 2)
    for old, new in zip(
        before, (training.state.generator, training.state.critic), strict=True
    ):
        assert not same(old.params, new.params)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new.params))
    assert np.isfinite(float(training.totals["loss"]))


# updates that are not finite


def spoilt(made, network, which):
    """Makes updates of a network NaN, and sees all of them.

    Args:
      made: the task.
      network: "critic" or "generator".
      which: numbers of its updates, counted from 0.

    Returns:
      A list that grows: the loss of each update, and whether it changed anything.
    """
    step, seen = getattr(made.round, f"{network}_step"), []
    name = "real" if network == "critic" else "critic"

    def stepped(state, inputs, key):
        if len(seen) in which:
            bad = jax.tree.map(lambda leaf: np.nan * leaf, inputs[name])
            inputs = inputs | {name: bad}
        before = jax.tree.map(np.asarray, (state.params, state.batch_stats))
        state, metrics = step(state, inputs, key)
        moved = not same(before, (state.params, state.batch_stats))
        seen.append((float(metrics["loss"]), moved))
        return state, metrics

    setattr(made.round, f"{network}_step", stepped)
    return seen


def test_updates_of_either_network_that_are_not_finite_are_left_out():
    made, rows = task(skip=True, **PLAIN), []
    of_critic = spoilt(made, "critic", (1, 2, 3, 9))
    of_generator = spoilt(made, "generator", (1, 4, 5))
    training, _ = fit(made, on_epoch=rows.append, on_nan="skip")
    # an epoch is two rounds, of two steps of the critic and one of the generator
    moved = [changed for _, changed in of_critic]
    assert moved == [number not in (1, 2, 3, 9) for number in range(16)]
    moved = [changed for _, changed in of_generator]
    assert moved == [number not in (1, 4, 5) for number in range(8)]
    assert [row["critic_skipped"] for row in rows] == [3, 0, 1, 0]
    assert [row["skipped"] for row in rows] == [4, 0, 3, 0]
    for number, row in enumerate(rows):
        for name, seen, count in (
            ("train_loss", of_critic, 4),
            ("generator_loss", of_generator, 2),
        ):
            losses = [loss for loss, _ in seen[count * number :][:count]]
            taken = [loss for loss in losses if np.isfinite(loss)]
            expected = pytest.approx(np.mean(taken), rel=1e-5) if taken else None
            assert row[name] == expected
    assert int(training.state.critic.step) == 16


def test_a_run_that_skips_every_update_of_a_network_is_lost():
    made = task(skip=True, **PLAIN)
    spoilt(made, "critic", range(99))
    message = "at the latest 12 updates of the critic, up to step 6 in epoch 3"
    with pytest.raises(NotFiniteError, match=message):
        fit(made, on_epoch=lambda row: None, on_nan="skip")


def test_an_optimizer_that_takes_gradients_itself_does_not_skip():
    message = "--on-nan must be stop for an optimiser .* .it needs grad_fn., got skip"
    with pytest.raises(ExperimentError, match=message):
        task(skip=True, critic_optimizer="sam_sgd")
