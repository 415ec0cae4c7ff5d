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
      needs: what must be in the folder, for messages.
      source: where it can be had.
      num_classes: number of labels; None if the folder says.
      image_shape: of its images; None if the folder says.
    """

    load: Callable[[Path], Records]
    needs: str
    source: str
    num_classes: int | None = None
    image_shape: tuple[int, int, int] | None = None


def load_folder(name: str, data_dir: Path | None) -> Records:
    """Reads the names and labels of a data set.

    Args:
      name: one of :data:`FOLDERS`.
      data_dir: the folder; there is no default.

    Returns:
      The data set.

    Raises:
      ExperimentError: if there is no folder, or something in it is wrong or missing,
        naming file and line.
    """
    known = FOLDERS[name]
    if data_dir is None:
        raise ExperimentError(
            f"{name} needs --data-dir, a folder with {known.needs}; {known.source}"
        )
    data_dir = data_dir.expanduser()
    if not data_dir.is_dir():
        raise ExperimentError(
            f"--data-dir {data_dir} is no folder; {name} needs one with {known.needs}; "
            f"{known.source}"
        )
    return known.load(data_dir)


FOLDERS = {
    "tiny_imagenet": Folder(
        tiny_imagenet,
        "wnids.txt, train/*/images, val/val_annotations.txt and val/images",
        "unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip there",
        200,
        (64, 64, 3),
    ),
    "mhist": Folder(
        mhist,
        "annotations.csv and images",
        "ask for it at https://bmirds.github.io/MHIST/",
        2,
        (224, 224, 3),
    ),
    "adp": Folder(
        adp,
        "ADP_EncodedLabels_Release1_Flat.csv and img_res_1um_bicubic",
        "ask for it at https://www.dsp.utoronto.ca/projects/ADP/",
        len(ADP_CLASSES),
        (272, 272, 3),
    ),
    "folder": Folder(
        labelled_folder,
        "labels.csv (columns file, label, perhaps split) and the images it names",
        "any images of one size",
    ),
}
