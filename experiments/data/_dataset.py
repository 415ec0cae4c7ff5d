"""What a data set for image classification is, here: arrays and their meaning."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

Augment = Callable[[jax.Array, jax.typing.ArrayLike], jax.Array]


@dataclasses.dataclass(frozen=True)
class Split:
    """Images and labels of one part of a data set.

    Attributes:
      images: float32 ``(examples, height, width, channels)``, normalised.
      labels: int32 ``(examples,)``.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Three disjoint parts and how to augment the first of them.

    Attributes:
      name: the name it is loaded by.
      num_classes: number of labels.
      train: what parameters are fitted to.
      validation: what settings and stopping are chosen on.
      test: what is measured once, at the end.
      augment: a pure function ``(key, images) -> images`` for training batches.
    """

    name: str
    num_classes: int
    train: Split
    validation: Split
    test: Split
    augment: Augment
