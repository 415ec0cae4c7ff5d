"""Data sets in a directory of TensorFlow Datasets, read without TensorFlow.

Nothing is ever downloaded here: a directory that does not hold the data set is an error
at once, with the command that prepares it. A directory that TFDS prepared elsewhere is
read in the same way, if it was written as ``array_record``.

A share of the training split is held out for validation with seed 0, stratified by
class but for the two sets of a million images, whose labels are not read beforehand.
The test part is the data set's own test split; where its labels were never published,
as those of ImageNet and what is made of it, it is the official validation split.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from experiments.data._augment import random_shift, shift_and_flip, with_border
from experiments.data._dataset import Augment, Dataset, Records, Split
from experiments.data._recipes import RECIPES, make_records
from experiments.data._record import DatasetRecord
from experiments.data._tfds_split import TfdsSplit, find_builder, quiet
from experiments.errors import ExperimentError

_SPLIT_SEED = 0
_BLOCK = 512


@dataclasses.dataclass(frozen=True)
class Source:
    """How a data set of TFDS, images with a label each, is used.

    Attributes:
      train: published number of training examples.
      test: published number of test examples.
      size: published bytes to download.
      classes: number of labels; 0 if there are none.
      image_shape: of the network's input.
      origin: who made it.
      held_out: share of the training split that is kept for validation.
      augment: of training batches in memory; None if it does not fit there.
      test_split: what is measured on at the end.
      one_size: whether all images are stored in ``image_shape``.
      stratified: whether the labels are read to hold out a share of every class.
    """

    train: int
    test: int
    size: int
    classes: int
    image_shape: tuple[int, int, int]
    origin: str
    held_out: float = 0.1
    augment: Augment | None = None
    test_split: str = "test"
    one_size: bool = True
    stratified: bool = True


_SHIFT_2 = functools.partial(random_shift, padding=2)
_SHIFT_4 = functools.partial(random_shift, padding=4)
_GREY, _SMALL, _LARGE = (28, 28, 1), (32, 32, 3), (224, 224, 3)

SOURCES = {
    "mnist": Source(
        *(60_000, 10_000, 11_594_722, 10, _GREY),
        "LeCun, Cortes and Burges",
        held_out=1 / 6,
        augment=_SHIFT_2,
    ),
    "fashion_mnist": Source(
        *(60_000, 10_000, 30_878_645, 10, _GREY),
        "Xiao, Rasul and Vollgraf, 2017",
        held_out=1 / 6,
        augment=_SHIFT_2,
    ),
    "cifar10": Source(
        *(50_000, 10_000, 170_052_171, 10, _SMALL),
        "Krizhevsky, 2009",
        augment=shift_and_flip,
    ),
    "cifar100": Source(
        *(50_000, 10_000, 168_513_733, 100, _SMALL),
        "Krizhevsky, 2009",
        augment=shift_and_flip,
    ),
    "svhn_cropped": Source(
        *(73_257, 26_032, 1_575_594_780, 10, _SMALL),
        "Netzer et al., 2011; the extra split is prepared and not trained on",
        augment=_SHIFT_4,  # a mirrored digit is not one
    ),
    "imagenette": Source(
        *(9_469, 3_925, 1_557_161_267, 10, _LARGE),
        "Howard, 2019: ten classes of ImageNet",
        test_split="validation",
        one_size=False,
    ),
    "imagenet_resized/32x32": Source(
        *(1_281_167, 50_000, 3_720_132_947, 1000, _SMALL),
        "Chrabaszcz et al., 2017: P0's ImageNet 32x32",
        held_out=0.01,
        test_split="validation",
        stratified=False,
    ),
    "downsampled_imagenet/32x32": Source(
        *(1_281_149, 49_999, 4_274_493_440, 0, _SMALL),
        "van den Oord et al., 2016: without labels, for generators",
        held_out=0.01,
        test_split="validation",
        stratified=False,
    ),
    "imagenet2012": Source(
        *(1_281_167, 50_000, 154_642_401_280, 1000, _LARGE),
        "Russakovsky et al., 2015",
        held_out=0.01,
        test_split="validation",
        one_size=False,
        stratified=False,
    ),
}


def prepared(name: str, data_dir: Path | None) -> Dataset:
    """Reads a prepared data set into memory.

    Pixels are normalised by the mean and standard deviation that the data set's recipe
    names, or else by those of what is left for training. Training images are shifted
    over a black border, as their authors' are, and as records are.

    Args:
      name: one of :data:`SOURCES` with an augmentation in memory.
      data_dir: the directory that was given to TFDS; None is TFDS's own, which is
        ``$TFDS_DATA_DIR`` or ``~/tensorflow_datasets``.

    Returns:
      The data set.

    Raises:
      ExperimentError: if the directory does not hold it in a readable format, with
        the command that prepares it; or if its files cannot be read.
    """
    source = SOURCES[name]
    assert source.augment is not None
    with quiet():
        whole, held_back = _splits(name, data_dir)
        images, labels = _arrays(whole)
        test_images, test_labels = _arrays(held_back)
    train, validation = _hold_out(whole, source.held_out, labels)
    pixels = images[train]
    mean, deviation = _statistics(name, pixels)

    def split(images: np.ndarray, labels: np.ndarray) -> Split:
        normalised = images.astype(np.float32)
        normalised -= mean
        normalised /= deviation
        return Split(normalised, labels)

    return Dataset(
        name=name,
        num_classes=source.classes,
        train=split(pixels, labels[train]),
        validation=split(images[validation], labels[validation]),
        test=split(test_images, test_labels),
        augment=with_border(
            source.augment, tuple((-mean / deviation).ravel().tolist())
        ),
    )


def prepared_records(name: str, data_dir: Path | None) -> Records:
    """A prepared data set whose images are read when their turn comes.

    Where there are no labels, they are all 0, of one class.

    Args:
      name: one of :data:`SOURCES`.
      data_dir: as in :func:`prepared`.

    Returns:
      The data set.

    Raises:
      ExperimentError: as in :func:`prepared`.
    """
    source = SOURCES[name]
    with quiet():
        whole, held_back = _splits(name, data_dir)
        labels = whole.labels() if source.stratified else None
    train, validation = _hold_out(whole, source.held_out, labels)
    return make_records(
        name,
        num_classes=max(source.classes, 1),
        image_shape=source.image_shape,
        train=whole.take(np.sort(train)),
        validation=whole.take(np.sort(validation)),
        test=held_back,
    )


def tfds_records() -> list[DatasetRecord]:
    """What the registry says of these data sets."""
    return [_record(name, source) for name, source in SOURCES.items()]


def _record(name: str, source: Source) -> DatasetRecord:
    read = prepared if source.augment else prepared_records
    manual = " --manual-dir M" if name == "imagenet2012" else ""
    needs = ", with ILSVRC2012_img_train.tar and _val.tar in M" if manual else ""
    return DatasetRecord(
        name=name,
        kind="image",
        examples=f"{source.train:,} + {source.test:,}",
        size=source.size,
        classes=source.classes or None,
        source=source.origin,
        how=f"python -m experiments prepare {name} --data-dir D{manual}{needs}",
        missing=functools.partial(_missing, name),
        load=functools.partial(read, name),
    )


def _missing(name: str, data_dir: Path | None) -> str:
    try:
        with quiet():
            find_builder(name, data_dir)
    except ExperimentError as error:
        return str(error)
    return ""


def _splits(name: str, data_dir: Path | None) -> tuple[TfdsSplit, TfdsSplit]:
    """The training split as it is stored, and what is measured on at the end."""
    source = SOURCES[name]
    builder = find_builder(name, data_dir)
    train, test = (
        TfdsSplit(
            name,
            builder,
            split,
            channels=source.image_shape[2],
            size=source.image_shape[:2] if source.one_size else None,
            classes=source.classes,
        )
        for split in ("train", source.test_split)
    )
    return train, test


def _arrays(split: TfdsSplit) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8, and labels of a split in the order they are stored."""
    count = len(split)
    first = split[0]["image"]
    images = np.empty((count, *first.shape), np.uint8)
    labels = np.empty(count, np.int32)
    for start in range(0, count, _BLOCK):
        block = range(start, min(start + _BLOCK, count))
        for index, record in zip(block, split.__getitems__(block), strict=True):
            images[index], labels[index] = record["image"], record["label"]
    return images, labels


def _hold_out(
    split: TfdsSplit, share: float, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Which examples are left for training, and which are kept for validation."""
    from sklearn.model_selection import train_test_split

    try:
        train, validation = train_test_split(
            np.arange(len(split)),
            test_size=share,
            stratify=labels,
            random_state=_SPLIT_SEED,
        )
    except ValueError as error:  # too few of a class
        raise ExperimentError(
            f"{split}: {len(split)} examples are too few to hold out a share of "
            f"{share:.3g} for validation: {error}"
        ) from error
    return np.asarray(train), np.asarray(validation)


def _statistics(name: str, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation per channel, of pixel values between 0 and 255."""
    published = RECIPES[name].statistics if name in RECIPES else None
    if published is not None:
        mean, deviation = (np.multiply(part, 255.0) for part in published)
    else:
        axes = tuple(range(pixels.ndim - 1))
        mean = pixels.mean(axes, dtype=np.float64)
        deviation = pixels.std(axes, dtype=np.float64)
    return mean.astype(np.float32), deviation.astype(np.float32)
