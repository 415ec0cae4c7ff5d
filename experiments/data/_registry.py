"""Data sets by name."""

import functools
from collections.abc import Callable

from experiments.data._dataset import Dataset
from experiments.data._digits import digits
from experiments.errors import unknown

_LOADERS: dict[str, Callable[[], Dataset]] = {"digits": digits}


def list_datasets() -> list[str]:
    """Names that :func:`load_dataset` takes, sorted."""
    return sorted(_LOADERS)


@functools.cache
def load_dataset(name: str) -> Dataset:
    """A data set, loaded once.

    Args:
      name: one of :func:`list_datasets`.

    Returns:
      The data set.

    Raises:
      ExperimentError: if there is no such data set; the message names the choices.
    """
    if name not in _LOADERS:
        raise unknown("dataset", name, list_datasets())
    return _LOADERS[name]()
