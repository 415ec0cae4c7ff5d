"""Image files as a source: decoded by Pillow when their turn comes.

What is wrong with a file is said with its path and with the place that names it.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from experiments.errors import ExperimentError

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# Pillow's modes whose conversion to RGB cuts off all that is above 255, without a word.
_DEEP_NAMES = {"I": "integers of 16 bits or more", "F": "floating-point numbers"}
_DEEP = tuple(_DEEP_NAMES)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One example, as a folder names it.

    Attributes:
      path: the image.
      label: an int, or a float32 vector.
      place: what names it, such as ``"labels.csv, line 3"``; empty if nothing does.
    """

    path: str
    label: Any
    place: str = ""

    def __str__(self) -> str:
        return f"{self.path} ({self.place})" if self.place else self.path


class ImageFiles:
    """Examples read from image files, in colour.

    Args:
      entries: the examples.
      size: height and width that every image must have; None takes any.
    """

    def __init__(self, entries: Iterable[Entry], size: tuple[int, int] | None):
        self._entries = list(entries)
        self._size = size

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> dict[str, Any]:
        entry = self._entries[index]
        image = read_image(entry)
        if self._size is not None and image.shape[:2] != self._size:
            raise ExperimentError(
                f"{entry}: the image is {_times(image.shape[:2])}, expected "
                f"{_times(self._size)}"
            )
        return {"image": image, "label": entry.label}

    @property
    def labels(self) -> np.ndarray:
        """All labels, in order."""
        return np.stack([np.asarray(entry.label) for entry in self._entries])

    def take(self, chosen: Iterable[int]) -> "ImageFiles":
        """Some of the examples, in the order given."""
        return ImageFiles((self._entries[index] for index in chosen), self._size)


def read_image(entry: Entry) -> np.ndarray:
    """Decodes an image.

    Args:
      entry: which.

    Returns:
      uint8 ``(height, width, 3)``.

    Raises:
      ExperimentError: if the file is missing, truncated, no image, or one of more than
        eight bits, naming it.
    """
    try:
        with PIL.Image.open(entry.path) as picture:
            if picture.mode.startswith(_DEEP):
                raise ExperimentError(
                    f"{entry}: its pixels are {_DEEP_NAMES[picture.mode[0]]}, expected "
                    "8 bits a channel"
                )
            return np.asarray(picture.convert("RGB"))
    except FileNotFoundError as error:
        raise ExperimentError(f"{entry}: there is no such file") from error
    except PIL.Image.DecompressionBombError as error:
        raise ExperimentError(f"{entry}: {error}") from error
    # Pillow raises all of these for damaged files, by format
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ExperimentError(f"{entry}: cannot be decoded: {error}") from error


def image_names(folder: Path) -> list[str]:
    """The image files of a folder, sorted by name.

    Args:
      folder: where to look, not below it.

    Returns:
      Their names, without those that begin with a dot: macOS leaves such files beside
      what it unpacks.

    Raises:
      ExperimentError: if there is no such folder.
    """
    names = _listed(folder)
    return sorted(
        name
        for name in names
        if name.lower().endswith(_SUFFIXES) and not name.startswith(".")
    )


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise ExperimentError(f"cannot read {folder}: {error.strerror}") from error


def existence(root: Path) -> Callable[[str], bool]:
    """Tells of many files below a folder whether they exist, listing each folder once.

    Args:
      root: what names are relative to.

    Returns:
      A function of a relative name.
    """
    listed: dict[Path, frozenset[str]] = {}

    def exists(name: str) -> bool:
        path = root / name
        folder = path.parent
        if folder not in listed:
            found = _listed(folder) if folder.is_dir() else ()
            listed[folder] = frozenset(found)
        return path.name in listed[folder]

    return exists


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
