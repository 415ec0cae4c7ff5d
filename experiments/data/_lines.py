"""Lines of text files that someone else wrote: UTF-8, or an error that names the line.

A mark at the beginning, as Windows' editors put it, is no part of the text.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from experiments.errors import ExperimentError


def decoded(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Numbers and decodes lines.

    Args:
      path: the file, for messages.
      lines: its lines with their ends, the first first.

    Yields:
      The number of a line, counted from 1, and the line.

    Raises:
      ExperimentError: if one is not UTF-8, naming file, line and byte.
    """
    for number, line in enumerate(lines, 1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ExperimentError(
                f"{path}, line {number}: not UTF-8 ({error.reason} at byte "
                f"{error.start + 1} of the line)"
            ) from error


def lines_of(path: Path) -> list[tuple[int, str]]:
    """A whole file; its lines end as those of Linux, Windows or old Macs do.

    Args:
      path: the file.

    Returns:
      Numbers and lines, as :func:`decoded` gives them.

    Raises:
      ExperimentError: if it cannot be read, naming file and, if it is to blame, line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExperimentError(f"cannot read {path}: {error.strerror}") from error
    return list(decoded(path, content.splitlines(keepends=True)))
