"""Tables that label images: CSV files whose every row names one image.

A row that cannot be used is an error with the file's name and the line.
"""

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experiments.data._lines import lines_of
from experiments.data.folders._image_files import existence
from experiments.errors import ExperimentError


@dataclasses.dataclass(frozen=True)
class LabelRow:
    """A row of a table.

    Attributes:
      name: of the image, relative to the images' folder.
      place: the table and the line, for messages.
      cells: by column.
    """

    name: str
    place: str
    cells: Mapping[str, str]

    def choose(self, column: str, choices: Mapping[str, int]) -> int:
        """The number of a label.

        Args:
          column: where it stands.
          choices: the labels that exist, with their numbers.

        Returns:
          Its number.

        Raises:
          ExperimentError: if there is no such label, naming place and choices.
        """
        value = self.cells[column]
        if value not in choices:
            known = list(choices)
            shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
            raise ExperimentError(
                f"{self.place}: unknown label {value!r} in column {column!r}; known "
                f"are: {shown}"
            )
        return choices[value]


def read_labels(
    table: Path, images: Path, *, name_column: str, columns: Sequence[str] = ()
) -> list[LabelRow]:
    """Reads a CSV file with a header, and checks that every image it names is there.

    Args:
      table: the file.
      images: the folder that names are relative to.
      name_column: the column of the images' names.
      columns: others that must be there.

    Returns:
      The rows, in order.

    Raises:
      ExperimentError: if the file or a column is missing; if a row is too short or too
        long, names no image, an image that is not there, or one that came before.
    """
    rows, lines = [], {}
    exists = existence(images)
    for line, cells in _cells(table, (name_column, *columns)):
        place = f"{table}, line {line}"
        name = cells[name_column]
        if not name:
            raise ExperimentError(f"{place}: {name_column!r} is empty")
        if name in lines:
            raise ExperimentError(
                f"{place}: {name!r} was already on line {lines[name]}"
            )
        if not exists(name):
            raise ExperimentError(f"{place}: there is no image {images / name}")
        lines[name] = line
        rows.append(LabelRow(name, place, cells))
    if not rows:
        raise ExperimentError(f"{table} names no images")
    return rows


def _cells(table: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines and cells without surrounding blanks."""
    lines = (line for _, line in lines_of(table))
    reader = csv.DictReader(lines, skipinitialspace=True, strict=True)
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        if not header:
            raise ExperimentError(f"{table} is empty")
        for column in columns:
            if column not in header:
                raise ExperimentError(
                    f"{table}, line 1: there is no column {column!r}, only: "
                    f"{', '.join(header[:8])}"
                )
        reader.fieldnames = header
        for cells in reader:
            line = reader.line_num
            # DictReader puts what is too much under None, and None for what lacks
            if None in cells or None in cells.values():
                raise ExperimentError(
                    f"{table}, line {line}: expected {len(header)} cells"
                )
            yield line, {key: value.strip() for key, value in cells.items()}
    except csv.Error as error:
        line = reader.reader.line_num  # its own count stays behind when it fails
        raise ExperimentError(f"{table}, line {line}: {error}") from error
