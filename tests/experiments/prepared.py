"""Directories as TensorFlow Datasets prepares them, of dummy images."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered


def encoded(image, kind="png", mode="RGB"):
    """A uint8 image as a file: TFDS would call TensorFlow to encode it."""
    file = io.BytesIO()
    PIL.Image.fromarray(image).convert(mode).save(file, kind)
    return file.getvalue()


def write(name, data_dir, splits, shards=None):
    """Writes a data set by its real builder, in its real format.

    Args:
      name: of the data set, and its configuration after a slash if it has any.
      data_dir: as given to TFDS.
      splits: examples by split.
      shards: number of files a split; None leaves it to TFDS.

    Returns:
      The builder.
    """
    base, _, config = name.partition("/")
    real = tfds.builder_cls(base)  # before: this imports and registers it

    def split_generators(self, dl_manager):
        del self, dl_manager
        return {split: enumerate(examples) for split, examples in splits.items()}

    tfds.disable_progress_bar()
    members = {
        "_split_generators": split_generators,
        "__module__": real.__module__,
        "name": base,
    }
    with registered.skip_registration():
        written = type(real)(real.__name__, (real,), members)
    options = {"config": config} if config else {}
    builder = written(data_dir=str(data_dir), file_format="array_record", **options)
    settings = tfds.download.DownloadConfig(num_shards=shards)
    builder.download_and_prepare(download_config=settings)
    return builder


def cifar_examples(count, seed=0):
    """Random images with the labels 0 to 9 in turn."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)
    return [
        {"id": f"{number}", "image": encoded(image), "label": number % 10}
        for number, image in enumerate(images)
    ]


def dummy_images(split, count):
    """The images and labels that :func:`prepare` writes, before they are shuffled.

    Every image has its label as a brighter row, so that there is something to learn.
    """
    rng = np.random.default_rng([count, len(split)])
    labels = np.arange(count) % 10
    images = rng.integers(0, 120, (count, 28, 28, 1), np.uint8)
    images[np.arange(count), 2 * labels + 3] += 100
    return images, labels


def prepare(name: str, data_dir: Path, counts: dict[str, int]) -> None:
    """Writes a data set of 28x28 pixels.

    Args:
      name: of the data set.
      data_dir: as given to TFDS.
      counts: number of examples by split.
    """

    def examples(split, count):
        for image, label in zip(*dummy_images(split, count), strict=True):
            yield {"image": encoded(image[..., 0], mode="L"), "label": int(label)}

    write(name, data_dir, {split: examples(split, counts[split]) for split in counts})
