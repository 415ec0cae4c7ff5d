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


def epoch_draws(num_examples: int, *, seed: int, epoch: int) -> np.ndarray:
    """As many examples as there are, each drawn from all: sampling with replacement.

    About 1/e of the examples are missing and others come several times.

    Args:
      num_examples: size of the training split.
      seed: the run's seed.
      epoch: counted from 0.

    Returns:
      int64 ``(num_examples,)``.
    """
    rng = np.random.default_rng([seed, epoch])
    return rng.integers(num_examples, size=num_examples)


def epoch_batches(
    split: Split,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    skip: int = 0,
    replacement: bool = False,
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
      replacement: draw every example from all of them, as :func:`epoch_draws` does.

    Yields:
      Images and labels.
    """
    draw = epoch_draws if replacement else epoch_order
    order = draw(len(split), seed=seed, epoch=epoch)
    for number in range(skip, len(split) // batch_size):
        chosen = order[number * batch_size : (number + 1) * batch_size]
        yield split.images[chosen], split.labels[chosen]
