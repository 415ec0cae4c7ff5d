"""Augmentation in NumPy, one image at a time, for readers and their worker processes.

Each step takes a uint8 image ``(height, width, channels)`` and a generator, from which
it takes all that is random; only :class:`Normalise` and what follows it see float32.
Steps are values: equal arguments make equal steps, and processes can be sent them.
"""

import dataclasses
import functools
import math

import numpy as np
import PIL.Image

from experiments.data._dataset import Transform


@dataclasses.dataclass(frozen=True)
class Chain:
    """Steps, one after another.

    Attributes:
      steps: what is applied, the first first.
    """

    steps: tuple[Transform, ...]

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        for step in self.steps:
            image = step(image, generator)
        return image


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """A square cut out at a random place; what reaches beyond the border is black.

    Attributes:
      size: its side.
      padding: how far it may reach beyond the image, on every side.
    """

    size: int
    padding: int = 0

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        height, width, channels = image.shape
        _check_inside(image, self.size, self.padding)
        top, left = (
            int(generator.integers(length + 2 * self.padding - self.size + 1))
            - self.padding
            for length in (height, width)
        )
        # no padded copy is made: what is seen of the image is copied into black
        rows = slice(max(top, 0), min(top + self.size, height))
        columns = slice(max(left, 0), min(left + self.size, width))
        seen = image[rows, columns]
        if seen.shape[:2] == (self.size, self.size):
            return seen
        found = np.zeros((self.size, self.size, channels), image.dtype)
        place = rows.start - top, columns.start - left
        found[
            place[0] : place[0] + seen.shape[0], place[1] : place[1] + seen.shape[1]
        ] = seen
        return found


@dataclasses.dataclass(frozen=True)
class CentreCrop:
    """The square in the middle; half a pixel is rounded to even, as by torchvision.

    Attributes:
      size: its side.
    """

    size: int

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        del generator
        _check_inside(image, self.size, 0)
        top, left = (round((length - self.size) / 2) for length in image.shape[:2])
        return image[top : top + self.size, left : left + self.size]


@dataclasses.dataclass(frozen=True)
class HorizontalFlip:
    """Left and right change places in every other image."""

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return image[:, ::-1] if generator.random() < 0.5 else image


@dataclasses.dataclass(frozen=True)
class VerticalFlip:
    """Top and bottom change places in every other image."""

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return image[::-1] if generator.random() < 0.5 else image


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """A rectangle of random size, shape and place, resized to a square.

    Its area is uniform between two shares of the image's, the logarithm of its width
    over its height is uniform. What does not fit into the image is drawn again; after
    ten draws it is the largest rectangle in the middle whose ratio is allowed.

    Attributes:
      size: side of the square.
      scale: least and largest share of the area.
      ratio: least and largest width over height.

    References:
      Szegedy et al., `Going Deeper with Convolutions
      <https://arxiv.org/abs/1409.4842>`_, 2015, section 6, as torchvision draws it.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def box(
        self, height: int, width: int, generator: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """Draws the rectangle: top, left, height and width."""
        low, high = map(math.log, self.ratio)
        for _ in range(10):
            area = height * width * generator.uniform(*self.scale)
            ratio = math.exp(generator.uniform(low, high))
            rows, columns = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
            if 0 < rows <= height and 0 < columns <= width:
                top = int(generator.integers(height - rows + 1))
                left = int(generator.integers(width - columns + 1))
                return top, left, rows, columns
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        rows, columns = (
            min(height, round(width / ratio)),
            min(width, round(height * ratio)),
        )
        return (height - rows) // 2, (width - columns) // 2, rows, columns

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        top, left, rows, columns = self.box(height, width, generator)
        return resized(
            image[top : top + rows, left : left + columns], (self.size, self.size)
        )


@dataclasses.dataclass(frozen=True)
class ResizeShorter:
    """Resizes so that the shorter side has a given length; the shape stays.

    Attributes:
      size: length of the shorter side.
    """

    size: int

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        del generator
        height, width = image.shape[:2]
        short = min(height, width)
        return resized(image, (height * self.size // short, width * self.size // short))


@dataclasses.dataclass(frozen=True)
class Normalise:
    """From 0..255 to float32 of mean 0 and deviation 1, channel by channel.

    Attributes:
      mean: of pixel values between 0 and 1.
      deviation: likewise.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @functools.cached_property
    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        """The same as one product and one difference, which take half the time."""
        scale = 1 / (255 * np.asarray(self.deviation))
        shift = np.asarray(self.mean) / np.asarray(self.deviation)
        return scale.astype(np.float32), shift.astype(np.float32)

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        del generator
        scale, shift = self._affine
        found = image.astype(np.float32, order="C")
        found *= scale
        found -= shift
        return found


@dataclasses.dataclass(frozen=True)
class Cutout:
    """A square of a normalised image becomes zero, which is the mean.

    Its centre is anywhere in the image, so that it may reach beyond the border and
    hide less.

    Attributes:
      size: side of the square.

    References:
      DeVries and Taylor, `Improved Regularization of Convolutional Neural Networks with
      Cutout <https://arxiv.org/abs/1708.04552>`_, 2017; P4, table 8.
    """

    size: int

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        top, left = (
            int(generator.integers(length)) - self.size // 2
            for length in image.shape[:2]
        )
        found = image.copy()
        found[
            max(top, 0) : max(top + self.size, 0),
            max(left, 0) : max(left + self.size, 0),
        ] = 0
        return found


def resized(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A uint8 image at another size, by Pillow's bilinear filter.

    Where the image gets smaller, the filter covers all pixels that fall together.

    Args:
      image: ``(height, width, channels)`` with 1, 3 or 4 channels.
      shape: the new height and width.

    Returns:
      The image, uint8.
    """
    if image.shape[:2] == shape:
        return image
    height, width = shape
    single = image.shape[2] == 1
    picture = PIL.Image.fromarray(image[..., 0] if single else image)
    found = np.asarray(
        picture.resize((width, height), PIL.Image.Resampling.BILINEAR), np.uint8
    )
    return found[..., None] if single else found


def _check_inside(image: np.ndarray, size: int, padding: int) -> None:
    shortest = min(image.shape[:2]) + 2 * padding
    if size > shortest:
        height, width = image.shape[:2]
        raise ValueError(
            f"a crop of {size} does not fit into an image of {height}x{width}"
        )
