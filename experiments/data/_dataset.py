"""What a data set for image classification is, here: arrays, or records to be read.

What fits in memory is a :class:`Dataset`: normalised arrays, augmented on the device.
What does not is :class:`Records`: examples that are read and decoded when their turn
comes, and augmented in NumPy on the way.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

Augment = Callable[[jax.Array, jax.typing.ArrayLike], jax.Array]

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""From a uint8 image ``(height, width, channels)`` and a generator to the network's
input; what draws nothing leaves the generator alone."""


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

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(height, width, channels)`` of the network's input."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @property
    def multilabel(self) -> bool:
        """Whether several labels may hold at once."""
        return False


class Source(Protocol):
    """Examples by number, read when asked for.

    Worker processes receive copies by pickling, and threads share one. An example is a
    mapping with ``"image"``, uint8 ``(height, width, channels)``, and ``"label"``: an
    int, or a float32 vector ``(num_classes,)`` of zeros and ones where several labels
    may hold at once. A source may also have ``__getitems__``, which is given a list of
    numbers and is then used to read a whole batch.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class Records:
    """Three disjoint parts that are read as they are needed.

    Attributes:
      name: the name it is loaded by.
      num_classes: number of labels.
      image_shape: ``(height, width, channels)`` of the network's input, which both
        transforms return.
      mean: per channel, of pixel values between 0 and 1.
      deviation: likewise.
      train: what parameters are fitted to.
      validation: what settings and stopping are chosen on.
      test: what is measured once, at the end.
      train_transform: augments and normalises a training image; the generator is a
        function of seed, epoch and example.
      eval_transform: crops and normalises an image to be measured on.
      multilabel: whether several labels may hold at once.
    """

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    train: Source
    validation: Source
    test: Source
    train_transform: Transform
    eval_transform: Transform
    multilabel: bool = False
