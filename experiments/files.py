"""Files that are whole or absent, whatever kills the process."""

import json
import os
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file by way of a temporary neighbour that then takes its name.

    Args:
      path: where to.
      content: text (UTF-8) or bytes.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a file of one JSON object a line; a last line torn by a kill is left out.

    Args:
      path: the file; a missing one reads as empty.

    Returns:
      The objects in order.

    Raises:
      ValueError: if a line other than the last is not JSON.
    """
    if not path.exists():
        return []
    # Every whole line ends with a line break, so what follows the last one is torn.
    whole = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in whole]


def json_line(row: dict[str, Any]) -> str:
    """One object on one line, ended by a line break; keys keep their order.

    Args:
      row: what to write; NaN and infinities must have been replaced before.

    Returns:
      The line.
    """
    return json.dumps(row, allow_nan=False) + "\n"
