"""Corpora on disk: three files of words, as they are published, or any three of yours.

A line is a line of text, its words between blanks; ``<eos>`` is put at the end of every
line. The vocabulary is that of the training file, in the order in which words first
appear, as in the code of AWD-LSTM; the published files have ``<unk>`` in place already.
"""

import array
import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from experiments.data._lines import decoded
from experiments.data.text._corpus import END, SPLITS, UNKNOWN, TextCorpus
from experiments.errors import ExperimentError


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a published corpus lies on disk.

    Attributes:
      title: what it is called.
      files: the names of the training, validation and test file.
      folder: the folder that its archive unpacks to, looked into as well.
      source: what to get, and from whom.
    """

    title: str
    files: tuple[str, str, str]
    folder: str
    source: str

    @property
    def needs(self) -> str:
        """The files, for messages."""
        train, validation, test = self.files
        return f"{train}, {validation} and {test}"


_WIKI = ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens")
_MERITY = "the WikiText Long Term Dependency Language Modeling Dataset (Merity, 2016)"

LAYOUTS = {
    "ptb": Layout(
        "Penn Treebank",
        ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
        "ptb",
        "Mikolov's preprocessed Penn Treebank (simple-examples/data)",
    ),
    "wikitext2": Layout(
        "WikiText-2",
        _WIKI,
        "wikitext-2",
        f"wikitext-2-v1.zip of {_MERITY}",
    ),
    "wikitext103": Layout(
        "WikiText-103",
        _WIKI,
        "wikitext-103",
        f"wikitext-103-v1.zip of {_MERITY}",
    ),
}

_OWN_FILES = (
    ("train.txt", "valid.txt", "test.txt"),
    ("train.txt", "validation.txt", "test.txt"),
)


def _words_of_lines(path: Path, sha256: Any) -> Iterator[tuple[int, list[str]]]:
    """The number and the words of each line; the bytes go into the hash too."""

    def hashed(file: BinaryIO) -> Iterator[bytes]:
        for line in file:
            sha256.update(line)
            yield line

    try:
        with open(path, "rb") as file:
            for number, line in decoded(path, hashed(file)):
                yield number, [*line.split(), END]
    except OSError as error:
        raise ExperimentError(f"cannot read {path}: {error.strerror}") from error


def _read(path: Path, numbers: dict[str, int], *, learn: bool, sha256: Any):
    """The tokens of a file, a line at a time: a hundred million words are no list.

    Args:
      path: the file.
      numbers: word to token.
      learn: whether new words get a number, or else ``<unk>``'s.
      sha256: a hash that the bytes go into.

    Returns:
      int32 tokens.

    Raises:
      ExperimentError: naming file and line.
    """
    tokens = array.array("i")
    fallback = numbers.get(UNKNOWN)
    for line, words in _words_of_lines(path, sha256):
        for word in words:
            if learn:
                token = numbers.setdefault(word, len(numbers))
            else:
                token = numbers.get(word, fallback)
            if token is None:
                raise ExperimentError(
                    f"{path}, line {line}: {word!r} does not occur in the training "
                    f"file, and that has no {UNKNOWN} to stand for it"
                )
            tokens.append(token)
    if len(tokens) < 2:
        raise ExperimentError(
            f"{path}: a split must have at least 2 tokens, got {len(tokens)}"
        )
    return np.frombuffer(tokens, np.intc).astype(np.int32)


def _folder_with(names: tuple[str, str, str], folders: list[Path]) -> Path | None:
    """The first folder that has any of the files."""
    for folder in folders:
        if any((folder / name).is_file() for name in names):
            return folder
    return None


def find_layout(name: str, data_dir: Path | None) -> tuple[Path, ...]:
    """The three files of a published corpus.

    Args:
      name: one of :data:`LAYOUTS`.
      data_dir: the folder that has the files, or the folder of the archive.

    Returns:
      The paths of the training, validation and test file.

    Raises:
      ExperimentError: if one is missing, saying what to get.
    """
    layout = LAYOUTS[name]
    if data_dir is None:
        raise ExperimentError(
            f"{name} needs --data-dir, a folder with {layout.needs}: get "
            f"{layout.source}"
        )
    data_dir = data_dir.expanduser()
    inside = [data_dir, data_dir / layout.folder, data_dir / name, data_dir / "data"]
    folder = _folder_with(layout.files, inside) or data_dir
    missing = [file for file in layout.files if not (folder / file).is_file()]
    if missing:
        raise ExperimentError(
            f"{name} is not ready: {folder} has no {' and no '.join(missing)}; get "
            f"{layout.source} and unpack it there"
        )
    return tuple(folder / file for file in layout.files)


def find_own(folder: Path) -> tuple[Path, ...]:
    """The three files of a folder of your own.

    Args:
      folder: has ``train.txt``, ``valid.txt`` (or ``validation.txt``), ``test.txt``.

    Returns:
      Their paths in this order.

    Raises:
      ExperimentError: if it is no folder, or one is missing.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise ExperimentError(f"--data-dir {folder} is not a folder")
    for names in _OWN_FILES:
        if all((folder / name).is_file() for name in names):
            return tuple(folder / name for name in names)
    missing = [name for name in _OWN_FILES[0] if not (folder / name).is_file()]
    raise ExperimentError(
        f"{folder} has no {' and no '.join(missing)}: a folder of text needs "
        "train.txt, valid.txt and test.txt"
    )


def from_files(name: str, paths: tuple[Path, ...]) -> TextCorpus:
    """Reads a corpus.

    Args:
      name: what it is to be called.
      paths: of the training, validation and test file.

    Returns:
      The corpus.

    Raises:
      ExperimentError: naming the file, and the line or the token, if one cannot be
        read.
    """
    numbers: dict[str, int] = {}
    sha256 = hashlib.sha256()
    arrays = {
        split: _read(path, numbers, learn=split == "train", sha256=sha256)
        for split, path in zip(SPLITS, paths, strict=True)
    }
    return TextCorpus(name, tuple(numbers), **arrays, sha256=sha256.hexdigest())
