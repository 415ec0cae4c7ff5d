"""What the layouts of image folders share: their parts, and the lists beside them."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from experiments.data._dataset import Records
from experiments.data._lines import lines_of
from experiments.data._recipes import make_records
from experiments.data.folders._image_files import Entry, ImageFiles
from experiments.data.folders._labels_file import LabelRow
from experiments.errors import ExperimentError

_SPLIT_SEED = 0
_HELD_OUT = 0.1


def entry_records(
    name: str,
    train: Sequence[Entry],
    test: Sequence[Entry],
    num_classes: int,
    size: tuple[int, int],
    validation: Sequence[Entry] = (),
) -> Records:
    """Images of one label each; validation is held out of training if it is empty."""
    if not validation:
        train, validation = hold_out(train, _HELD_OUT)
    for part, entries in (("validation", validation), ("test", test)):
        if not entries:
            raise ExperimentError(
                f"{name}: the {part} split is empty: too few images of every class"
            )
    return make_records(
        name,
        num_classes=num_classes,
        image_shape=(*size, 3),
        train=ImageFiles(train, size),
        validation=ImageFiles(validation, size),
        test=ImageFiles(test, size),
    )


def hold_out(entries: Sequence[Entry], share: float) -> tuple[list[Entry], list[Entry]]:
    """What is left and what is held out, the same share of every class, in order."""
    labels = np.array([entry.label for entry in entries])
    generator = np.random.default_rng(_SPLIT_SEED)
    held = np.zeros(len(entries), bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        held[members[: round(share * len(members))]] = True
    kept = [entry for entry, out in zip(entries, held, strict=True) if not out]
    return kept, [entry for entry, out in zip(entries, held, strict=True) if out]


def row_entry(images: Path, row: LabelRow, label: int | np.ndarray) -> Entry:
    """A row's image with its label."""
    return Entry(str(images / row.name), label, row.place)


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a file that are not empty, with their numbers."""
    numbered = lines_of(path)
    return [(number, line.strip("\r\n")) for number, line in numbered if line.strip()]


def label_numbers(path: Path) -> dict[str, int]:
    """The labels of a file, one a line, numbered from 0."""
    numbers: dict[str, int] = {}
    for line, text in numbered_lines(path):
        label = text.strip()
        if label in numbers:
            raise ExperimentError(f"{path}, line {line}: {label!r} stands there twice")
        numbers[label] = len(numbers)
    check_classes(path, numbers)
    return numbers


def check_classes(place: Path, names: Collection[str]) -> None:
    """Checks that there is something to tell apart.

    Args:
      place: where the names of the classes stand, for the message.
      names: of the classes.

    Raises:
      ExperimentError: if they are fewer than two.
    """
    if len(names) < 2:
        raise ExperimentError(
            f"{place} must name at least 2 classes, got {len(names)}"
            + "".join(f": {name!r}" for name in names)
        )
