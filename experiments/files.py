"""Files that are whole or absent, whatever kills the process."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.errors import ExperimentError

UNHARMED = "what stood there before is unharmed"


@contextlib.contextmanager
def on_disk(path: Path, then: str = UNHARMED) -> Iterator[None]:
    """Within it, what the system says against writing is said on one line.

    Args:
      path: the file that is written.
      then: what that means for the reader of the line.

    Raises:
      ExperimentError: for an ``OSError``, such as that of a full disk.
    """
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if not path.parent.is_dir():
            then = "the folder is not there, or no longer"
        raise ExperimentError(f"cannot write {path} ({reason}); {then}") from error


def write_atomically(path: Path, content: str | bytes, then: str = UNHARMED) -> None:
    """Writes a file by way of a temporary neighbour that then takes its name.

    Args:
      path: where to.
      content: text (UTF-8) or bytes.
      then: ends the message of an error, see :func:`on_disk`.

    Raises:
      ExperimentError: if it cannot be written; what stood there is unharmed.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with on_disk(path, then):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):  # of a folder that is gone
                temporary.unlink(missing_ok=True)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a file of one JSON object a line; a last line torn by a kill is left out.

    Args:
      path: the file; a missing one reads as empty.

    Returns:
      The objects in order.

    Raises:
      ExperimentError: if a line other than the last is not such an object.
    """
    if not path.exists():
        return []
    # Every whole line ends with a line break, so what follows the last one is torn.
    whole = path.read_bytes().split(b"\n")[:-1]
    return [_object(path, number, line) for number, line in enumerate(whole, 1)]


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:  # of the encoding too
        found = None
    if not isinstance(found, dict):
        raise ExperimentError(
            f"line {number} of {path} is damaged: it is not a JSON object; take the "
            "file from a copy, or begin in another folder with --out"
        )
    return found


def json_line(row: dict[str, Any]) -> str:
    """One object on one line, ended by a line break; keys keep their order.

    Args:
      row: what to write; NaN and infinities must have been replaced before.

    Returns:
      The line.
    """
    return json.dumps(row, allow_nan=False) + "\n"
