"""``python -m experiments prepare``: downloads a data set and writes it for reading."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from experiments.cli import parse
from experiments.data import dataset_records
from experiments.data.prepare import PREPARATIONS, prepare
from experiments.errors import ExperimentError, unknown


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Download a data set and write it in the format of TensorFlow Datasets.

    TensorFlow is not needed. What was interrupted is begun again by the same command;
    files that were downloaded whole are kept in DATA_DIR/downloads and used again.
    Without the network, put the published files into a folder and name it by
    --manual-dir.
    """

    name: tyro.conf.Positional[str]
    """Data set, by name; 'python -m experiments datasets' lists them."""
    data_dir: Path | None = None
    """Where to; by default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    manual_dir: Path | None = None
    """Folder with published files that are not to be downloaded; imagenet2012 needs
    ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar."""


def main(arguments: Sequence[str]) -> int:
    """Prepares one data set.

    Args:
      arguments: what stands after the command.

    Returns:
      The exit status.
    """
    config = parse(Arguments, arguments, command="prepare")
    if config.name not in PREPARATIONS:
        known = dataset_records().get(config.name)
        if known is not None:
            raise ExperimentError(
                f"{config.name} is none to prepare; how to get it: {known.how}"
            )
        raise unknown("dataset to prepare", config.name, PREPARATIONS)
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    done = prepare(config.name, config.data_dir, config.manual_dir)
    counts = ", ".join(f"{split} {count:,}" for split, count in done.examples.items())
    state = "already prepared" if done.before else "prepared"
    print(f"{config.name}: {state} in {done.folder} ({counts})")
    return 0
