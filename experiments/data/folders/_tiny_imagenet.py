"""Tiny-ImageNet, as it is unpacked."""

from pathlib import Path

from experiments.data._dataset import Records
from experiments.data.folders._image_files import Entry, image_names
from experiments.data.folders._layout import (
    entry_records,
    label_numbers,
    numbered_lines,
)
from experiments.errors import ExperimentError


def tiny_imagenet(root: Path) -> Records:
    """Tiny-ImageNet: 200 classes of 64x64 pixels.

    The labels of its own test images were never published, so its validation images
    are the test part here, as everywhere, and a tenth of training is held out.

    Args:
      root: the folder of ``wnids.txt``.

    Returns:
      The data set.
    """
    numbers = label_numbers(root / "wnids.txt")
    train = []
    for wnid, number in numbers.items():
        images = root / "train" / wnid / "images"
        names = image_names(images)
        if not names:
            raise ExperimentError(f"{images} holds no images: an empty class")
        train += [Entry(str(images / name), number) for name in names]
    test = _tiny_imagenet_validation(root / "val", numbers)
    return entry_records("tiny_imagenet", train, test, len(numbers), (64, 64))


def _tiny_imagenet_validation(folder: Path, numbers: dict[str, int]) -> list[Entry]:
    """The images of ``val_annotations.txt``: name, class and a box, by tabs."""
    table = folder / "val_annotations.txt"
    present = frozenset(image_names(folder / "images"))
    entries, lines = [], {}
    for line, text in numbered_lines(table):
        place = f"{table}, line {line}"
        name, wnid, *_ = (*text.split("\t"), "", "")
        if not wnid:
            raise ExperimentError(f"{place}: expected a name and a class")
        if wnid not in numbers:
            raise ExperimentError(
                f"{place}: unknown label {wnid!r}; wnids.txt lacks it"
            )
        if name in lines:
            raise ExperimentError(
                f"{place}: {name!r} was already on line {lines[name]}"
            )
        path = folder / "images" / name
        if name not in present:
            raise ExperimentError(f"{place}: there is no image {path}")
        lines[name] = line
        entries.append(Entry(str(path), numbers[wnid], place))
    if not entries:
        raise ExperimentError(f"{table} names no images: an empty test split")
    return entries
