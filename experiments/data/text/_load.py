"""Corpora by name."""

import functools
from pathlib import Path

from experiments.data.text._corpus import TextCorpus
from experiments.data.text._files import LAYOUTS, find_layout, find_own, from_files
from experiments.data.text._pydocs import pydocs
from experiments.errors import ExperimentError, unknown

_EMBEDDED = {"pydocs": pydocs}
OWN = "text_folder"
"""The name of a folder with files of one's own."""


def list_corpora() -> list[str]:
    """Names that :func:`load_corpus` takes: the embedded, the published, your own."""
    return [*_EMBEDDED, *LAYOUTS, OWN]


@functools.cache
def load_corpus(name: str, data_dir: Path | None = None) -> TextCorpus:
    """A corpus, loaded once.

    Args:
      name: one of :func:`list_corpora`.
      data_dir: the folder that its files are in; what is embedded needs none.

    Returns:
      The corpus.

    Raises:
      ExperimentError: if there is no such corpus, naming the choices; if files are
        missing, saying what to get; or if one cannot be read, naming it and the line.
    """
    if name in _EMBEDDED:
        return _EMBEDDED[name]()
    if name not in list_corpora():
        raise unknown("dataset", name, list_corpora())
    if name in LAYOUTS:
        return from_files(name, find_layout(name, data_dir))
    if data_dir is None:
        raise ExperimentError(
            f"{name} is read from a folder: name it with --data-dir; it has train.txt, "
            "valid.txt and test.txt"
        )
    return from_files(name, find_own(data_dir))
