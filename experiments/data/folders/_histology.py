"""P4's images of tissue: MHIST and ADP, a table and a folder each."""

from pathlib import Path

import numpy as np

from experiments.data._dataset import Records
from experiments.data._recipes import make_records
from experiments.data.folders._image_files import Entry, ImageFiles
from experiments.data.folders._labels_file import read_labels
from experiments.data.folders._layout import entry_records, row_entry
from experiments.errors import ExperimentError

MHIST_CLASSES = ("HP", "SSA")

ADP_CLASSES = (
    *("E.M.S", "E.M.C", "E.T.S", "E.T.C", "C.D.I", "C.D.R", "C.L", "H.E", "H.K"),
    *("H.Y", "S.M", "S.C", "S.R", "A.W", "A.M", "M", "N.P", "N.R", "N.G.M", "G.O"),
    *("G.N", "T"),
)
"""The 22 tissue types that have no narrower one: those P4 trains on."""

_SPLIT_SEED = 0


def mhist(root: Path) -> Records:
    """MHIST: colorectal polyps of 224x224 pixels, HP or SSA by majority of seven.

    Args:
      root: the folder of ``annotations.csv`` and ``images``.

    Returns:
      The data set.

    References:
      Wei et al., `A Petri Dish for Histopathology Image Analysis
      <https://arxiv.org/abs/2101.12355>`_, 2021.
    """
    table, images = root / "annotations.csv", root / "images"
    label, part = "Majority Vote Label", "Partition"
    rows = read_labels(table, images, name_column="Image Name", columns=(label, part))
    numbers = {name: number for number, name in enumerate(MHIST_CLASSES)}
    parts: tuple[list[Entry], list[Entry]] = ([], [])
    for row in rows:
        chosen = parts[row.choose(part, {"train": 0, "test": 1})]
        chosen.append(row_entry(images, row, row.choose(label, numbers)))
    for name, entries in zip(("train", "test"), parts, strict=True):
        if not entries:
            raise ExperimentError(f"{table}: no row of partition {name!r}")
    return entry_records("mhist", *parts, len(MHIST_CLASSES), (224, 224))


def adp(root: Path) -> Records:
    """ADP: patches of tissue, 272x272 pixels, of several types at once.

    The release has no split of its own. Where its authors' ``splits/train.npy``,
    ``valid.npy`` and ``test.npy``, numbers of rows, are in the folder they are used;
    else it is 80, 10 and 10 per cent, drawn with seed 0.

    Args:
      root: the folder of the table and of ``img_res_1um_bicubic``.

    Returns:
      The data set.

    References:
      Hosseini et al., `Atlas of Digital Pathology
      <https://www.dsp.utoronto.ca/projects/ADP/>`_, CVPR 2019.
    """
    table = root / "ADP_EncodedLabels_Release1_Flat.csv"
    images = root / "img_res_1um_bicubic"
    rows = read_labels(table, images, name_column="Patch Names", columns=ADP_CLASSES)
    bits = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
    entries = [
        row_entry(
            images,
            row,
            np.array([row.choose(name, bits) for name in ADP_CLASSES], np.float32),
        )
        for row in rows
    ]
    every = ImageFiles(entries, (272, 272))
    train, validation, test = _adp_split(root / "splits", len(entries))
    return make_records(
        "adp",
        num_classes=len(ADP_CLASSES),
        image_shape=(272, 272, 3),
        train=every.take(train),
        validation=every.take(validation),
        test=every.take(test),
        multilabel=True,
    )


def _adp_split(folder: Path, size: int) -> list[np.ndarray]:
    """Numbers of rows for training, validation and test."""
    if not folder.is_dir():
        order = np.random.default_rng(_SPLIT_SEED).permutation(size)
        parts = np.split(order, [round(0.8 * size), round(0.9 * size)])
    else:
        parts = []
        for name in ("train.npy", "valid.npy", "test.npy"):
            try:
                part = np.load(folder / name, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise ExperimentError(f"cannot read {folder / name}: {error}") from None
            if part.ndim != 1 or part.dtype.kind not in "iu":
                raise ExperimentError(f"{folder / name} holds no list of row numbers")
            if part.size and not 0 <= part.min() <= part.max() < size:
                raise ExperimentError(
                    f"{folder / name}: row numbers must be between 0 and {size - 1}, "
                    f"got {part.min()} to {part.max()}"
                )
            parts.append(part)
        every = np.concatenate(parts)
        if len(np.unique(every)) < len(every):
            raise ExperimentError(f"{folder}: a row is in two places of the split")
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if not len(part):
            raise ExperimentError(f"adp: the {name} split of {size} images is empty")
    return parts
