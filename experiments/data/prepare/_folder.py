"""The directory that is written into: one process at a time, and nothing half-written.

What an earlier process left behind when it was killed is known by its name, and is
removed by the next one, whatever its age: the lock says that no one is at it.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from experiments.errors import ExperimentError

_PARTIAL_DOWNLOAD = "*.tmp.*"
_PARTIAL_DATA = "incomplete.*"


@contextlib.contextmanager
def alone(downloads: Path, name: str) -> Iterator[None]:
    """Holds the lock of a data set; it goes with the process, however that ends.

    Args:
      downloads: the folder of downloads.
      name: of the data set.

    Yields:
      Nothing.

    Raises:
      ExperimentError: if another process prepares it, or nothing can be written.
    """
    lock = downloads / f".{name.replace('/', '_')}.lock"
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        file = open(lock, "wb")  # noqa: SIM115 - closed below, around what it guards
    except OSError as error:
        raise ExperimentError(
            f"cannot write to {downloads}: {error.strerror}"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExperimentError(
                f"{name} is being prepared in {downloads.parent} by another process"
            ) from None
        yield


def remove_partial(downloads: Path, data_path: Path, name: str) -> None:
    """Removes unfinished downloads and unfinished data of a data set.

    Args:
      downloads: the folder of downloads; finished ones stay.
      data_path: where the finished data is to be.
      name: TFDS's name of the data set, without its configuration.
    """
    for folder in (downloads / name).rglob(_PARTIAL_DOWNLOAD):
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
    for folder in data_path.parent.glob(f"{_PARTIAL_DATA}_{data_path.name}"):
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # the first that is not empty ends it
        for folder in data_path.parents:  # of a data set that never was there
            folder.rmdir()
