"""Data sets from folders of images, in the layouts they are published in.

Nothing is loaded but names and labels; images are decoded as they are needed. Where a
data set has no validation part, a tenth of its training images is held out, the same
share of every class, once and for all (seed 0).
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from experiments.data._dataset import Records
from experiments.data.folders._histology import ADP_CLASSES, adp, mhist
from experiments.data.folders._labelled import labelled_folder
from experiments.data.folders._tiny_imagenet import tiny_imagenet
from experiments.errors import ExperimentError


@dataclasses.dataclass(frozen=True)
class Folder:
    """A data set that is read from a folder of images.

    Attributes:
      load: from the folder to the data set.
      files: what must be there; the first says where the others are.
      source: where it can be had.
      below: the folder that archives unpack to, which may be in the one given.
      num_classes: number of labels; None if the folder says.
      image_shape: of its images; None if the folder says.
    """

    load: Callable[[Path], Records]
    files: tuple[str, ...]
    source: str
    below: str = "."
    num_classes: int | None = None
    image_shape: tuple[int, int, int] | None = None

    @property
    def needs(self) -> str:
        """What must be there, for messages."""
        *others, last = self.files
        return f"{', '.join(others)} and {last}" if others else last


def find_folder(name: str, data_dir: Path | None) -> Path:
    """Where a data set is, without reading it.

    Args:
      name: one of :data:`FOLDERS`.
      data_dir: the folder, or the one that holds it; there is no default.

    Returns:
      The folder of its files.

    Raises:
      ExperimentError: if it is not there, saying what is needed and where it can be
        had.
    """
    known = FOLDERS[name]
    advice = f"a folder with {known.needs}; {known.source}"
    if data_dir is None:
        raise ExperimentError(f"{name} needs --data-dir, {advice}")
    data_dir = data_dir.expanduser()
    if not data_dir.is_dir():
        raise ExperimentError(
            f"--data-dir {data_dir} is no folder; {name} needs {advice}"
        )
    first = known.files[0]
    places = (data_dir, data_dir / known.below)
    root = next((place for place in places if (place / first).exists()), data_dir)
    for needed in known.files:
        if not (root / needed).exists():
            raise ExperimentError(
                f"there is no {needed} in {root}; {name} needs {advice}"
            )
    return root


def load_folder(name: str, data_dir: Path | None) -> Records:
    """Reads the names and labels of a data set.

    Args:
      name: one of :data:`FOLDERS`.
      data_dir: the folder, or the one that holds it; there is no default.

    Returns:
      The data set.

    Raises:
      ExperimentError: as :func:`find_folder`; or if something in it is wrong or
        missing, naming file and line.
    """
    return FOLDERS[name].load(find_folder(name, data_dir))


FOLDERS = {
    "tiny_imagenet": Folder(
        tiny_imagenet,
        ("wnids.txt", "train", "val/val_annotations.txt", "val/images"),
        "unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip there",
        "tiny-imagenet-200",
        200,
        (64, 64, 3),
    ),
    "mhist": Folder(
        mhist,
        ("annotations.csv", "images"),
        "ask for it at https://bmirds.github.io/MHIST/",
        num_classes=2,
        image_shape=(224, 224, 3),
    ),
    "adp": Folder(
        adp,
        ("ADP_EncodedLabels_Release1_Flat.csv", "img_res_1um_bicubic"),
        "ask for it at https://www.dsp.utoronto.ca/projects/ADP/",
        "ADP V1.0 Release",
        len(ADP_CLASSES),
        (272, 272, 3),
    ),
    "folder": Folder(
        labelled_folder,
        ("labels.csv",),
        "its columns are file, label and, if wanted, split",
    ),
}
