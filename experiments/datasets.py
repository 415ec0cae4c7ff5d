"""``python -m experiments datasets``: every data set, and whether it is here."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments.cli import parse
from experiments.console import table_console
from experiments.data import DatasetRecord, dataset_records, get_dataset_record
from experiments.errors import ExperimentError
from experiments.files import write_atomically

_BATCH = 32
_NUMBERS = ("classes", "examples", "download")
_LAST = "how to get it"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """List the data sets, whether they are ready here, and how to get them."""

    name: tyro.conf.Positional[str | None] = None
    """Only this one, with the reason if it is not ready."""
    data_dir: Path | None = None
    """Where to look; by default TFDS_DATA_DIR or ~/tensorflow_datasets for those of
    TensorFlow Datasets, and nowhere for folders."""
    kind: Literal["image", "text"] | None = None
    """Only those that hold images, or text."""
    show: str | None = None
    """Draw a batch of training images of this data set, augmented, into --out."""
    out: Path | None = None
    """PNG file for --show; by default the data set's name."""


def size_of(record: DatasetRecord) -> str:
    """Bytes to download, in the largest unit that gives at least 1.

    Args:
      record: of the data set.

    Returns:
      Three digits and a unit; empty if nothing is downloaded or it is not known.
    """
    if record.size is None:
        return ""
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if record.size >= length:
            return f"{record.size / length:.3g} {unit}"
    return f"{record.size} B"


def rows(
    records: Sequence[DatasetRecord], data_dir: Path | None
) -> list[dict[str, str]]:
    """What the table says of each data set, by column.

    Args:
      records: of the data sets.
      data_dir: where to look for them.

    Returns:
      Column to cell, one for each record.
    """
    return [
        {
            "name": record.name,
            "kind": record.kind,
            "classes": "" if record.classes is None else str(record.classes),
            "examples": record.examples,
            "download": size_of(record),
            "ready": "yes" if record.ready(data_dir) else "no",
            "how to get it": record.how,
        }
        for record in records
    ]


def table(cells: Sequence[dict[str, str]]) -> Table:
    """The data sets, one row each, for a terminal.

    Args:
      cells: the rows.

    Returns:
      A table to print.
    """
    found = Table(show_edge=False, pad_edge=False)
    for column in cells[0]:
        right = column in _NUMBERS
        found.add_column(
            column, justify="right" if right else "left", no_wrap=column != _LAST
        )
    for row in cells:
        found.add_row(*row.values())
    return found


def lines(cells: Sequence[dict[str, str]]) -> list[str]:
    """The same without a frame, a data set a line, for files and other programs.

    Args:
      cells: the rows.

    Returns:
      The lines, of which the first names the columns.
    """
    table = [list(cells[0]), *(list(row.values()) for row in cells)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]


def describe(record: DatasetRecord, data_dir: Path | None, console: Console) -> None:
    """Prints what is known of one data set.

    Args:
      record: of the data set.
      data_dir: where to look for it.
      console: to print to.
    """
    reason = record.missing(data_dir)
    rows = {
        "name": record.name,
        "kind": record.kind,
        "classes": "" if record.classes is None else str(record.classes),
        "examples": record.examples,
        "download": size_of(record),
        "source": record.source,
        "how to get it": record.how,
        "ready": f"no: {reason}" if reason else "yes",
    }
    for title, value in rows.items():
        if value:
            console.print(f"{title:14}{value}", markup=False, soft_wrap=True)


def main(arguments: Sequence[str]) -> int:
    """Prints the table, or shows a batch.

    Args:
      arguments: what stands after the command.

    Returns:
      The exit status.
    """
    config = parse(Arguments, arguments, command="datasets")
    console = table_console()
    if config.show is not None:
        path = _show(config.show, config)
        print(f"wrote {path}")
        return 0
    if config.out is not None:
        raise ExperimentError("--out goes with --show NAME")
    if config.name is not None:
        record = get_dataset_record(config.name, config.kind)
        describe(record, config.data_dir, console)
        return 0
    records = dataset_records().values()
    wanted = [found for found in records if config.kind in (None, found.kind)]
    cells = rows(wanted, config.data_dir)
    if console.is_terminal:
        console.print(table(cells))
    else:
        print("\n".join(lines(cells)))
    return 0


def _show(name: str, config: Arguments) -> Path:
    """Draws the first training batch of seed 0, augmented, with its labels."""
    import jax

    from experiments.data import Dataset, load_images, train_batches
    from experiments.data._figure import figure

    get_dataset_record(name, "image")
    data = load_images(name, config.data_dir)
    size = min(_BATCH, len(data.train))
    images, labels = next(train_batches(data, size, seed=0, epochs=1))
    if isinstance(data, Dataset):  # which is augmented where it is trained on
        images = np.asarray(data.augment(jax.random.key(0), images))
    path = config.out or Path(f"{name.replace('/', '_')}.png")
    content = io.BytesIO()
    figure((images, labels), data).savefig(content, format="png", dpi=150)
    write_atomically(path, content.getvalue())
    return path
