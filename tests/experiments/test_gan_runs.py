"""Runs of the GAN: epochs, resuming, devices, hosts, the command and its report."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

import optax_ia
from experiments.__main__ import main
from experiments.checkpoints import Checkpoints
from experiments.errors import ExperimentError
from experiments.files import read_json_lines
from experiments.loops import gan
from experiments.loops._gan_evaluation import candidates
from experiments.loops._gan_networks import apply_network, variables_of
from experiments.loops.engine import Preempted, fit
from experiments.parallel import place_over
from experiments.run_folder import RunFolder
from experiments.tasks.gan import TrainConfig, resolve
from tests.experiments.hosts import alone, two
from tests.experiments.meshes import assert_close
from tests.experiments.tiny_gan import TINY, digits, rounds, same, task

RUN = {"optimizer": "gadam", "average_from": 0.25, "epoch_steps": 3}


@pytest.fixture(scope="module")
def through(tmp_path_factory):
    """A run of two epochs on one device: task, training, rows, folder of samples."""
    samples, rows = tmp_path_factory.mktemp("samples"), []
    made = task(samples, **RUN)
    training, _ = fit(made, on_epoch=rows.append)
    return made, training, rows, samples


def test_an_epoch_has_scores_a_grid_and_the_average(through, monkeypatch):
    made, training, rows, samples = through
    names = {path.name for path in samples.iterdir()}
    wanted = {"epoch_0001.png", "epoch_0002.png"}
    assert names == wanted | {f"average_{name}" for name in wanted}
    row = rows[-1]
    assert row["step"] == 6
    assert row["critic_step"] == 12
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
    # one process of several writes them
    monkeypatch.setattr(gan, "is_leader", lambda: False)
    means = dict.fromkeys(training.totals, 0.0)
    assert made.end_epoch(training, means, 3, 6)[1]["classes"] == row["classes"]
    assert {path.name for path in samples.iterdir()} == names


def test_a_run_that_stops_anywhere_ends_in_the_same_bits(tmp_path, through):
    _, expected, expected_rows, _ = through
    rows = []
    stops = iter([False, True])
    with (
        Checkpoints(tmp_path, every=1) as checkpoints,
        pytest.raises(Preempted) as preempted,
    ):
        fit(
            task(**RUN),
            on_epoch=rows.append,
            checkpoints=checkpoints,
            preempted=lambda *_: next(stops),
        )
    assert preempted.value.step == 2  # inside the first epoch
    with Checkpoints(tmp_path, every=100) as checkpoints:
        resumed, fitted = fit(
            task(**RUN), on_epoch=rows.append, checkpoints=checkpoints
        )
    assert fitted.first_step == 2
    assert rows == expected_rows
    assert same(expected.state, resumed.state)


# devices and hosts


def placed(shard):
    """Eight devices; everything of eight elements or more is cut if anything is."""
    return dataclasses.replace(place_over(8, shard), smallest=8)


def seen(state):
    return [
        (network.params, network.batch_stats, network.opt_state)
        for network in (state.generator, state.critic)
    ]


@pytest.mark.parametrize("shard", ["replicated", "full"])
def test_eight_devices_equal_one(through, shard):
    """After six rounds: Adam divides by small numbers, and a GAN feeds that back."""
    _, one, expected, _ = through
    placement, rows = placed(shard), []
    eight, _ = fit(task(placement=placement, **RUN), on_epoch=rows.append)
    assert_close(seen(eight.state), seen(one.state), 2e-6)
    # laid out after the epochs as before them
    for leaf in jax.tree.leaves(eight):
        assert leaf.sharding.is_equivalent_to(placement.sharding(leaf.shape), leaf.ndim)
    cut = [x for x in jax.tree.leaves(eight) if not x.sharding.is_fully_replicated]
    assert bool(cut) == (shard == "full")
    # 450 validation images, which eight does not divide, and the average's statistics
    for row, other in zip(rows, expected, strict=True):
        assert row.pop("optimizer") == other["optimizer"]
        wanted = {name: other[name] for name in row}
        assert row == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["sam_sgd", "svrg_sgd", "kfac", "shampoo", "sls", "swats", "gadam_auto", "skip"],
)
def test_other_optimizers_train_fully_sharded(name):
    changes = {"optimizer": name, "critic_optimizer": name, "constraint": "penalty"}
    if name == "skip":
        changes |= {"optimizer": "adam", "critic_optimizer": "rmsprop"}
    if name == "svrg_sgd":
        changes["batch_size"] = 256
    one = rounds(task(skip=name == "skip", **changes), 3)
    made = task(skip=name == "skip", placement=placed("full"), **changes)
    eight = rounds(made, 3)
    for found, expected in zip(seen(eight.state), seen(one.state), strict=True):
        assert_close(found[0], expected[0], 1e-5)
    eight, _ = made.end_epoch(eight, dict.fromkeys(eight.totals, 0.0), 1, 3)
    for leaf in jax.tree.leaves(eight):
        wanted = made.placement.sharding(leaf.shape)
        assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim)


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    arguments = [
        "--task=gan",
        "--optimizer=gadam",
        "--features=4",
        "--latent=3",
        "--batch-size=16",
        "--critic-steps=2",
        "--epochs=3",
        "--epoch-steps=4",
        "--average-from=0.3",
        "--average-every=1",
        "--shard=full",
        "--on-nan=skip",
    ]
    alone([*arguments, f"--out={tmp_path / 'one'}"])
    out = tmp_path / "two"
    first, second = two([*arguments, f"--out={out}"])
    assert (first[2], second[2]) == (0, 0), first[1] + second[1]
    assert "epoch 3/3" in first[0]
    assert "epoch" not in second[0]
    rows, expected = (
        read_json_lines(path / "metrics.jsonl") for path in (out, tmp_path / "one")
    )
    assert rows == expected
    assert rows[-1]["average_frechet_distance"] is not None
    for grid in (tmp_path / "one" / "samples").iterdir():
        assert (out / "samples" / grid.name).read_bytes() == grid.read_bytes()
    # both go on from the checkpoint of the end of the second epoch
    shutil.rmtree(out / "checkpoints" / "12")
    (out / "results.csv").unlink()
    for _, error, code in two([*arguments, f"--out={out}", "--resume"]):
        assert code == 0, error
    assert read_json_lines(out / "metrics.jsonl") == expected
    (result,) = RunFolder.open(out).results()
    assert 0 < result["resumed_from_step"] < 12


# the command


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
        "--devices=1",
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
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2  # scores, and the last grid
    assert "Samples after epoch 2" in page
    assert (
        f"| {result['frechet_distance']:.4g} |" in (tmp_path / "table.md").read_text()
    )
    with Image.open(tmp_path / "scores.png") as picture:
        assert picture.format == "PNG"
    before = (tmp_path / "results.csv").read_bytes()
    assert main([*arguments, "--resume"]) == 0  # nothing is left to do
    assert (tmp_path / "results.csv").read_bytes() == before
    (tmp_path / "results.csv").unlink()  # as while it runs
    assert main(["report", str(tmp_path)]) == 0
    assert "Partial" in (tmp_path / "report.html").read_text()


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
    message = "--batch-size must be a multiple of 8 .8 devices; .*, got 12"
    with pytest.raises(ExperimentError, match=message):
        gan.check_run(dataclasses.replace(TINY, batch_size=12), place_over(8))
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
