"""One split of a prepared data set as a source: records by number, decoded by Pillow.

What is wrong with a record is said with the directory, the split and its number.
"""

import contextlib
import io
import logging
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from experiments.errors import ExperimentError

FORMAT = "array_record"
"""What is read without TensorFlow; TFDS writes tfrecord unless it is told."""

_READ_ERRORS = (OSError, RuntimeError, ValueError, IndexError, KeyError)
"""What damaged files raise, from array_record, protobuf or Pillow."""

_BLOCK = 1024


def find_builder(name: str, data_dir: Path | None) -> Any:
    """TFDS's builder of a data set that is there.

    Args:
      name: of the data set.
      data_dir: the directory that was given to TFDS; None is TFDS's own.

    Returns:
      The builder.

    Raises:
      ExperimentError: if the data set is not there in a readable format, with the
        command that prepares it.
    """
    builder = open_builder(name, data_dir)
    # asked first: reading would fail unclearly, and preparing waits for the network
    if not builder.is_prepared():
        raise ExperimentError(
            f"{name} is not prepared in {builder.data_dir}; get it by: "
            f"{prepare_command(name, data_dir)}"
        )
    file_format = builder.info.file_format
    found = getattr(file_format, "value", file_format)
    if found != FORMAT:
        raise ExperimentError(
            f"{builder.data_dir} holds {name} as {found}, which only TensorFlow reads; "
            f"remove it and get it by: {prepare_command(name, data_dir)}"
        )
    return builder


def open_builder(name: str, data_dir: Path | None) -> Any:
    """TFDS's builder of a data set, whether or not that is prepared.

    Args:
      name: of the data set.
      data_dir: the directory that is given to TFDS; None is TFDS's own.

    Returns:
      The builder.

    Raises:
      ExperimentError: if the description that lies there is damaged.
    """
    import tensorflow_datasets as tfds
    from google.protobuf import json_format

    place = None if data_dir is None else str(data_dir.expanduser())
    try:
        return tfds.builder(name, data_dir=place)
    except (json_format.ParseError, AssertionError, *_READ_ERRORS) as error:
        # TFDS puts its own arguments before what is wrong
        reason = _line(error).rpartition('}": ')[2].rstrip(".")
        raise ExperimentError(
            f"{name} in {place or 'the directory of TFDS'} has a dataset_info.json "
            f"that cannot be read ({reason}); remove the data set and get it by: "
            f"{prepare_command(name, data_dir)}"
        ) from error


def prepare_command(name: str, data_dir: Path | None) -> str:
    """The command that prepares a data set, to paste into a shell.

    Args:
      name: of the data set.
      data_dir: where; None is TFDS's own directory.

    Returns:
      One line.
    """
    words = ["python", "-m", "experiments", "prepare", name]
    if data_dir is not None:
        words += ["--data-dir", str(data_dir)]
    command = shlex.join(words)
    # shlex would quote a placeholder for what only the user knows
    return f"{command} --manual-dir DIR" if name == "imagenet2012" else command


class TfdsSplit:
    """Images and labels of a split, read when they are asked for.

    Args:
      name: of the data set.
      builder: TFDS's, of a prepared directory.
      split: name of the split.
      channels: of the images: 1 or 3.
      size: height and width that every image must have; None takes any.
      classes: number of labels; 0 if there are none, which reads as label 0.

    Raises:
      ExperimentError: if there is no such split, or it is empty or damaged.
    """

    def __init__(
        self,
        name: str,
        builder: Any,
        split: str,
        *,
        channels: int,
        size: tuple[int, int] | None,
        classes: int,
    ):
        import tensorflow_datasets as tfds

        self._place = f"{name} in {builder.data_dir}: split {split}"
        self._mode = "L" if channels == 1 else "RGB"
        self._size, self._classes = size, classes
        splits = builder.info.splits
        if split not in splits:
            raise ExperimentError(
                f"{self._place} is missing; there are: {', '.join(splits) or 'none'}"
            )
        if not splits[split].num_examples:
            raise ExperimentError(f"{self._place} is empty")
        self._files = [Path(path) for path in splits[split].filepaths]
        self._ends = np.cumsum(splits[split].shard_lengths)
        for path in self._files:
            if not path.is_file():
                raise ExperimentError(f"{self._place}: there is no {path}")
        try:
            self._records = builder.as_data_source(
                split, decoders={"image": tfds.decode.SkipDecoding()}
            )
        except _READ_ERRORS as error:
            raise ExperimentError(
                f"{self._place} cannot be read: {_line(error)}"
            ) from error
        self._chosen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._records) if self._chosen is None else len(self._chosen)

    def __str__(self) -> str:
        return self._place

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several records, read together."""
        stored = self._stored(indices)
        return [
            {"image": self._image(index, raw), "label": self._label(index, raw)}
            for index, raw in zip(stored, self._read(stored), strict=True)
        ]

    def labels(self) -> np.ndarray:
        """All labels in order, without decoding an image."""
        found = np.empty(len(self), np.int32)
        for start in range(0, len(self), _BLOCK):
            block = range(start, min(start + _BLOCK, len(self)))
            stored = self._stored(block)
            found[start : block.stop] = [
                self._label(index, raw)
                for index, raw in zip(stored, self._read(stored), strict=True)
            ]
        return found

    def take(self, chosen: np.ndarray) -> "TfdsSplit":
        """Some of the examples, in the order given."""
        part = object.__new__(TfdsSplit)
        part.__dict__.update(self.__dict__)
        part._chosen = np.asarray(self._stored(chosen))
        return part

    def _stored(self, indices: Sequence[int] | np.ndarray) -> list[int]:
        """The numbers that examples have in the files."""
        if self._chosen is None:
            return [int(index) for index in indices]
        return [int(self._chosen[index]) for index in indices]

    def _read(self, stored: list[int]) -> list[Any]:
        try:
            return list(self._records.__getitems__(stored))
        except _READ_ERRORS:
            return [self._read_one(index) for index in stored]

    def _read_one(self, index: int) -> Any:
        try:
            return self._records[index]
        except _READ_ERRORS as error:
            raise ExperimentError(
                f"{self._record(index)} cannot be read: {_line(error)}"
            ) from error

    def _image(self, index: int, raw: Any) -> np.ndarray:
        try:
            with PIL.Image.open(io.BytesIO(raw["image"])) as picture:
                image = np.asarray(picture.convert(self._mode))
        except (*_READ_ERRORS, SyntaxError, EOFError) as error:
            raise ExperimentError(
                f"{self._record(index)}: the image cannot be decoded: {_line(error)}"
            ) from error
        if self._size is not None and image.shape[:2] != self._size:
            raise ExperimentError(
                f"{self._record(index)}: the image is {_times(image.shape[:2])}, "
                f"expected {_times(self._size)}"
            )
        return image[..., None] if self._mode == "L" else image

    def _label(self, index: int, raw: Any) -> int:
        if not self._classes:
            return 0
        label = int(raw["label"])
        if not 0 <= label < self._classes:
            raise ExperimentError(
                f"{self._record(index)}: unknown label {label}, expected 0 to "
                f"{self._classes - 1}"
            )
        return label

    def _record(self, index: int) -> str:
        file = self._files[int(np.searchsorted(self._ends, index, side="right"))]
        return f"{self._place}, record {index} ({file.name})"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the remarks of TFDS on what it looks for, and on what it tries again."""
    loggers = [logging.getLogger(name) for name in ("absl", "urllib3")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _line(error: Exception) -> str:
    """What an exception says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
