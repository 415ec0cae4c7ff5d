"""An iterator of batches by number, by Grain: read ahead by threads or processes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import grain
import jax
import numpy as np
from absl import flags

from experiments.errors import ExperimentError

Put = Callable[[Any], Any]

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
            workers = self._worker_count
            # every worker ends with nothing, since Grain keeps hold of its last element
            steps = grain.MapDataset.range(self._step, self._count + workers)
            reader = _Ending(self._reader, self._count) if workers else self._reader
            dataset = steps.map(reader).to_iter_dataset(self._options)
            if workers:
                if not flags.FLAGS.is_parsed():  # Grain reads its own, and no others
                    flags.FLAGS.mark_as_parsed()
                options = grain.MultiprocessingOptions(workers, _PER_WORKER)
                dataset = dataset.mp_prefetch(options).map(_unless_ended(_copied))
            if self._put is not None:
                put = _unless_ended(self._put)
                dataset = grain.experimental.ThreadPrefetchIterDataset(
                    dataset.map(put), prefetch_buffer_size=_ON_DEVICE
                )
            self._iterator = iter(dataset)
        return self._iterator

    def _stop(self) -> None:
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None


class _End:
    """What is read after the last batch."""


@dataclasses.dataclass(frozen=True)
class _Ending:
    """A reader that gives no batch from a number on."""

    reader: Callable[[int], Any]
    count: int

    def __call__(self, step: int) -> Any:
        return self.reader(step) if step < self.count else _End()


def _unless_ended(change: Put) -> Put:
    return lambda batch: batch if isinstance(batch, _End) else change(batch)


def _copied(batch: Any) -> Any:
    """A batch outside the memory that is shared with a worker.

    JAX may use an array's memory as it is, and what is shared and still in use when the
    program ends is complained about at length.
    """
    return jax.tree.map(np.array, batch)


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
