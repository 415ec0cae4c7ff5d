"""Images as a GAN is trained on them."""

import dataclasses

import numpy as np

from experiments.configs.p4.gan import GanRun
from experiments.data import Dataset, epoch_order


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """A data set's images as a generator makes them: square, from -1 to 1.

    Attributes:
      name: of the data set.
      size: side, a power of two.
      channels: of an image.
      train: float32 ``(examples, size, size, channels)``.
      validation: what scores compare with.
      labels: int32 ``(examples,)``, of the training images.
      validation_labels: of the others.
    """

    name: str
    size: int
    channels: int
    train: np.ndarray
    validation: np.ndarray
    labels: np.ndarray
    validation_labels: np.ndarray


def images_of(data: Dataset, size: int) -> Images:
    """Scales images to between -1 and 1, channel by channel, and fills them up.

    Args:
      data: normalised images; the least and greatest value are of the training part.
      size: side to be filled up to, evenly on both sides, with -1.

    Returns:
      The images.
    """
    low = data.train.images.min((0, 1, 2))
    high = data.train.images.max((0, 1, 2))

    def scaled(images: np.ndarray) -> np.ndarray:
        images = np.clip((images - low) / (high - low), 0, 1) * 2 - 1
        before = [(size - side) // 2 for side in images.shape[1:3]]
        after = [
            size - side - first
            for side, first in zip(images.shape[1:3], before, strict=True)
        ]
        widths = ((0, 0), *zip(before, after, strict=True), (0, 0))
        return np.pad(images, widths, constant_values=-1).astype(np.float32)

    return Images(
        data.name,
        size,
        data.train.images.shape[-1],
        scaled(data.train.images),
        scaled(data.validation.images),
        data.train.labels,
        data.validation.labels,
    )


class RoundReader:
    """From the number of a round to the images of its critic's steps.

    Args:
      images: of the training part.
      config: the run.
    """

    def __init__(self, images: np.ndarray, config: GanRun):
        self._images, self._config = images, config

    def __call__(self, step: int) -> np.ndarray:
        config, size = self._config, len(self._images)
        batch, in_epoch = config.batch_size, size // config.batch_size
        parts = []
        for number in range(config.critic_steps):
            epoch, place = divmod(step * config.critic_steps + number, in_epoch)
            order = epoch_order(size, seed=config.seed, epoch=epoch)
            parts.append(self._images[order[place * batch : (place + 1) * batch]])
        return np.stack(parts)
