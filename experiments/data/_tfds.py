"""Data sets from a directory that TensorFlow Datasets prepared, without TensorFlow.

Nothing is ever downloaded: a directory that does not hold the data set is an error at
once, with the command that prepares it (which needs TensorFlow; reading does not).

A share of the training split, a sixth for the MNISTs, is held out for validation,
stratified by class with seed 0; the test split is the data set's own. Every channel is
normalised by its mean and standard deviation over what is left for training.
"""

import contextlib
import dataclasses
import functools
import logging
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from experiments.data._augment import random_shift
from experiments.data._dataset import Augment, Dataset, Split
from experiments.errors import ExperimentError

_SPLIT_SEED = 0
_FORMAT = "array_record"
"""What is read without TensorFlow; TFDS writes tfrecord unless it is told."""


@dataclasses.dataclass(frozen=True)
class Source:
    """How a data set of TFDS, images of one size with a label each, is used.

    Attributes:
      held_out: share of the training split that is kept for validation.
      augment: of training batches.
    """

    held_out: float
    augment: Augment


SOURCES = {
    "fashion_mnist": Source(1 / 6, functools.partial(random_shift, padding=2)),
    "mnist": Source(1 / 6, functools.partial(random_shift, padding=2)),
}


def prepared(name: str, data_dir: Path | None) -> Dataset:
    """Reads a prepared data set into memory.

    Args:
      name: one of :data:`SOURCES`.
      data_dir: the directory that was given to TFDS; None is TFDS's own, which is
        ``$TFDS_DATA_DIR`` or ``~/tensorflow_datasets``.

    Returns:
      The data set.

    Raises:
      ExperimentError: if the directory does not hold it in a readable format, with
        the command that prepares it; or if its files cannot be read.
    """
    with _quiet():
        builder = _builder(name, data_dir)
        try:
            images, labels = _read(builder, "train")
            test_images, test_labels = _read(builder, "test")
        except (OSError, RuntimeError) as error:  # missing or damaged files
            raise ExperimentError(
                f"cannot read {name} in {builder.data_dir}: {error}"
            ) from error
    source = SOURCES[name]
    train, validation = train_test_split(
        np.arange(len(labels)),
        test_size=source.held_out,
        stratify=labels,
        random_state=_SPLIT_SEED,
    )
    pixels = images[train]
    axes = tuple(range(pixels.ndim - 1))
    mean = pixels.mean(axes, dtype=np.float64).astype(np.float32)
    deviation = pixels.std(axes, dtype=np.float64).astype(np.float32)

    def split(images: np.ndarray, labels: np.ndarray) -> Split:
        return Split((images.astype(np.float32) - mean) / deviation, labels)

    return Dataset(
        name=name,
        num_classes=builder.info.features["label"].num_classes,
        train=split(pixels, labels[train]),
        validation=split(images[validation], labels[validation]),
        test=split(test_images, test_labels),
        augment=source.augment,
    )


def _builder(name: str, data_dir: Path | None) -> Any:
    """TFDS's builder of a data set that is there."""
    import tensorflow_datasets as tfds

    place = None if data_dir is None else str(data_dir.expanduser())
    builder = tfds.builder(name, data_dir=place)
    # asked first: reading would fail unclearly, and preparing waits for the network
    if not builder.is_prepared():
        raise ExperimentError(
            f"{name} is not prepared in {builder.data_dir}; {_advice(name, place)}"
        )
    file_format = builder.info.file_format
    found = getattr(file_format, "value", file_format)
    if found != _FORMAT:
        raise ExperimentError(
            f"{builder.data_dir} holds {name} as {found}, which only TensorFlow reads; "
            f"remove it and {_advice(name, place)}"
        )
    return builder


def _advice(name: str, place: str | None) -> str:
    where = "" if place is None else f"data_dir={place!r}, "
    code = (
        f"import tensorflow_datasets as tfds; tfds.builder({name!r}, {where}"
        f"file_format={_FORMAT!r}).download_and_prepare()"
    )
    # double quotes read better about Python's single ones, where the shell leaves them
    plain = not set(code) & set('"$`\\!')
    quoted = f'"{code}"' if plain else shlex.quote(code)
    return f"prepare it once, where tensorflow is installed: python -c {quoted}"


def _read(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8, and labels of a split in the order they are stored."""
    records = builder.as_data_source(split)
    images = np.empty((len(records), *builder.info.features["image"].shape), np.uint8)
    labels = np.empty(len(records), np.int32)
    for index, record in enumerate(records):
        images[index], labels[index] = record["image"], record["label"]
    return images, labels


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without TFDS's remarks on what it looks for and which decoder it has."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
