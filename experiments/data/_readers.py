"""Which examples a host reads for a batch, and the reading of them.

Readers are functions of the number of a batch, and values that worker processes can be
sent.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from experiments.data._dataset import Records, Source, Split, Transform
from experiments.data._kept import read
from experiments.data._order import epoch_draws, epoch_order
from experiments.errors import ExperimentError

Batch = tuple[np.ndarray, ...]

_UNUSED = np.random.default_rng(0)


@functools.lru_cache(maxsize=4)  # threads may be in two epochs at once
def _drawn(size: int, seed: int, epoch: int, replacement: bool) -> np.ndarray:
    draw = epoch_draws if replacement else epoch_order
    return draw(size, seed=seed, epoch=epoch)


@dataclasses.dataclass(frozen=True)
class HostOrder:
    """Which examples a host reads for a training step, and with which generators.

    Attributes:
      size: of the training split.
      batch_size: examples of a global batch.
      seed: the run's seed.
      process_index: this host's number.
      process_count: number of hosts.
      replacement: whether examples are drawn from all of them.
    """

    size: int
    batch_size: int
    seed: int
    process_index: int
    process_count: int
    replacement: bool

    def examples(self, step: int) -> np.ndarray:
        """This host's part of the global batch of a step."""
        epoch, number = divmod(step, self.size // self.batch_size)
        order = _drawn(self.size, self.seed, epoch, self.replacement)
        share = self.batch_size // self.process_count
        first = number * self.batch_size + self.process_index * share
        return order[first : first + share]

    def generator(self, step: int, example: int) -> np.random.Generator:
        """What an example is augmented with in the epoch of a step."""
        epoch = step // (self.size // self.batch_size)
        # as many independent streams as there are counters; no state to be mixed
        bits = np.random.Philox(key=[self.seed, epoch], counter=[0, 0, 0, example])
        return np.random.Generator(bits)


@dataclasses.dataclass(frozen=True)
class HostSequence:
    """Which examples a host reads for a step of an evaluation, which draws none.

    Attributes:
      size: of the split.
      batch_size: examples of a global batch.
      process_index: this host's number.
      process_count: number of hosts.
    """

    size: int
    batch_size: int
    process_index: int
    process_count: int

    def examples(self, step: int) -> np.ndarray:
        """This host's part of the global batch of a step, which may be empty."""
        share = self.batch_size // self.process_count
        first = step * self.batch_size + self.process_index * share
        return np.arange(first, min(first + share, self.size))

    def generator(self, step: int, example: int) -> np.random.Generator:
        """One for all, which nothing is taken from."""
        del step, example
        return _UNUSED


class ArrayReader:
    """Batches out of arrays."""

    def __init__(self, order: HostOrder | HostSequence, split: Split):
        self._order, self._split = order, split

    def __call__(self, step: int) -> Batch:
        chosen = self._order.examples(step)
        return self._split.images[chosen], self._split.labels[chosen]


class RecordReader:
    """Batches of records, each transformed by itself."""

    def __init__(
        self,
        order: HostOrder | HostSequence,
        source: Source,
        transform: Transform,
        data: Records,
    ):
        self._order, self._source, self._transform = order, source, transform
        self._name, self._image_shape = data.name, data.image_shape
        self._label_shape = (data.num_classes,) if data.multilabel else ()
        self._label_dtype = np.float32 if data.multilabel else np.int32

    def __call__(self, step: int) -> Batch:
        chosen = self._order.examples(step).tolist()
        images = np.empty((len(chosen), *self._image_shape), np.float32)
        labels = np.empty((len(chosen), *self._label_shape), self._label_dtype)
        records = read(self._source, chosen)
        for row, (index, record) in enumerate(zip(chosen, records, strict=True)):
            generator = self._order.generator(step, index)
            try:
                image = self._transform(record["image"], generator)
            except ValueError as error:  # a crop that does not fit
                raise ExperimentError(
                    f"{self._name}: record {index}: {error}"
                ) from error
            if image.shape != self._image_shape:
                raise ExperimentError(
                    f"{self._name}: record {index} gives an image of "
                    f"{_times(image.shape)} after cropping, expected "
                    f"{_times(self._image_shape)}"
                )
            images[row], labels[row] = image, record["label"]
        return images, labels


class PaddedReader:
    """Batches of one size, with weights."""

    def __init__(self, reader: Callable[[int], Batch], size: int):
        self._reader, self._size = reader, size

    def __call__(self, step: int) -> Batch:
        images, labels = self._reader(step)
        missing = self._size - len(labels)
        weights = np.ones(len(labels), np.float32)

        def pad(array: np.ndarray) -> np.ndarray:
            return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))

        return pad(images), pad(labels), pad(weights)


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
