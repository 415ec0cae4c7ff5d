"""Tables in CSV files: written whole, and read only if they are."""

import csv
import io
from pathlib import Path
from typing import Any

from experiments.errors import ExperimentError
from experiments.files import UNHARMED, write_atomically


def write_csv(
    path: Path,
    columns: tuple[str, ...],
    rows: list[dict[str, Any]],
    then: str = UNHARMED,
) -> None:
    """Writes a table atomically; None becomes an empty cell.

    Args:
      path: where to.
      columns: the header; every row has these keys.
      rows: the rows.
      then: ends the message of an error, see :func:`experiments.files.on_disk`.

    Raises:
      ExperimentError: if it cannot be written; what stood there is unharmed.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue(), then)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Reads a table that :func:`write_csv` has written.

    Args:
      path: the file.

    Returns:
      Its rows, column to cell.

    Raises:
      ExperimentError: if it is not whole; since it was written whole, it was damaged
        later.
    """
    try:
        text = path.read_text(encoding="utf-8")
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        if not text.endswith("\n"):
            raise ValueError("it ends within a line")
        return [dict(zip(header, row, strict=True)) for row in rows if row]
    except (ValueError, csv.Error) as error:
        raise ExperimentError(
            f"{path} is damaged, for it is no whole table; take it from a copy, or "
            "remove it and go on with --resume, which does again what stood in it"
        ) from error
