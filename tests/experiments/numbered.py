"""Records that tell which they are, and batches of them.

Worker processes import this, and nothing else of the tests.
"""

import dataclasses

import numpy as np

from experiments import data

SIZE, BATCH = 23, 6


class Numbered:
    """Images of one number each, which is their label, too."""

    def __init__(self, size=SIZE):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return {"image": np.full((2, 3, 1), index, np.uint8), "label": index}


class AtOnce(Numbered):
    """The same, of which several are read together."""

    def __getitem__(self, index):
        raise AssertionError("one at a time")

    def __getitems__(self, indices):
        return [Numbered.__getitem__(self, index) for index in indices]


class Tags(Numbered):
    """The same with several labels that may hold at once."""

    def __getitem__(self, index):
        bits = np.array([index & 1, index & 2, index & 4], bool).astype(np.float32)
        return super().__getitem__(index) | {"label": bits}


def jitter(image, generator):
    """The image's number and a draw beside it."""
    return (image + generator.random()).astype(np.float32)


def plain(image, generator):
    del generator
    return image.astype(np.float32)


def records(source=Numbered, **changes):
    made = data.Records(
        name="numbered",
        num_classes=SIZE,
        image_shape=(2, 3, 1),
        mean=(0.0,),
        deviation=(1.0,),
        train=source(),
        validation=source(5),
        test=source(12),
        train_transform=jitter,
        eval_transform=plain,
    )
    return dataclasses.replace(made, **changes)


def batches(made=None, **options):
    options = {"seed": 3, "epochs": 3} | options
    return data.train_batches(made or records(), BATCH, **options)


def assert_same(one, other):
    one, other = list(one), list(other)
    assert len(one) == len(other) > 0
    for batch, again in zip(one, other, strict=True):
        assert len(batch) == len(again)
        for array, array_again in zip(batch, again, strict=True):
            assert array.dtype == array_again.dtype
            np.testing.assert_array_equal(array, array_again)
