"""Batches of a whole run, by Grain: in order, augmented, ahead of the training step.

The batch of a step is a function of (seed, step) alone. The order of an epoch is
:func:`~experiments.data._order.epoch_order`, what an example is augmented with follows
from (seed, epoch, example), and several hosts cut each global batch into equal parts.
So neither threads, nor worker processes, nor the number of hosts change what is seen,
and the state of an iterator is the number of batches that were taken from it.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import grain
import numpy as np
from absl import flags

from experiments.data._dataset import Dataset, Records, Source, Split, Transform
from experiments.data._kept import read
from experiments.data._order import epoch_draws, epoch_order
from experiments.errors import ExperimentError

Batch = tuple[np.ndarray, ...]
Put = Callable[[Any], Any]
SplitName = Literal["train", "validation", "test"]

_THREADS = 4
_PER_WORKER = 1
_ON_DEVICE = 2


class Batches(grain.DatasetIterator):
    """Batches by number; the state is the number of the next one.

    It can be saved as it is by ``grain.checkpoint.CheckpointSave``, and restored with
    other numbers of threads, workers or hosts.

    Args:
      reader: from the number of a batch to the batch, in NumPy; pickled for workers.
      count: of batches.
      threads: that read ahead, in every process; 0 reads when asked.
      prefetch: how many batches to have ready, shared by the processes that read.
      worker_count: processes to read in; 0 reads in this one.
      put: moves a batch to the device, ahead of its use, in a thread of this process.
    """

    def __init__(
        self,
        reader: Callable[[int], Any],
        count: int,
        *,
        threads: int = _THREADS,
        prefetch: int = 8,
        worker_count: int = 0,
        put: Put | None = None,
    ):
        super().__init__()
        self._reader = reader
        self._count = count
        # batches of large images fill memory: each worker reads few of them ahead
        ahead = -(-prefetch // max(worker_count, 1))
        self._options = grain.ReadOptions(
            num_threads=min(threads, ahead), prefetch_buffer_size=ahead
        )
        self._worker_count = worker_count
        self._put = put
        self._step = 0
        self._iterator: grain.DatasetIterator | None = None

    def __len__(self) -> int:
        return self._count

    def __next__(self) -> Any:
        self._assert_not_closed()
        if self._step >= self._count:
            raise StopIteration
        batch = next(self._started())
        self._step += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """The number of batches taken so far."""
        return {"step": self._step}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to where another iterator of the same batches was."""
        step = int(state["step"])
        if not 0 <= step <= self._count:
            raise ExperimentError(
                f"the saved position must be between 0 and {self._count}, the batches "
                f"of the run, got {step}"
            )
        self._stop()
        self._step = step

    def start_prefetch(self) -> None:
        """Begins to read ahead before the first batch is asked for."""
        if self._step < self._count:
            self._started().start_prefetch()

    def close(self) -> None:
        """Ends threads and workers."""
        if not self._closed:
            self._stop()
        super().close()

    def __str__(self) -> str:
        return f"Batches({self._step} of {self._count})"

    def _started(self) -> grain.DatasetIterator:
        if self._iterator is None:
            steps = grain.MapDataset.range(self._step, self._count)
            dataset = steps.map(self._reader).to_iter_dataset(self._options)
            if self._worker_count:
                if not flags.FLAGS.is_parsed():  # Grain reads its own, and no others
                    flags.FLAGS.mark_as_parsed()
                options = grain.MultiprocessingOptions(self._worker_count, _PER_WORKER)
                dataset = dataset.mp_prefetch(options)
            if self._put is not None:
                dataset = grain.experimental.ThreadPrefetchIterDataset(
                    dataset.map(self._put), prefetch_buffer_size=_ON_DEVICE
                )
            self._iterator = iter(dataset)
        return self._iterator

    def _stop(self) -> None:
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None


def train_batches(
    data: Dataset | Records,
    batch_size: int,
    *,
    seed: int,
    epochs: int,
    process_index: int = 0,
    process_count: int = 1,
    worker_count: int = 0,
    prefetch: int = 8,
    put: Put | None = None,
    replacement: bool = False,
) -> Batches:
    """The training batches of all epochs, one after another.

    The examples left over at the end of an epoch are dropped; since the order differs
    between epochs, they are others each time.

    Args:
      data: arrays, which are augmented on the device later, or records, which come out
        augmented.
      batch_size: examples of a global batch, that of all hosts.
      seed: the run's seed.
      epochs: how many.
      process_index: this host's number.
      process_count: number of hosts, which share each batch evenly.
      worker_count: processes that read records; 0 reads in threads of this one.
      prefetch: batches of records to have ready, shared by the processes that read.
      put: moves a batch to the device, ahead of its use, in a thread; where hosts share
        a batch, by ``jax.make_array_from_process_local_data``.
      replacement: draw every example from all of them, as
        :func:`~experiments.data._order.epoch_draws` does.

    Returns:
      An iterator of images, float32 ``(share, height, width, channels)``, and labels,
      int32 ``(share,)`` or float32 ``(share, num_classes)``.

    Raises:
      ExperimentError: if a number is out of bounds.
    """
    check_share(batch_size, process_index, process_count)
    size = len(data.train)
    if batch_size > size:
        raise ExperimentError(
            f"--batch-size must be at most {size} (the training images of "
            f"{data.name}), got {batch_size}"
        )
    order = _Order(size, batch_size, seed, process_index, process_count, replacement)
    if isinstance(data, Dataset):
        reader = _ArrayReader(order, data.train)
    else:
        reader = _RecordReader(order, data.train, data.train_transform, data)
    return _batches(
        reader, epochs * (size // batch_size), data, worker_count, prefetch, put
    )


def eval_batches(
    data: Dataset | Records,
    split: SplitName,
    batch_size: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    worker_count: int = 0,
    prefetch: int = 8,
    put: Put | None = None,
) -> Batches:
    """Every example of a part once, in the order of the source.

    All batches have the same shape: the last one is filled up with zeros that weigh
    nothing.

    Args:
      data: arrays or records.
      split: which part.
      batch_size: examples of a global batch, that of all hosts.
      process_index: this host's number.
      process_count: number of hosts, which share each batch evenly.
      worker_count: processes that read records; 0 reads in threads of this one.
      prefetch: batches of records to have ready, shared by the processes that read.
      put: moves a batch to the device, ahead of its use, in a thread; where hosts share
        a batch, by ``jax.make_array_from_process_local_data``.

    Returns:
      An iterator of images, labels, and weights, float32 ``(share,)``: 1 for an
      example, 0 for filling.

    Raises:
      ExperimentError: if a number is out of bounds.
    """
    check_share(batch_size, process_index, process_count)
    source = getattr(data, split)
    order = _InOrder(len(source), batch_size, process_index, process_count)
    if isinstance(data, Dataset):
        reader = _ArrayReader(order, source)
    else:
        reader = _RecordReader(order, source, data.eval_transform, data)
    reader = _Padded(reader, batch_size // process_count)
    return _batches(
        reader, -(-len(source) // batch_size), data, worker_count, prefetch, put
    )


def check_share(batch_size: int, process_index: int, process_count: int) -> None:
    """Checks that a global batch can be cut into equal parts.

    Args:
      batch_size: examples of a global batch.
      process_index: this host's number.
      process_count: number of hosts.

    Raises:
      ExperimentError: naming the argument, its bound and the value received.
    """
    if batch_size < 1:
        raise ExperimentError(f"--batch-size must be at least 1, got {batch_size}")
    if process_count < 1 or not 0 <= process_index < process_count:
        raise ExperimentError(
            f"process_index must be at least 0 and below process_count = "
            f"{process_count}, got {process_index}"
        )
    if batch_size % process_count:
        raise ExperimentError(
            f"--batch-size must be a multiple of {process_count}, the number of hosts, "
            f"got {batch_size}"
        )


def _batches(
    reader: Callable[[int], Any],
    count: int,
    data: Dataset | Records,
    worker_count: int,
    prefetch: int,
    put: Put | None,
) -> Batches:
    if worker_count < 0:
        raise ExperimentError(f"--worker-count must be 0 or more, got {worker_count}")
    if prefetch < 1:
        raise ExperimentError(f"--prefetch must be at least 1, got {prefetch}")
    if isinstance(data, Dataset):  # what lies in memory is taken, not read ahead
        return Batches(reader, count, threads=0, prefetch=0, put=put)
    return Batches(reader, count, prefetch=prefetch, worker_count=worker_count, put=put)


@functools.lru_cache(maxsize=4)  # threads may be in two epochs at once
def _drawn(size: int, seed: int, epoch: int, replacement: bool) -> np.ndarray:
    draw = epoch_draws if replacement else epoch_order
    return draw(size, seed=seed, epoch=epoch)


class _Order:
    """Which examples this host reads for a training step, and with which generators."""

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        process_index: int,
        process_count: int,
        replacement: bool,
    ):
        self._size, self._batch_size, self._seed = size, batch_size, seed
        self._share = batch_size // process_count
        self._first = process_index * self._share
        self._replacement = replacement

    def examples(self, step: int) -> np.ndarray:
        epoch, number = divmod(step, self._size // self._batch_size)
        order = _drawn(self._size, self._seed, epoch, self._replacement)
        first = number * self._batch_size + self._first
        return order[first : first + self._share]

    def generator(self, step: int, example: int) -> np.random.Generator:
        epoch = step // (self._size // self._batch_size)
        # as many independent streams as there are counters; no state to be mixed
        bits = np.random.Philox(key=[self._seed, epoch], counter=[0, 0, 0, example])
        return np.random.Generator(bits)


class _InOrder:
    """Which examples this host reads for a step of an evaluation, which draws none."""

    def __init__(
        self, size: int, batch_size: int, process_index: int, process_count: int
    ):
        self._size, self._batch_size = size, batch_size
        self._share = batch_size // process_count
        self._first = process_index * self._share
        self._generator = np.random.default_rng(0)

    def examples(self, step: int) -> np.ndarray:
        first = step * self._batch_size + self._first
        return np.arange(first, min(first + self._share, self._size))

    def generator(self, step: int, example: int) -> np.random.Generator:
        del step, example
        return self._generator


class _ArrayReader:
    """Batches out of arrays."""

    def __init__(self, order: _Order | _InOrder, split: Split):
        self._order, self._split = order, split

    def __call__(self, step: int) -> Batch:
        chosen = self._order.examples(step)
        return self._split.images[chosen], self._split.labels[chosen]


class _RecordReader:
    """Batches of records, each transformed by itself."""

    def __init__(
        self,
        order: _Order | _InOrder,
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


class _Padded:
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
