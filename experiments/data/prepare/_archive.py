"""Published files: what they must be, and reading what is inside them."""

import contextlib
import dataclasses
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from experiments.errors import ExperimentError

Examples = Iterator[tuple[str | int, dict[str, Any]]]
"""Keys, which decide the order of the records, and examples."""


@dataclasses.dataclass(frozen=True)
class Archive:
    """A published file.

    Attributes:
      url: where it is.
      size: in bytes.
      sha256: in hexadecimal.
    """

    url: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How the files of a data set become examples.

    Attributes:
      files: the names of the published files.
      splits: from their paths by name, and TFDS's features, to the examples of every
        split. Nothing but names of labels may be read before the first example is
        asked for.
      by_hand: whether the files cannot be downloaded without the user's account.
    """

    files: tuple[str, ...]
    splits: Callable[[Mapping[str, Path], Any], dict[str, Examples]]
    by_hand: bool = False


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Damage in a file becomes an error that names it."""
    try:
        yield
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        KeyError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ExperimentError(f"cannot read {path}: {reason}") from error


def tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The files in a tar archive, compressed or not, in one pass.

    Args:
      path: the archive.

    Yields:
      Names and contents.
    """
    with reading(path), tarfile.open(path, "r|*") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read()


def png(image: np.ndarray) -> bytes:
    """Encodes a uint8 image ``(height, width, 1 or 3)``, without loss."""
    file = io.BytesIO()
    grey = image.shape[2] == 1
    pixels = np.ascontiguousarray(image[..., 0] if grey else image)
    PIL.Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def check_label(label: int, classes: int, place: str) -> int:
    """A label from 0 to ``classes - 1``, or else an error that names its place."""
    if not 0 <= label < classes:
        raise ExperimentError(
            f"{place}: unknown label {label}, expected 0 to {classes - 1}"
        )
    return label


def check_image(
    content: bytes, place: str, size: tuple[int, int] | None = None
) -> bytes:
    """An image file whose beginning can be read, or else an error that names its place.

    Args:
      content: of the file.
      place: for the message.
      size: width and height that it must have; None takes any.

    Returns:
      The content.
    """
    try:
        with PIL.Image.open(io.BytesIO(content)) as picture:
            found = picture.size
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ExperimentError(f"{place} is no image") from error
    if size is not None and found != size:
        raise ExperimentError(
            f"{place}: the image is {found[0]}x{found[1]}, expected {size[0]}x{size[1]}"
        )
    return content
