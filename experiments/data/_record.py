"""What the registry knows of a data set before anything of it is read."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

Kind = Literal["image", "text"]


@dataclasses.dataclass(frozen=True)
class DatasetRecord:
    """One data set: what it is, whether it is here, and how to get it.

    Attributes:
      name: the name it is loaded by.
      kind: what it holds.
      examples: how much of it there is, part by part, as published.
      size: bytes to download, as published; None where nothing is, or where it is not
        said.
      classes: number of labels; None where the files say, or where there are none.
      source: where it comes from.
      how: the command, or the files, that make it ready.
      missing: from a data directory to why the data set is not ready there, in one
        line; empty if it is.
      load: from a data directory to the data set.
    """

    name: str
    kind: Kind
    examples: str
    size: int | None
    classes: int | None
    source: str
    how: str
    missing: Callable[[Path | None], str]
    load: Callable[[Path | None], Any]

    def ready(self, data_dir: Path | None) -> bool:
        """Whether the data set can be loaded from a directory."""
        return not self.missing(data_dir)
