"""The GAN: its losses and constraints, who steps when, its pictures, resuming."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import optax_ia
from experiments.__main__ import main
from experiments.checkpoints import Checkpoints
from experiments.configs.p4.gan import GanRun
from experiments.errors import ExperimentError
from experiments.loops import _gan_scores as gan_scores
from experiments.loops import gan
from experiments.loops._gan_evaluation import candidates
from experiments.loops._gan_images import RoundReader, images_of
from experiments.loops._gan_networks import apply_network, variables_of
from experiments.loops.engine import Preempted, fit
from experiments.run_folder import RunFolder
from experiments.tasks.gan import TrainConfig, resolve

TINY = GanRun(
    features=2,
    extra_layers=0,
    latent=3,
    epochs=2,
    epoch_steps=2,
    batch_size=8,
    critic_steps=2,
    average_every=1,
    learning_rate=1e-3,
    critic_learning_rate=1e-3,
)


@functools.cache
def digits():
    return gan.load(TINY)


def task(samples=None, **changes):
    return gan.GanTask(dataclasses.replace(TINY, **changes), digits(), samples)


def rounds(made, number):
    """The training after a number of rounds."""
    training, batches = made.init(), made.batches()
    for step in range(number):
        training = made.step(training, next(batches), step)
    return training


def same(one, other):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


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


def test_the_critic_steps_so_often_before_each_step_of_the_generator():
    made = task(critic_steps=3)
    training = made.init()
    before = jax.tree.map(np.asarray, training.state)
    assert next(made.batches()).shape == (3, 8, 8, 8, 1)
    training = rounds(made, 2)
    assert int(training.state.critic.step) == 6
    assert int(training.state.generator.step) == 2
    assert not same(before.critic.params, training.state.critic.params)
    assert not same(before.generator.params, training.state.generator.params)
    # statistics of both are those that their own steps left
    assert not same(before.generator.batch_stats, training.state.generator.batch_stats)


def test_weights_of_the_critic_stay_in_the_box():
    training = rounds(task(clip=0.05, critic_learning_rate=0.1), 2)
    leaves = jax.tree.leaves(training.state.critic.params)
    widest = max(float(jnp.abs(leaf).max()) for leaf in leaves)
    assert 0.049 < widest <= 0.05 * (1 + 1e-6)
    free = jax.tree.leaves(training.state.generator.params)
    assert max(float(jnp.abs(leaf).max()) for leaf in free) > 0.05


def critic_batch(made):
    rng = np.random.default_rng(0)
    fake = rng.uniform(-1, 1, (4, 8, 8, 1)).astype(np.float32)
    return {"real": digits().train[:4], "fake": fake, "key": jax.random.key(7)}


def test_the_penalty_is_that_of_finite_differences():
    made = task(constraint="penalty")
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
    made = task(optimizer="sgd", learning_rate=0.05)
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


FAST = ("rmsprop", "kfac", "svrg", "gadam")
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


# scores and pictures


def test_frechet_distance_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(200, 3)), rng.normal(size=(300, 3)) * 2 + 1
    assert abs(gan_scores.frechet_distance(one, one)) < 1e-12
    shifted = gan_scores.frechet_distance(one, one + [3.0, 0.0, 4.0])
    np.testing.assert_allclose(shifted, 25.0)
    np.testing.assert_allclose(  # (1 - 2)^2 of each of three variances
        gan_scores.frechet_distance(one, 2 * one - one.mean(0)),
        np.var(one, 0, ddof=1).sum(),
    )
    scipy_linalg = pytest.importorskip("scipy.linalg")
    covariances = np.cov(one.T), np.cov(other.T)
    root = scipy_linalg.sqrtm(covariances[0] @ covariances[1]).real
    wanted = np.sum((one.mean(0) - other.mean(0)) ** 2)
    wanted += np.trace(covariances[0] + covariances[1] - 2 * root)
    np.testing.assert_allclose(gan_scores.frechet_distance(one, other), wanted)


def test_the_classifier_is_fixed_and_knows_digits():
    features = gan_scores.features_of(digits())
    assert features.accuracy > 0.9
    held_out = digits().validation
    hidden = features.of(held_out)
    assert hidden.shape == (450, 64)
    assert (hidden >= 0).all()
    network = features.network  # its own answer, from the features alone
    logits = hidden @ network.coefs_[1] + network.intercepts_[1]
    np.testing.assert_array_equal(logits.argmax(1), features.classes(held_out))
    again = gan_scores.features_of.__wrapped__(digits())
    np.testing.assert_array_equal(again.of(held_out), hidden)


def test_a_grid_is_a_picture_of_the_samples(tmp_path):
    images = np.full((120, 8, 8, 1), -1, np.float32)
    images[0], images[11, 2, 3] = 1, 0
    path = tmp_path / "samples" / "epoch_0001.png"
    gan_scores.write_grid(images, path)
    assert list(path.parent.iterdir()) == [path]
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (540, 540)  # ten of 8 + 1, six times as large
    pixels = pixels[::6, ::6]
    assert (pixels[:8, :8] == 255).all()
    assert pixels[9 + 2, 9 + 3] == 128  # the second of the second row
    assert (pixels > 0).sum() == 65
    gan_scores.write_grid(np.ones((100, 32, 32, 3)), path)
    with Image.open(path) as picture:
        assert picture.mode == "RGB"


def test_an_epoch_has_scores_a_grid_and_the_average(tmp_path):
    rows = []
    made = task(tmp_path, optimizer="gadam", average_from=0.0)
    training, _ = fit(made, on_epoch=rows.append)
    names = {path.name for path in tmp_path.iterdir()}
    wanted = {"epoch_0001.png", "epoch_0002.png"}
    assert names == wanted | {f"average_{name}" for name in wanted}
    row = rows[-1]
    assert row["step"] == 4
    assert row["critic_step"] == 8
    assert row["num_averaged"] > 0
    state = training.state
    found = candidates(state.generator, made.round.generator, latent=3, batch_size=8)
    assert not same(found[""]["batch_stats"], found["average_"]["batch_stats"])
    assert same(
        found["average_"]["params"],
        optax_ia.averaged_params(state.generator.opt_state, state.generator.params),
    )
    # the same latent numbers every time; scores as worked out from the samples
    scores, drawn = made.evaluate(state)
    again, drawn_again = made.evaluate(state)
    assert scores == again
    assert scores["frechet_distance"] == row["frechet_distance"]
    np.testing.assert_array_equal(drawn["average_"], drawn_again["average_"])
    assert not np.array_equal(drawn[""], drawn["average_"])
    critic = variables_of(state.critic)
    means = [
        np.asarray(apply_network(made.round.critic, critic, images), np.float64).mean()
        for images in (digits().validation, drawn["average_"])
    ]
    np.testing.assert_allclose(
        scores["average_wasserstein_estimate"], means[0] - means[1]
    )


# runs


def test_a_run_that_stops_anywhere_ends_in_the_same_bits(tmp_path):
    changes = {"optimizer": "gadam", "average_from": 0.25, "epoch_steps": 3}
    through_rows, rows = [], []
    through, _ = fit(task(**changes), on_epoch=through_rows.append)
    stops = iter([False, True])
    with (
        Checkpoints(tmp_path, every=1) as checkpoints,
        pytest.raises(Preempted) as preempted,
    ):
        fit(
            task(**changes),
            on_epoch=rows.append,
            checkpoints=checkpoints,
            preempted=lambda *_: next(stops),
        )
    assert preempted.value.step == 2  # inside the first epoch
    with Checkpoints(tmp_path, every=100) as checkpoints:
        resumed, fitted = fit(
            task(**changes), on_epoch=rows.append, checkpoints=checkpoints
        )
    assert fitted.first_step == 2
    assert rows == through_rows
    assert same(through.state, resumed.state)


def test_the_command_trains_and_resumes(tmp_path, capsys):
    arguments = [
        "train",
        "--task=gan",
        "--optimizer=adam",
        "--critic-optimizer=rmsprop",
        "--critic-learning-rate=0.002",
        "--features=2",
        "--extra-layers=0",
        "--latent=3",
        "--batch-size=8",
        "--critic-steps=2",
        "--epochs=2",
        "--epoch-steps=2",
        f"--out={tmp_path}",
    ]
    assert main(arguments) == 0
    assert "not the FID" in capsys.readouterr().out
    (result,) = RunFolder.open(tmp_path).results()
    assert result["optimizer"] == "adam"
    assert result["critic_optimizer"] == "rmsprop"
    assert result["learning_rate"] == 3e-4  # the paper's
    assert result["critic_learning_rate"] == 0.002
    assert (result["steps"], result["critic_steps"]) == (4, 8)
    assert result["data_frechet_distance"] < result["frechet_distance"]
    assert len(list((tmp_path / "samples").glob("epoch_*.png"))) == 2
    assert json.loads(result["config"])["latent"] == 3
    before = (tmp_path / "results.csv").read_bytes()
    assert main([*arguments, "--resume"]) == 0  # nothing is left to do
    assert (tmp_path / "results.csv").read_bytes() == before


def test_arguments_are_checked():
    for changes, message in (
        ({"batch_size": 1}, "--batch-size must be at least 2, got 1"),
        ({"batch_size": 898}, "--batch-size must be at most 897"),
        ({"critic_steps": 0}, "--critic-steps must be at least 1, got 0"),
        ({"clip": 0.0}, "--clip must be above 0 and finite, got 0.0"),
        ({"penalty": -1.0}, "--penalty must be above 0 and finite, got -1.0"),
        ({"average_from": 2.0}, "--average-from must be between 0 and 1, got 2.0"),
    ):
        with pytest.raises(ExperimentError, match=message):
            gan.load(dataclasses.replace(TINY, **changes))
    for changes, message in (
        ({"seed": -1}, "--seeds must be 0 or more, got -1"),
        ({"optimizer": "sdg"}, "unknown optimizer 'sdg'"),
        ({"critic_optimizer": "sdg"}, "unknown optimizer 'sdg'"),
        ({"critic_learning_rate": 0.0}, "--critic-learning-rate must be above 0"),
        ({"checkpoint_every": 0}, "--checkpoint-every must be at least 1, got 0"),
    ):
        with pytest.raises(ExperimentError, match=message):
            resolve(TrainConfig(**changes))
    run = resolve(TrainConfig(optimizer="adamp"))
    assert run.critic_optimizer == "adamp"
    assert run.learning_rate == run.critic_learning_rate == 1e-3  # the registry's
