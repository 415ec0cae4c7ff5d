"""Batches of a run: their order, their shares, what is in them."""

import pickle

import numpy as np
import pytest

from experiments import data
from experiments.data._kept import Kept
from experiments.errors import ExperimentError
from tests.experiments.numbered import (
    BATCH,
    SIZE,
    AtOnce,
    Numbered,
    Tags,
    assert_same,
    batches,
    records,
)


def test_order_is_epoch_order_and_leftovers_are_dropped():
    found = [labels for _, labels in batches()]
    assert len(found) == len(batches()) == 3 * (SIZE // BATCH)
    for epoch in range(3):
        order = data.epoch_order(SIZE, seed=3, epoch=epoch)
        mine = np.concatenate(found[3 * epoch : 3 * epoch + 3])
        np.testing.assert_array_equal(mine, order[:18])
        assert mine.dtype == np.int32


def test_drawn_with_replacement():
    found = [labels for _, labels in batches(replacement=True)]
    draws = data.epoch_draws(SIZE, seed=3, epoch=1)
    np.testing.assert_array_equal(np.concatenate(found[3:6]), draws[:18])


def test_augmentation_follows_from_seed_epoch_and_example():
    draws = {}
    for step, (images, labels) in enumerate(batches(epochs=8)):
        for image, label in zip(images, labels, strict=True):
            assert (image == image[0, 0, 0]).all()
            draws[step // 3, int(label)] = image[0, 0, 0] - label
    assert all(0 <= draw < 1 for draw in draws.values())
    assert len(set(draws.values())) == len(draws) == 8 * 18
    # another batch size takes the same examples at other steps
    for step, (images, labels) in enumerate(
        data.train_batches(records(), 4, seed=3, epochs=2)
    ):
        for image, label in zip(images, labels, strict=True):
            key = (step // 5, int(label))
            if key in draws:
                assert draws[key] == image[0, 0, 0] - label
    other = next(batches(seed=4))
    assert not set(other[0][:, 0, 0, 0] % 1) & set(draws.values())


@pytest.mark.parametrize("count", [2, 3])
def test_hosts_see_together_what_one_sees(count):
    alone = batches()
    shares = [batches(process_index=i, process_count=count) for i in range(count)]
    together = [
        tuple(np.concatenate(parts) for parts in zip(*hosts, strict=True))
        for hosts in zip(*shares, strict=True)
    ]
    assert_same(alone, together)


def test_read_at_once_or_one_by_one():
    assert_same(batches(), batches(records(AtOnce)))
    whole = data.eval_batches(records(AtOnce), "test", 8, process_count=2)
    assert_same(data.eval_batches(records(), "test", 8, process_count=2), whole)


def test_arrays_come_as_they_did():
    digits = data.load_dataset("digits")
    found = data.train_batches(digits, 128, seed=1, epochs=2)
    expected = [
        batch
        for epoch in range(2)
        for batch in data.epoch_batches(digits.train, 128, seed=1, epoch=epoch)
    ]
    assert_same(expected, found)
    assert digits.image_shape == (8, 8, 1)
    assert not digits.multilabel


def test_kept_records_are_read_once():
    class Counted(AtOnce):
        reads = 0

        def __getitems__(self, indices):
            self.reads += len(indices)
            return super().__getitems__(indices)

    source = Counted()
    kept = Kept(source)
    assert_same(batches(epochs=9), batches(records(train=kept), epochs=9))
    assert source.reads <= SIZE + 4 * BATCH  # threads may ask for the same at once
    before = source.reads
    assert kept[3]["label"] == 3
    with pytest.raises(ValueError, match="read-only"):
        kept[3]["image"][0] = 1
    assert source.reads == before
    again = pickle.loads(pickle.dumps(Kept(Numbered())))
    assert len(again) == SIZE
    assert again[5]["label"] == 5
    small = pickle.dumps(Kept(Numbered()))
    full = Kept(Numbered())
    list(map(full.__getitem__, range(SIZE)))
    assert pickle.dumps(full) == small


def test_several_labels_are_vectors():
    made = records(Tags, multilabel=True, num_classes=3)
    images, labels = next(batches(made))
    assert labels.dtype == np.float32
    numbers = np.floor(images[:, 0, 0, 0]).astype(int)
    np.testing.assert_array_equal(labels @ np.array([1, 2, 4]), numbers % 8)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("count", [1, 2])
def test_evaluation_sees_every_example_once(split, count):
    parts = [
        list(
            data.eval_batches(
                records(), split, 4, process_index=index, process_count=count
            )
        )
        for index in range(count)
    ]
    size = len(getattr(records(), split))
    assert {len(part) for part in parts} == {-(-size // 4)}
    seen = []
    for part in parts:
        for images, labels, weights in part:
            assert images.shape == (4 // count, 2, 3, 1)
            assert (images.dtype, labels.dtype) == (np.float32, np.int32)
            assert weights.dtype == np.float32
            assert set(weights) <= {0, 1}
            assert (images[weights == 0] == 0).all()
            np.testing.assert_array_equal(images[:, 1, 2, 0], labels)
            seen.extend(labels[weights == 1])
    assert sorted(seen) == list(range(size))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 24}, "at most 23 .the training images of numbered., got 24"),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"process_count": 4}, "must be a multiple of 4, the number of hosts, got 6"),
        ({"process_index": 1}, "below process_count = 1, got 1"),
        ({"worker_count": -1}, "--worker-count must be 0 or more, got -1"),
        ({"prefetch": 0}, "--prefetch must be at least 1, got 0"),
    ],
)
def test_numbers_out_of_bounds(options, message):
    options = {"batch_size": BATCH, "seed": 0, "epochs": 1} | options
    with pytest.raises(ExperimentError, match=message):
        data.train_batches(records(), **options)


def test_image_of_another_size_names_the_record():
    made = records(image_shape=(2, 2, 1))
    first = data.epoch_order(SIZE, seed=3, epoch=0)[0]
    message = f"numbered: record {first} gives .* 2x3x1 after .* 2x2x1"
    with pytest.raises(ExperimentError, match=message):
        next(batches(made))
