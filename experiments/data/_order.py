"""The order of the training data: a pure function of seed and epoch.

A resumed run needs no iterator state: the batches of any epoch can be made again.
"""

from collections.abc import Iterator

import numpy as np

from experiments.data._dataset import Split


def epoch_order(num_examples: int, *, seed: int, epoch: int) -> np.ndarray:
    """A permutation of the examples.

    Args:
      num_examples: size of the training split.
      seed: the run's seed.
      epoch: counted from 0.

    Returns:
      int64 ``(num_examples,)``.
    """
    return np.random.default_rng([seed, epoch]).permutation(num_examples)


def epoch_batches(
    split: Split, batch_size: int, *, seed: int, epoch: int, skip: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of one epoch, each of exactly ``batch_size`` examples.

    The examples left over at the end are dropped; since the order differs between
    epochs, they are others each time.

    Args:
      split: the training split.
      batch_size: examples a batch.
      seed: the run's seed.
      epoch: counted from 0.
      skip: number of batches to leave out at the beginning (when resuming).

    Yields:
      Images and labels.
    """
    order = epoch_order(len(split), seed=seed, epoch=epoch)
    for number in range(skip, len(split) // batch_size):
        chosen = order[number * batch_size : (number + 1) * batch_size]
        yield split.images[chosen], split.labels[chosen]
