"""Batches of a whole run: in order, augmented, ahead of the training step.

The batch of a step is a function of (seed, step) alone. The order of an epoch is
:func:`~experiments.data._order.epoch_order`, what an example is augmented with follows
from (seed, epoch, example), and several hosts cut each global batch into equal parts.
So neither threads, nor worker processes, nor the number of hosts change what is seen,
and the state of an iterator is the number of batches that were taken from it.
"""

from collections.abc import Callable
from typing import Any, Literal

from experiments.data._batches import Batches as Batches
from experiments.data._batches import Put
from experiments.data._batches import check_share as check_share
from experiments.data._dataset import Dataset, Records
from experiments.data._readers import (
    ArrayReader,
    HostOrder,
    HostSequence,
    PaddedReader,
    RecordReader,
)
from experiments.errors import ExperimentError

SplitName = Literal["train", "validation", "test"]


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
    order = HostOrder(size, batch_size, seed, process_index, process_count, replacement)
    if isinstance(data, Dataset):
        reader = ArrayReader(order, data.train)
    else:
        reader = RecordReader(order, data.train, data.train_transform, data)
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
    order = HostSequence(len(source), batch_size, process_index, process_count)
    if isinstance(data, Dataset):
        reader = ArrayReader(order, source)
    else:
        reader = RecordReader(order, source, data.eval_transform, data)
    reader = PaddedReader(reader, batch_size // process_count)
    return _batches(
        reader, -(-len(source) // batch_size), data, worker_count, prefetch, put
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
