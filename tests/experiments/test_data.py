"""The embedded data set: split, normalisation, order, augmentation."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from experiments import data
from experiments.errors import ExperimentError


@pytest.fixture(scope="module")
def digits():
    return data.load_dataset("digits")


def test_parts_are_the_whole_and_stratified(digits):
    parts = (digits.train, digits.validation, digits.test)
    assert [len(part) for part in parts] == [897, 450, 450]
    raw, labels = load_digits(return_X_y=True)
    # Normalisation is one affine map: undone, the parts are the scans again.
    pixels = np.concatenate([part.images for part in parts]).reshape(-1, 64)
    low, high = pixels.min(), pixels.max()
    recovered = np.rint((pixels - low) / (high - low) * 16)
    found = np.concatenate([part.labels for part in parts])

    def rows(pixels, labels):
        return sorted(map(tuple, np.column_stack([pixels, labels]).astype(int)))

    assert rows(recovered, found) == rows(raw, labels)
    for part in parts:
        assert part.images.shape == (len(part), 8, 8, 1)
        assert part.images.dtype == np.float32
        assert part.labels.dtype == np.int32
        share = np.bincount(part.labels, minlength=10) / len(part)
        np.testing.assert_allclose(share, np.bincount(labels) / 1797, atol=0.002)


def test_normalised_by_the_training_part_alone(digits):
    np.testing.assert_allclose(digits.train.images.mean(dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(digits.train.images.std(dtype=np.float64), 1, atol=1e-6)
    assert abs(digits.test.images.mean(dtype=np.float64)) > 1e-6


def test_order_is_a_function_of_seed_and_epoch():
    first = data.epoch_order(50, seed=3, epoch=4)
    np.testing.assert_array_equal(first, data.epoch_order(50, seed=3, epoch=4))
    np.testing.assert_array_equal(np.sort(first), np.arange(50))
    for other in ({"seed": 4, "epoch": 3}, {"seed": 3, "epoch": 5}):
        assert (first != data.epoch_order(50, **other)).any()


def test_skipped_batches_are_the_first_ones(digits):
    arguments = {"batch_size": 128, "seed": 1, "epoch": 2}
    whole = list(data.epoch_batches(digits.train, **arguments))
    rest = list(data.epoch_batches(digits.train, **arguments, skip=3))
    assert len(whole) == 897 // 128
    assert len(rest) == len(whole) - 3
    for (images, labels), (again, labels_again) in zip(whole[3:], rest, strict=True):
        assert images.shape == (128, 8, 8, 1)
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, labels_again)


def test_random_shift_is_pure_and_shifts_by_at_most_the_padding(digits):
    images = digits.train.images[:32]
    shifted = data.random_shift(jax.random.key(0), images)
    assert shifted.shape == images.shape
    assert shifted.dtype == images.dtype
    np.testing.assert_array_equal(shifted, data.random_shift(jax.random.key(0), images))
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    places = set()
    for number, image in enumerate(np.asarray(shifted)):
        matches = [
            (top, left)
            for top in range(3)
            for left in range(3)
            if (padded[number, top : top + 8, left : left + 8] == image).all()
        ]
        assert matches
        places.add(matches[0])
    assert len(places) > 4  # each image has a shift of its own


def test_unknown_data_set_names_the_choices():
    with pytest.raises(ExperimentError, match="unknown dataset 'cifar'.*: digits, "):
        data.load_dataset("cifar")


def test_cutout_hides_one_square_and_nothing_else():
    images = np.ones((200, 8, 10, 2), np.float32)
    cut = np.asarray(data.cutout(jax.random.key(0), images, size=4))
    assert cut.dtype == images.dtype
    hidden = cut[..., 0] == 0
    np.testing.assert_array_equal(hidden, cut[..., 1] == 0)
    sizes = set()
    for mask in hidden:
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        # a whole rectangle: what is hidden is the product of its rows and columns
        assert mask.sum() == len(rows) * len(columns)
        assert np.ptp(rows) == len(rows) - 1
        assert np.ptp(columns) == len(columns) - 1
        sizes.add((len(rows), len(columns)))
    # whole inside, cut off at the border, and never larger or gone
    assert {height for height, _ in sizes} == {2, 3, 4}
    assert {width for _, width in sizes} == {2, 3, 4}
    # every pixel's turn comes
    assert hidden.any(0).all()
    assert not hidden.all(0).any()


def test_cutout_comes_after_the_augmentation_and_is_one_object():
    assert data.with_cutout(data.random_shift, 0) is data.random_shift
    both = data.with_cutout(data.random_shift, 3)
    assert both is data.with_cutout(data.random_shift, 3)
    images = np.ones((5, 8, 8, 1), np.float32)
    key = jax.random.key(1)
    found = np.asarray(both(key, images))
    np.testing.assert_array_equal(found, both(key, images))
    assert (found == 0).sum(axis=(1, 2, 3)).max() <= 9
    assert (found == 0).any(axis=(1, 2, 3)).all()
