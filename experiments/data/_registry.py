"""Data sets by name."""

import functools
from collections.abc import Callable
from pathlib import Path

from experiments.data._dataset import Dataset
from experiments.data._digits import digits
from experiments.data._tfds import SOURCES, prepared
from experiments.errors import unknown

_EMBEDDED: dict[str, Callable[[], Dataset]] = {"digits": digits}


def list_datasets() -> list[str]:
    """Names that :func:`load_dataset` takes: the embedded ones, then those on disk."""
    return [*sorted(_EMBEDDED), *sorted(SOURCES)]


@functools.cache
def load_dataset(name: str, data_dir: Path | None = None) -> Dataset:
    """A data set, loaded once.

    Args:
      name: one of :func:`list_datasets`.
      data_dir: where TensorFlow Datasets prepared it; None is where that puts it
        by itself (``$TFDS_DATA_DIR`` or ``~/tensorflow_datasets``). What is embedded
        needs none.

    Returns:
      The data set.

    Raises:
      ExperimentError: if there is no such data set, naming the choices; or if it is
        not prepared there, with the command that does it.
    """
    if name in _EMBEDDED:
        return _EMBEDDED[name]()
    if name not in SOURCES:
        raise unknown("dataset", name, list_datasets())
    return prepared(name, data_dir)
