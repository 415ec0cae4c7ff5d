"""Directories as TensorFlow Datasets prepares them, of dummy images."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered


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
    """Writes a data set by its real builder, in its real format.

    Args:
      name: of the data set; its images are 28x28x1.
      data_dir: as given to TFDS.
      counts: number of examples by split.
    """

    def encoded(image):
        file = io.BytesIO()
        PIL.Image.fromarray(image[..., 0]).save(file, "png")
        return file.getvalue()

    def examples(split, count):
        images, labels = dummy_images(split, count)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            # encoded here, since TFDS would call TensorFlow for it
            yield index, {"image": encoded(image), "label": int(label)}

    real = tfds.builder_cls(name)  # before: this imports and registers it
    with registered.skip_registration():

        class Dummy(real):
            """The real builder, but for where its examples come from."""

            def _split_generators(self, dl_manager):
                del dl_manager
                return {
                    split: examples(split, count) for split, count in counts.items()
                }

    Dummy.name = name
    builder = Dummy(data_dir=str(data_dir), file_format="array_record")
    builder.download_and_prepare()
