"""Checkpoints: what they keep, and what damage, kills and full disks do to them."""

import errno
import os
import shutil
import time
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments._checksums import checksums_of
from experiments.checkpoints import Checkpoints
from experiments.data._pipeline import Batches
from experiments.errors import ExperimentError
from experiments.parallel import place_over

RESUME = "those before it are unharmed: go on with --resume"


class Training(flax.struct.PyTreeNode):
    weights: jax.Array
    carry: dict
    key: jax.Array


def training(seed, size=1000):
    key = jax.random.key(seed)
    # random, since what compresses well would leave the disk half empty
    weights = jax.random.bits(key, (size,)) >> 9
    carry = {"on": jnp.asarray(seed % 2 == 0), "half": jnp.ones(3, jnp.bfloat16)}
    return Training(weights.astype(jnp.float32), carry, key)


def numbers():
    return Batches(lambda step: step, 100, threads=0, prefetch=0)


def at(step):
    batches = numbers()
    batches.set_state({"step": step})
    return batches


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    np.testing.assert_array_equal(found.weights, expected.weights)
    assert found.carry["half"].dtype == jnp.bfloat16
    assert found.carry["on"] == expected.carry["on"]
    assert (jax.random.key_data(found.key) == jax.random.key_data(expected.key)).all()


def written(folder, steps=(5, 10)):
    with Checkpoints(folder, every=5) as checkpoints:
        for step in steps:
            checkpoints.save(step, training(step), at(step))
    return folder


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def data_file(folder):
    """The file with the numbers: the largest."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def test_everything_comes_back_with_its_place_in_the_data(tmp_path):
    written(tmp_path)
    batches = numbers()
    with Checkpoints(tmp_path, every=5) as checkpoints:
        found, step = checkpoints.restore(training(0), batches)
    assert step == 10
    assert_same(found, training(10))
    assert next(batches) == 10


def test_without_a_checkpoint_the_start_is_given_back(tmp_path):
    start = training(0)
    with Checkpoints(tmp_path, every=5) as checkpoints:
        assert checkpoints.restore(start, numbers()) == (start, 0)
        assert "no checkpoint yet" in checkpoints.advice()


@pytest.mark.parametrize(
    ("mode", "scores", "best"),
    [
        ("max", [0.1, 0.9, 0.9, None, 0.5, 0.6], 20),
        ("min", [3.0, 2.0, 1.5, None, 1.7, 1.6], 30),
    ],
)
def test_the_newest_and_the_best_are_kept_also_when_resumed(
    tmp_path, mode, scores, best
):
    for first in (0, 4):  # the last two after a resumption
        with Checkpoints(tmp_path, every=50) as checkpoints:
            checkpoints.restore(training(0), numbers())
            for number in range(first, first + 4 - first // 2):
                step = 10 * (number + 1)
                state = training(step), at(step)
                checkpoints.end_epoch(step, *state, scores[number], mode)
                if step in (40, 60):
                    checkpoints.save_last(step, *state)
    assert checkpoints.best == best
    # 50 is a multiple, 60 the last
    assert steps_in(tmp_path) == sorted({best, 50, 60})
    expected = [(10 * (n + 1), s) for n, s in enumerate(scores) if s is not None]
    assert checkpoints.scores == expected


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, os.remove])
@pytest.mark.parametrize("part", ["training", "record/meta*"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path, capfd, damage, part
):
    written(tmp_path)
    newest = tmp_path / "10"
    if part == "training":
        damage(data_file(newest))
    else:
        (file,) = newest.glob(part)
        damage(file)
    batches = numbers()
    with Checkpoints(tmp_path, every=5) as checkpoints:
        found, step = checkpoints.restore(training(0), batches)
        assert step == 5
        assert_same(found, training(5))
        assert next(batches) == 5
        # the same step can be saved again
        checkpoints.save(10, training(10), at(10))
    with Checkpoints(tmp_path, every=5) as checkpoints:
        assert checkpoints.restore(training(0), numbers())[1] == 10
    error = capfd.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith(f"warning: the checkpoint of step 10 in {tmp_path} cannot")
    assert error.endswith("going on from step 5\n")


def test_a_position_that_is_another_one_is_noticed(tmp_path, capfd):
    written(tmp_path)
    file = tmp_path / "10" / "record" / "metadata"
    before = file.read_text()
    file.write_text(before.replace('"step": 10', '"step": 11'))
    assert file.read_text() != before
    with Checkpoints(tmp_path, every=5) as checkpoints:
        assert checkpoints.restore(training(0), numbers())[1] == 5
    assert "its record is damaged" in capfd.readouterr().err


@pytest.mark.parametrize("state", [{"step": np.int64(3)}, {"order": (1, 2)}, {3: "x"}])
def test_a_position_that_json_would_change_is_refused_at_the_start(tmp_path, state):
    class Other(Batches):
        def get_state(self):
            return state

    batches = Other(lambda step: step, 100)
    message = r"the state of Other must be what JSON can hold, .*, got \{"
    with Checkpoints(tmp_path, every=5) as checkpoints:
        with pytest.raises(ExperimentError, match=message):
            checkpoints.restore(training(0), batches)
        with pytest.raises(ExperimentError, match=message):
            checkpoints.save(5, training(5), batches)
    assert steps_in(tmp_path) == []


def test_if_none_can_be_read_nothing_is_removed(tmp_path):
    written(tmp_path)
    for step in ("5", "10"):
        truncate(data_file(tmp_path / step))
    with (
        pytest.raises(
            ExperimentError, match=r"none of the checkpoints in .*\(step 10: "
        ),
        Checkpoints(tmp_path, every=5) as checkpoints,
    ):
        checkpoints.restore(training(0), numbers())
    assert steps_in(tmp_path) == [5, 10]


def test_looking_changes_nothing(tmp_path, capfd):
    written(tmp_path)
    flip_a_bit(data_file(tmp_path / "10"))
    (tmp_path / "15.orbax-checkpoint-tmp").mkdir()
    with Checkpoints(tmp_path, every=5, read_only=True) as checkpoints:
        assert checkpoints.restore(training(0), None)[1] == 5
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"5", "10", "15.orbax-checkpoint-tmp"}
    assert "is damaged" in capfd.readouterr().err


@pytest.mark.parametrize("age", [0, 25 * 3600])
def test_what_a_kill_left_half_written_is_harmless_and_removed(tmp_path, age):
    written(tmp_path)
    torn = tmp_path / "15.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "10", torn)
    truncate(data_file(torn))
    for path in (torn, *torn.rglob("*")):
        os.utime(path, (time.time() - age,) * 2)
    with Checkpoints(tmp_path, every=5) as checkpoints:
        assert checkpoints.restore(training(0), numbers())[1] == 10
        checkpoints.save(15, training(15), at(15))
    assert steps_in(tmp_path) == [10, 15]


def fill(folder, steps, size):
    with Checkpoints(folder, every=5) as checkpoints:
        for step in steps:
            checkpoints.save(step, training(step, size), at(step))


def test_a_full_disk_is_one_line_and_harms_nothing(small_disk, capfd):
    size = 220_000  # two of them fit, not three
    with pytest.raises(ExperimentError) as caught:
        fill(small_disk, (5, 10, 15, 20), size)
    message = str(caught.value)
    assert "could not be written (no space left on device)" in message
    assert RESUME in message
    assert "\n" not in message
    assert capfd.readouterr().err == ""
    with Checkpoints(small_disk, every=5) as checkpoints:
        found, step = checkpoints.restore(training(0, size), numbers())
    assert step == 10
    assert_same(found, training(10, size))
    assert steps_in(small_disk) == [5, 10]


PLACES = [(1, "replicated"), (4, "replicated"), (4, "full"), (8, "full")]


@pytest.mark.parametrize("saved", range(len(PLACES)))
def test_other_devices_and_shardings_find_the_same(tmp_path, saved):
    """As one device, four or eight wrote it, whole on each or cut over them."""

    def placed(number, seed):
        placement = place_over(*PLACES[number])
        whole = training(seed, 1024)  # the smallest that is cut
        return whole if placement is None else placement.place(whole)

    with Checkpoints(tmp_path, every=5) as checkpoints:
        checkpoints.save(5, placed(saved, 5), at(5))
    for other in range(len(PLACES)):
        start, batches = placed(other, 0), numbers()
        assert start.weights.sharding.is_fully_replicated == (
            PLACES[other][1] == "replicated"
        )
        with Checkpoints(tmp_path, every=5, read_only=True) as checkpoints:
            found, step = checkpoints.restore(start, batches)
        assert (step, next(batches)) == (5, 5)
        assert_same(found, training(5, 1024))
        for leaf, expected in zip(
            jax.tree.leaves(found), jax.tree.leaves(start), strict=True
        ):
            assert leaf.sharding == expected.sharding


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_went_away_is_not_made_again(tmp_path, again):
    folder = written(tmp_path / "run")
    with Checkpoints(folder, every=5) as checkpoints:
        folder.rename(tmp_path / "elsewhere")
        if again:
            folder.mkdir()
        with pytest.raises(ExperimentError, match="run was removed or moved during"):
            checkpoints.save(15, training(15), at(15))
    assert folder.exists() == again
    assert not again or not list(folder.iterdir())
    assert steps_in(tmp_path / "elsewhere") == [5, 10]


def test_a_failing_disk_is_one_line(tmp_path, monkeypatch):
    written(tmp_path)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Checkpoints(tmp_path, every=5) as checkpoints:
        monkeypatch.setattr(ocp.CheckpointManager, "save", full)
        with pytest.raises(ExperimentError, match=r"no space left on device.*--resume"):
            checkpoints.save(15, training(15), at(15))
    assert steps_in(tmp_path) == [5, 10]


def test_a_folder_that_is_a_file(tmp_path):
    Path(tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match="could not be opened"):
        Checkpoints(tmp_path / "file", every=5)


def test_checksums_by_hand_and_of_every_kind():
    words = np.array([3, 2**31, 7], np.uint32)
    expected = (1 * 3 + 3 * 2**31 + 5 * 7) % 2**32
    tree = [words, words.view(np.float32), words.reshape(3, 1)]
    assert checksums_of(tree).tolist() == [expected] * 3
    # bytes are words too, bools are 0 and 1
    tree = [np.array([1, 255], np.uint8), np.array([True, False, True]), jnp.zeros(0)]
    assert checksums_of(tree).tolist() == [1 + 3 * 255, 1 + 5, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.int8, jnp.bfloat16, np.complex64])
def test_every_single_bit_counts(dtype):
    array = np.arange(1, 7).astype(dtype).reshape(2, 3)
    before = checksums_of([array])
    checksum = jax.jit(checksums_of)
    for bit in range(8 * array.nbytes):
        changed = array.copy()
        changed.view(np.uint8).reshape(-1)[bit // 8] ^= 1 << bit % 8
        assert checksum([changed]) != before


def test_keys_and_wide_numbers_have_checksums():
    a, b = jax.random.key(0), jax.random.key(1)
    assert checksums_of([a]) != checksums_of([b])
    with jax.enable_x64(True):
        wide = jnp.asarray([1.0, 2.0 + 2**-50])
        assert checksums_of([wide]) != checksums_of([wide.at[1].set(2.0)])
