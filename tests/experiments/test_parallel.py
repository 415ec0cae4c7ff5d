"""Image runs on meshes of eight devices, and the flags that choose them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import parallel
from experiments.__main__ import main
from experiments.data import load_dataset
from experiments.errors import ExperimentError
from experiments.loops._image_network import network
from experiments.loops._image_step import check_run
from experiments.loops.evaluation import evaluate
from experiments.parallel import Placement, place_over
from tests.experiments.meshes import assert_close, cutting
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
    average = sum("offset" in str(path) for path, _ in _cut_paths(eight.state))
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
@pytest.mark.parametrize(
    "name", ["sam_sgd", "svrg_sgd", "kfac", "shampoo", "sls", "swats"]
)
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


@pytest.mark.parametrize(
    ("fields", "devices", "message"),
    [
        ({"batch_size": 60}, 8, "--batch-size must be a multiple of 8 .8 devices"),
        ({"accumulate": 3, "batch_size": 6}, 4, "must be a multiple of 12"),
        ({"batch_stats": "replica", "replicas": 3}, 1, "multiple of 3 .--replicas 3"),
        (
            {"optimizer": "sam_sgd", "accumulate": 2},
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
