"""Which data set is augmented and normalised how: one table.

Channel means and deviations are the published ones where there are any:

- CIFAR-10, CIFAR-100 and SVHN: DeVries and Taylor's code for `Cutout
  <https://arxiv.org/abs/1708.04552>`_ and Zagoruyko and Komodakis' for `Wide Residual
  Networks <https://arxiv.org/abs/1605.07146>`_;
- ImageNet, and the sets made of it: torchvision's pretrained networks;
- MHIST: the code of P4's authors.

Those of any other set are computed from its training images.
"""

import dataclasses
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from experiments.data._dataset import Records, Source, Transform
from experiments.data._kept import Kept
from experiments.data._transforms import (
    CentreCrop,
    Chain,
    Cutout,
    HorizontalFlip,
    Normalise,
    RandomCrop,
    RandomResizedCrop,
    ResizeShorter,
    VerticalFlip,
)
from experiments.errors import ExperimentError

Channels = tuple[float, ...]
Statistics = tuple[Channels, Channels]

_STATISTICS_EXAMPLES = 2048
_STATISTICS_THREADS = 4

KEPT_BYTES = 2**28
"""A data set whose images take no more, as CIFAR's do, is decoded once."""


def _of_255(mean: Sequence[float], deviation: Sequence[float]) -> Statistics:
    return tuple(m / 255 for m in mean), tuple(d / 255 for d in deviation)


_CIFAR10 = _of_255((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))
_CIFAR100 = _of_255((129.3, 124.1, 112.4), (68.2, 65.4, 70.4))
_SVHN = _of_255((109.9, 109.7, 113.8), (50.1, 50.6, 50.8))
_MHIST = _of_255((188.14, 165.39, 192.69), (50.30, 62.13, 43.42))
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What happens to the images of a data set before they are normalised.

    Attributes:
      train: augmentation.
      evaluate: the same for every image that is measured on.
      statistics: published mean and deviation per channel; None computes them.
    """

    train: tuple[Transform, ...]
    evaluate: tuple[Transform, ...] = ()
    statistics: Statistics | None = None


_FLIP = HorizontalFlip()
_RESIZED = (RandomResizedCrop(224), _FLIP)
_CENTRE = (ResizeShorter(256), CentreCrop(224))

RECIPES: dict[str, Recipe] = {
    "cifar10": Recipe((RandomCrop(32, padding=4), _FLIP), (), _CIFAR10),
    "cifar100": Recipe((RandomCrop(32, padding=4), _FLIP), (), _CIFAR100),
    # a mirrored digit is not one
    "svhn_cropped": Recipe((RandomCrop(32, padding=4),), (), _SVHN),
    "imagenet_resized/32x32": Recipe((RandomCrop(32, padding=4), _FLIP), (), _IMAGENET),
    "downsampled_imagenet/32x32": Recipe(
        (RandomCrop(32, padding=4), _FLIP), (), _IMAGENET
    ),
    "tiny_imagenet": Recipe((RandomCrop(64, padding=4), _FLIP), (), _IMAGENET),
    "imagenette": Recipe(_RESIZED, _CENTRE, _IMAGENET),
    "imagenet2012": Recipe(_RESIZED, _CENTRE, _IMAGENET),
    "mhist": Recipe((RandomCrop(224, padding=4), _FLIP), (), _MHIST),
    # P4, B: flips alone; tissue has no upper side
    "adp": Recipe((_FLIP, VerticalFlip())),
}


def recipe_of(name: str, image_shape: tuple[int, int, int]) -> Recipe:
    """The recipe of a data set.

    One that is not in the table is cropped with an eighth of its side as padding, and
    flipped, if its images are square; if not, flipped alone.

    Args:
      name: the data set.
      image_shape: of its images.

    Returns:
      Its recipe.
    """
    if name in RECIPES:
        return RECIPES[name]
    height, width, _ = image_shape
    if height != width:
        return Recipe((_FLIP,))
    return Recipe((RandomCrop(height, padding=max(height // 8, 1)), _FLIP))


def make_records(
    name: str,
    *,
    num_classes: int,
    image_shape: tuple[int, int, int],
    train: Source,
    validation: Source,
    test: Source,
    multilabel: bool = False,
) -> Records:
    """Puts sources and their recipe together.

    Where they are few and small, images for training and validation stay in memory once
    they were decoded.

    Args:
      name: the data set, whose recipe is taken.
      num_classes: number of labels.
      image_shape: of the network's input.
      train: what parameters are fitted to.
      validation: what settings are chosen on.
      test: what is measured once.
      multilabel: whether several labels may hold at once.

    Returns:
      The data set.
    """
    recipe = recipe_of(name, image_shape)
    statistics = recipe.statistics
    if statistics is None or len(statistics[0]) != image_shape[2]:
        statistics = channel_statistics(train)
    mean, deviation = statistics
    # images that are resized or cropped to their shape are larger by an unknown factor
    images = len(train) + len(validation)
    if not recipe.evaluate and images * math.prod(image_shape) <= KEPT_BYTES:
        train, validation = Kept(train), Kept(validation)
    normalise = Normalise(mean, deviation)
    return Records(
        name=name,
        num_classes=num_classes,
        image_shape=image_shape,
        mean=mean,
        deviation=deviation,
        train=train,
        validation=validation,
        test=test,
        train_transform=Chain((*recipe.train, normalise)),
        eval_transform=Chain((*recipe.evaluate, normalise)),
        multilabel=multilabel,
    )


def channel_statistics(
    source: Source, *, limit: int = _STATISTICS_EXAMPLES
) -> Statistics:
    """Mean and standard deviation per channel, of pixel values between 0 and 1.

    Images are read a few at a time. Of more than ``limit`` that many are taken, evenly
    spaced, which is exact enough to normalise by.

    Args:
      source: the training images.
      limit: the most that are read.

    Returns:
      Means and deviations.
    """
    count = min(len(source), limit)
    chosen = np.arange(count) * len(source) // count

    def sums(index: int) -> tuple[int, np.ndarray, np.ndarray]:
        image = np.asarray(source[index]["image"])
        values = image.reshape(-1, image.shape[-1]).astype(np.int64)
        return len(values), values.sum(0), (values * values).sum(0)

    pixels, total, squares = 0, np.zeros(1, np.int64), np.zeros(1, np.int64)
    with ThreadPoolExecutor(_STATISTICS_THREADS) as pool:
        for number, values, their_squares in pool.map(sums, chosen.tolist()):
            pixels, total = pixels + number, total + values
            squares = squares + their_squares
    mean = total / pixels
    variance = np.maximum(squares / pixels - mean**2, 0)
    # a channel of one value throughout is left as it is
    deviation = np.where(variance > 0, np.sqrt(variance), 255.0)
    return tuple((mean / 255).tolist()), tuple((deviation / 255).tolist())


def cut_out(records: Records, size: int) -> Records:
    """With :class:`Cutout` after all else in training; unchanged if ``size`` is 0.

    Args:
      records: the data set.
      size: side of the square.

    Returns:
      The data set with another transform.
    """
    if size == 0:
        return records
    transform = Chain((records.train_transform, Cutout(size)))
    return dataclasses.replace(records, train_transform=transform)


def cropped(records: Records, size: int) -> Records:
    """With crops of the image in place of padded ones, as P1 takes 28x28 from CIFAR.

    Training takes them at random and flips them where the data set's recipe does;
    evaluation takes the middle. Where the recipe resizes images, as ImageNet's, it
    resizes them to this size in place of its own, in the same proportions.

    Args:
      records: a data set of :func:`make_records`.
      size: side of the crop.

    Returns:
      The data set with smaller images.

    Raises:
      ExperimentError: if the crop does not fit, naming the sizes.
    """
    height, width, channels = records.image_shape
    if not 1 <= size <= min(height, width):
        raise ExperimentError(
            f"--crop must be between 1 and {min(height, width)} (the images of "
            f"{records.name}), got {size}"
        )
    recipe = recipe_of(records.name, records.image_shape)
    if recipe.evaluate:
        share = size / height

        def to_size(step: Transform) -> Transform:
            if isinstance(step, RandomResizedCrop | ResizeShorter | CentreCrop):
                return dataclasses.replace(step, size=round(share * step.size))
            return step

        train, evaluate = map(to_size, recipe.train), map(to_size, recipe.evaluate)
    else:
        kept = [step for step in recipe.train if not isinstance(step, RandomCrop)]
        train, evaluate = (RandomCrop(size), *kept), (CentreCrop(size),)
    normalise = Normalise(records.mean, records.deviation)
    return dataclasses.replace(
        records,
        image_shape=(size, size, channels),
        train_transform=Chain((*train, normalise)),
        eval_transform=Chain((*evaluate, normalise)),
    )
