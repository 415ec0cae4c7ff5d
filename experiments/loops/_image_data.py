"""What an image run takes from its data, whether arrays or records.

Arrays lie whole on every host and are augmented on the device. Of records every host
reads its own share of a batch, augmented on the way.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.data import (
    Augment,
    Dataset,
    Records,
    Split,
    cropped,
    cut_out,
    epoch_batches,
    eval_batches,
    load_images,
    load_records,
    train_batches,
    with_cutout,
)
from experiments.parallel import Placement

Images = Dataset | Records


@dataclasses.dataclass(frozen=True)
class RecordsSplit:
    """One part of records.

    Attributes:
      data: all of them.
      name: "train", "validation" or "test".
    """

    data: Records
    name: Any

    def __len__(self) -> int:
        return len(getattr(self.data, self.name))


@functools.cache
def load_named(
    dataset: str, data_dir: str | None, crop: int | None, cutout: int
) -> Images:
    """A data set, cropped and cut; loaded once.

    Args:
      dataset: its name.
      data_dir: where it lies; None for what is embedded, or TFDS's own place.
      crop: side of crops; None takes those of the data set's own recipe.
      cutout: side of the square that is cut out of training images, 0 for none.

    Returns:
      Arrays, or records where they do not fit in memory or are cropped.

    Raises:
      ExperimentError: if it is not to be had.
    """
    place = None if data_dir is None else Path(data_dir)
    if crop is not None:
        data = cropped(load_records(dataset, place), crop)
    else:
        data = load_images(dataset, place)
    if isinstance(data, Records):
        return cut_out(data, cutout)
    return dataclasses.replace(data, augment=with_cutout(data.augment, cutout))


def split_of(data: Images, name: str) -> Split | RecordsSplit:
    """One part of the data: "train", "validation" or "test"."""
    return (
        RecordsSplit(data, name) if isinstance(data, Records) else getattr(data, name)
    )


def _unchanged(key: jax.Array, images: jax.typing.ArrayLike) -> Any:
    del key
    return images


def augment_of(data: Images) -> Augment:
    """What is left to be done to a batch on the device."""
    return _unchanged if isinstance(data, Records) else data.augment


def share_of(placement: Placement | None) -> tuple[int, int]:
    """This host's number and that of all hosts that read a batch together."""
    if placement is None:
        return 0, 1
    return jax.process_index(), placement.process_count


def one_epoch(
    data: Images,
    batch_size: int,
    *,
    seed: int,
    placement: Placement | None = None,
) -> Iterator[tuple[Any, Any]]:
    """All training batches of the first epoch; the same whenever asked for.

    Args:
      data: the data.
      batch_size: examples of a global batch.
      seed: of their order and, for records, of their augmentation.
      placement: the devices; None leaves the batches on the host.

    Yields:
      Images and labels.
    """
    if isinstance(data, Dataset):
        for batch in epoch_batches(data.train, batch_size, seed=seed, epoch=0):
            yield batch if placement is None else placement.whole(batch)
        return
    index, count = share_of(placement)
    batches = train_batches(
        data,
        batch_size,
        seed=seed,
        epochs=1,
        process_index=index,
        process_count=count,
    )
    with contextlib.closing(batches):
        for batch in batches:
            yield batch if placement is None else placement.share(batch)


def weighted_blocks(
    split: Split | RecordsSplit, size: int, placement: Placement | None = None
) -> Iterator[tuple[Any, Any, Any]]:
    """Every example of a part once, in blocks of one size, so that one program serves.

    Args:
      split: the part.
      size: examples of a block, cut to the part's if it has fewer.
      placement: the devices; None leaves the blocks on the host.

    Yields:
      Images, labels and weights; the last block is filled up with weight zero.
    """
    size = min(size, len(split))
    if placement is not None:  # at least as many that every device has as many
        size = -(-size // placement.devices) * placement.devices
    if isinstance(split, RecordsSplit):
        index, count = share_of(placement)
        blocks = eval_batches(
            split.data, split.name, size, process_index=index, process_count=count
        )
        with contextlib.closing(blocks):
            for block in blocks:
                yield block if placement is None else placement.share(block)
        return
    for begin in range(0, len(split), size):
        images = split.images[begin : begin + size]
        labels = split.labels[begin : begin + size]
        missing = size - len(images)
        weights = np.pad(np.ones(len(images), np.float32), (0, missing))
        images = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))
        block = images, np.pad(labels, (0, missing)), weights
        yield block if placement is None else placement.whole(block)
