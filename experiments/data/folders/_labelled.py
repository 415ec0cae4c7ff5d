"""Any folder of images with a table of labels."""

from collections.abc import Sequence
from pathlib import Path

from experiments.data._dataset import Records
from experiments.data.folders._image_files import read_image
from experiments.data.folders._labels_file import LabelRow, read_labels
from experiments.data.folders._layout import (
    check_classes,
    entry_records,
    hold_out,
    label_numbers,
    row_entry,
)
from experiments.errors import ExperimentError


def labelled_folder(root: Path) -> Records:
    """Any folder of images of one size, with a table of their labels.

    ``labels.csv`` has the columns ``file``, relative to the folder, ``label``, and, if
    wanted, ``split``: train, validation or test. Without a split column it is 80, 10
    and 10 per cent of every class; without validation rows a tenth of training is held
    out. Classes are those of the training images, sorted, or the lines of
    ``classes.txt``.

    Args:
      root: the folder.

    Returns:
      The data set.
    """
    table = root / "labels.csv"
    rows = read_labels(table, root, name_column="file", columns=("label",))
    parts = _parts(rows)
    if not parts["train"]:
        raise ExperimentError(f"{table}: the train split is empty")
    names = root / "classes.txt"
    if names.exists():
        numbers = label_numbers(names)
    else:
        known = {row.cells["label"] for row in parts["train"]}
        check_classes(table, known)
        numbers = {label: number for number, label in enumerate(_sorted(known))}
    train, validation, test = (
        [row_entry(root, row, row.choose("label", numbers)) for row in parts[name]]
        for name in ("train", "validation", "test")
    )
    height, width, _ = read_image(train[0]).shape
    if not test:
        if "split" in rows[0].cells:
            raise ExperimentError(f"{table}: the test split is empty")
        train, test = hold_out(train, 0.1)
        train, validation = hold_out(train, 1 / 9)
    return entry_records(
        "folder", train, test, len(numbers), (height, width), validation
    )


def _parts(rows: Sequence[LabelRow]) -> dict[str, list[LabelRow]]:
    """The rows by their split; all in training if they have none."""
    choices = {"train": 0, "validation": 1, "val": 1, "valid": 1, "test": 2}
    parts: dict[str, list[LabelRow]] = {"train": [], "validation": [], "test": []}
    names = list(parts)
    for row in rows:
        chosen = row.choose("split", choices) if "split" in row.cells else 0
        parts[names[chosen]].append(row)
    return parts


def _sorted(labels: set[str]) -> list[str]:
    """By number where all are numbers, by name otherwise."""
    if all(label.isdecimal() for label in labels):
        return sorted(labels, key=int)
    return sorted(labels)
