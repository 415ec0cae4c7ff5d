"""Every data set by name: one record each, of images and of text.

A new one is a record in the list of :func:`_all_records`.
"""

import functools
from pathlib import Path
from typing import Any

from experiments.data._dataset import Dataset, Records
from experiments.data._digits import digits
from experiments.data._recipes import RECIPES
from experiments.data._record import DatasetRecord, Kind
from experiments.data._tfds import SOURCES, prepared_records, tfds_records
from experiments.data.folders import FOLDERS, load_folder
from experiments.data.text import list_corpora, load_corpus
from experiments.data.text._files import LAYOUTS, find_layout, find_own
from experiments.data.text._load import OWN
from experiments.errors import ExperimentError, unknown

_EXAMPLES = {  # as published: Merity et al., 2016, table 1, for text
    "tiny_imagenet": "100,000 + 10,000",
    "mhist": "2,175 + 977",
    "adp": "17,668",
    "ptb": "929,590 + 73,761 + 82,431 tokens",
    "wikitext2": "2,088,628 + 217,646 + 245,569 tokens",
    "wikitext103": "103,227,021 + 217,646 + 245,569 tokens",
}
_BYTES = {"tiny_imagenet": 248_100_043}


def _all_records() -> list[DatasetRecord]:
    return [
        DatasetRecord(
            name="digits",
            kind="image",
            examples="897 + 450 + 450",
            size=None,
            classes=10,
            source="scikit-learn: Alpaydin and Kaynak, 1998",
            how="comes with scikit-learn",
            missing=_never,
            load=lambda data_dir: digits(),
        ),
        *tfds_records(),
        *map(_folder_record, FOLDERS),
        *map(_text_record, list_corpora()),
    ]


@functools.cache
def dataset_records() -> dict[str, DatasetRecord]:
    """The registry: name to record, images first."""
    return {record.name: record for record in _all_records()}


def get_dataset_record(name: str, kind: Kind | None = None) -> DatasetRecord:
    """The record of a data set.

    Args:
      name: of the data set.
      kind: what it must hold; None takes any.

    Returns:
      The record.

    Raises:
      ExperimentError: if there is none, naming the choices.
    """
    records = dataset_records()
    known = [found.name for found in records.values() if kind in (None, found.kind)]
    if name not in known:
        raise unknown("dataset", name, known)
    return records[name]


def list_datasets() -> list[str]:
    """Names that :func:`load_dataset` takes: what fits in memory."""
    return ["digits", *sorted(name for name in SOURCES if SOURCES[name].augment)]


@functools.cache
def load_dataset(name: str, data_dir: Path | None = None) -> Dataset:
    """A data set in memory, loaded once.

    Args:
      name: one of :func:`list_datasets`.
      data_dir: where it was prepared; None is where TensorFlow Datasets puts it by
        itself (``$TFDS_DATA_DIR`` or ``~/tensorflow_datasets``). What is embedded
        needs none.

    Returns:
      The data set.

    Raises:
      ExperimentError: if there is no such data set, naming the choices; or if it is
        not prepared there, with the command that does it.
    """
    if name not in list_datasets():
        if name in dataset_records():
            raise ExperimentError(
                f"--dataset must fit in memory here, got {name}; choose one of: "
                f"{', '.join(list_datasets())}"
            )
        raise unknown("dataset", name, list_datasets())
    return get_dataset_record(name).load(data_dir)


@functools.cache
def load_images(name: str, data_dir: Path | None = None) -> Dataset | Records:
    """Any data set of images: arrays if it fits in memory, records if not.

    Args:
      name: an image data set of the registry.
      data_dir: where it is; None as in :func:`load_dataset`.

    Returns:
      The data set.

    Raises:
      ExperimentError: if there is no such data set, or it is not ready there.
    """
    if name in list_datasets():
        return load_dataset(name, data_dir)
    return get_dataset_record(name, "image").load(data_dir)


@functools.cache
def load_records(name: str, data_dir: Path | None = None) -> Records:
    """A data set of images as records, even if it would fit in memory.

    Args:
      name: an image data set of the registry.
      data_dir: where it is; None as in :func:`load_dataset`.

    Returns:
      The data set.

    Raises:
      ExperimentError: if there is no such data set, if it is only read as arrays, or
        if it is not ready there.
    """
    record = get_dataset_record(name, "image")
    if name in list_datasets() and name not in RECIPES:
        read_so = [
            known.name
            for known in dataset_records().values()
            if known.kind == "image"
            and (known.name in RECIPES or known.name not in list_datasets())
        ]
        raise ExperimentError(
            f"{name} is read into memory, not as records, which --crop takes; choose "
            f"one of: {', '.join(read_so)}"
        )
    if name in SOURCES:
        return prepared_records(name, data_dir)
    return record.load(data_dir)


def _folder_record(name: str) -> DatasetRecord:
    folder = FOLDERS[name]

    def load(data_dir: Path | None) -> Records:
        return load_folder(name, data_dir)

    return DatasetRecord(
        name=name,
        kind="image",
        examples=_EXAMPLES.get(name, ""),
        size=_BYTES.get(name),
        classes=folder.num_classes,
        source="yours" if name == "folder" else "a folder, as published",
        how=f"--data-dir: a folder with {folder.needs}; {folder.source}",
        missing=functools.partial(_reason, load),
        load=load,
    )


def _text_record(name: str) -> DatasetRecord:
    if name in LAYOUTS:
        layout = LAYOUTS[name]
        source = layout.title
        how = f"--data-dir: a folder with {layout.needs}; {layout.source}"
        missing = functools.partial(_reason, functools.partial(find_layout, name))
    elif name == OWN:
        source, how = (
            "yours",
            "--data-dir: a folder with train.txt, valid.txt and test.txt",
        )
        missing = functools.partial(_reason, _find_own)
    else:
        source, how = "pydoc_data.topics", "comes with Python"
        missing = _never
    return DatasetRecord(
        name=name,
        kind="text",
        examples=_EXAMPLES.get(name, ""),
        size=None,
        classes=None,
        source=source,
        how=how,
        missing=missing,
        load=functools.partial(load_corpus, name),
    )


def _find_own(data_dir: Path | None) -> Any:
    if data_dir is None:
        raise ExperimentError("a folder of text needs --data-dir")
    return find_own(data_dir)


def _reason(find: Any, data_dir: Path | None) -> str:
    """Why something is not found; empty if it is."""
    try:
        find(data_dir)
    except ExperimentError as error:
        return str(error)
    return ""


def _never(data_dir: Path | None) -> str:
    del data_dir
    return ""
