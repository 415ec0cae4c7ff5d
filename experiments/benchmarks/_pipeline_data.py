"""Records shaped like CIFAR-10's, in a directory that its real builder writes."""

import contextlib
import dataclasses
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from experiments.data import Records, make_records

_SMOOTH, _GRAIN = 8, 8.0
"""Pixels of the coarse image, and deviation of the noise over it: PNG then takes about
2.4 kB for an image, as for CIFAR's."""


def stored_cifar(data_dir: Path, count: int) -> tuple[Records, Records]:
    """Records of written images: decoded whenever they are read, and decoded once.

    Args:
      data_dir: where to write them.
      count: how many.

    Returns:
      The same records twice.
    """
    import tensorflow_datasets as tfds

    with _quiet():
        write_cifar(data_dir, count)
        sources: list[Any] = [
            tfds.data_source(
                "cifar10", split=split, data_dir=str(data_dir), download=False
            )
            for split in ("train", "test")
        ]
        _ = sources[0][0]  # the first one read makes it say what decodes
    train, test = sources
    kept = make_records(
        "cifar10",
        num_classes=10,
        image_shape=(32, 32, 3),
        train=train,
        validation=test,
        test=test,
    )
    return dataclasses.replace(kept, train=train), kept


def write_cifar(data_dir: Path, count: int) -> None:
    """Writes what ``tfds.builder("cifar10")`` would, of drawn images, as array_record.

    Args:
      data_dir: as given to TFDS.
      count: in the training split; a tenth as many in the test split.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    real: Any = tfds.builder_cls("cifar10")
    with registered.skip_registration():

        class Drawn(real):
            """The real builder, but for where its examples come from."""

            def _split_generators(self, dl_manager):
                del dl_manager
                return {
                    "train": examples("train", count),
                    "test": examples("test", max(count // 10, 10)),
                }

    Drawn.name = "cifar10"
    builder = Drawn(data_dir=str(data_dir), file_format="array_record")
    builder.download_and_prepare()


def examples(split: str, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys and examples of a split, images encoded as PNG."""
    generator = np.random.default_rng(len(split))
    for index in range(count):
        coarse = generator.integers(0, 256, (_SMOOTH, _SMOOTH, 3), np.uint8)
        smooth = PIL.Image.fromarray(coarse).resize(
            (32, 32), PIL.Image.Resampling.BILINEAR
        )
        pixels = np.asarray(smooth) + generator.normal(0, _GRAIN, (32, 32, 3))
        image = PIL.Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        file = io.BytesIO()
        image.save(file, "png")
        name = f"{split}_{index:05}"
        yield name, {"id": name, "image": file.getvalue(), "label": index % 10}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without TFDS's progress and remarks."""
    import tensorflow_datasets as tfds

    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
