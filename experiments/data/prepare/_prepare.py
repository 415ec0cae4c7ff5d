"""From published files to the directory that TFDS reads, through TFDS's own builder."""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.data._tfds_split import FORMAT, find_builder, open_builder, quiet
from experiments.data.prepare._archive import Archive, Preparation
from experiments.data.prepare._folder import alone, remove_partial
from experiments.data.prepare._imagenet import (
    DOWNSAMPLED_IMAGENET,
    IMAGENET2012,
    IMAGENET_RESIZED,
    IMAGENETTE,
)
from experiments.data.prepare._small import CIFAR10, CIFAR100, MNIST, SVHN
from experiments.errors import ExperimentError, unknown

PREPARATIONS = {
    "mnist": MNIST,
    "fashion_mnist": MNIST,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "svhn_cropped": SVHN,
    "imagenette": IMAGENETTE,
    "imagenet_resized/32x32": IMAGENET_RESIZED,
    "downsampled_imagenet/32x32": DOWNSAMPLED_IMAGENET,
    "imagenet2012": IMAGENET2012,
}

_TIMEOUTS = 20.0, 120.0
"""Seconds for a connection, and for the next bytes."""
_RETRIES = 1


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What is there now.

    Attributes:
      folder: the data set's.
      examples: their numbers, by split.
      before: whether it was there already.
    """

    folder: Path
    examples: dict[str, int]
    before: bool


def prepare(
    name: str,
    data_dir: Path | None,
    manual_dir: Path | None = None,
    *,
    archives: Mapping[str, Archive] | None = None,
) -> Prepared:
    """Downloads a data set and writes it, or finds that it is there.

    A finished download is kept in ``downloads`` and used again; what was interrupted
    is removed, and begun again by the next call. The data set appears under its name
    when it is whole.

    Args:
      name: one of :data:`PREPARATIONS`.
      data_dir: where to; None is TFDS's own directory.
      manual_dir: a folder with published files that need not be downloaded.
      archives: the published files by name; None are those that TFDS knows.

    Returns:
      Where it is and how much.

    Raises:
      ExperimentError: if a file cannot be had, is not what was published, or holds
        what it should not.
    """
    if name not in PREPARATIONS:
        raise unknown("dataset to prepare", name, PREPARATIONS)
    with quiet():
        builder = open_builder(name, data_dir)
        if builder.is_prepared():
            return _found(name, data_dir, before=True)
        files = archives or published(name)
        manual_dir = None if manual_dir is None else manual_dir.expanduser()
        _check_by_hand(name, PREPARATIONS[name], files, manual_dir)
        root, data_path = Path(builder.data_dir_root), Path(builder.data_path)
        downloads = root / "downloads"
        with alone(downloads, name):
            if builder.is_prepared():  # by who held the lock before
                return _found(name, data_dir, before=True)
            remove_partial(downloads, data_path, builder.name)
            try:
                _write(name, root, files, manual_dir)
            finally:
                remove_partial(downloads, data_path, builder.name)
        return _found(name, data_dir, before=False)


def published(name: str) -> dict[str, Archive]:
    """The files of a data set as they were published.

    Args:
      name: one of :data:`PREPARATIONS`.

    Returns:
      File name to address, size and checksum, as TFDS knows them.
    """
    import tensorflow_datasets as tfds

    known: Any = tfds.builder_cls(name.partition("/")[0]).url_infos
    by_name = {url.rpartition("/")[2]: (url, info) for url, info in known.items()}
    found = {}
    for file in PREPARATIONS[name].files:
        url, info = by_name[file]
        found[file] = Archive(url, int(info.size), info.checksum)
    return found


def _check_by_hand(
    name: str,
    preparation: Preparation,
    files: Mapping[str, Archive],
    manual_dir: Path | None,
) -> None:
    """Checks that the folder has what cannot be downloaded, and as large as it was.

    The checksum of 155 GB would take half an hour; a damaged archive shows itself.
    """
    if manual_dir is not None and not manual_dir.is_dir():
        raise ExperimentError(f"--manual-dir {manual_dir} is no folder")
    if not preparation.by_hand:
        return
    wanted = " and ".join(preparation.files)
    if manual_dir is None:
        raise ExperimentError(
            f"{name} cannot be downloaded without an account at "
            f"https://image-net.org/download-images: name a folder with {wanted} by "
            "--manual-dir"
        )
    missing = [file for file in preparation.files if not (manual_dir / file).is_file()]
    if missing:
        raise ExperimentError(
            f"--manual-dir {manual_dir} has no {' and no '.join(missing)}"
        )
    for file in preparation.files:
        size = (manual_dir / file).stat().st_size
        if size != files[file].size:
            raise ExperimentError(
                f"{manual_dir / file} has {size:,} bytes, expected "
                f"{files[file].size:,}: its download was not finished"
            )


def _write(
    name: str, root: Path, files: Mapping[str, Archive], manual_dir: Path | None
) -> None:
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import download_manager, util

    builder = _builder(name, root, files, manual_dir)
    config = tfds.download.DownloadConfig(
        manual_dir=manual_dir,
        try_download_gcs=False,
        force_checksums_validation=True,
    )
    try:
        with _impatient():
            builder.download_and_prepare(download_config=config)
    except download_manager.NonMatchingChecksumError as error:
        # its first lines: which file, what was expected, what was there
        message = " ".join(str(error).partition("To debug")[0].split())
        raise ExperimentError(f"{name}: {message}") from error
    except (requests.RequestException, util.DownloadError) as error:
        hosts = sorted({archive.url.split("/")[2] for archive in files.values()})
        inner: Any = error.args[0] if error.args else error
        reason = " ".join(str(getattr(inner, "reason", inner)).split())
        raise ExperimentError(
            f"cannot download {name} from {', '.join(hosts)}: {reason}; finished files "
            f"are kept, and --manual-dir takes a folder with: {', '.join(files)}"
        ) from error
    except (OSError, RuntimeError) as error:  # a full disk, most often
        reason = " ".join(str(error).split())
        raise ExperimentError(f"cannot write {name} to {root}: {reason}") from error


def _builder(
    name: str, root: Path, files: Mapping[str, Archive], manual_dir: Path | None
) -> Any:
    """TFDS's builder, but for how the published files are read."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered, utils
    from tensorflow_datasets.core.download import checksums

    preparation = PREPARATIONS[name]
    base, _, configuration = name.partition("/")
    real: Any = tfds.builder_cls(base)  # before: this imports and registers it

    def split_generators(self: Any, dl_manager: Any) -> dict[str, Any]:
        if preparation.by_hand:
            assert manual_dir is not None
            paths = {file: manual_dir / file for file in preparation.files}
        else:
            # one after another: where one fails, no other goes on behind its back
            paths = {
                file: Path(dl_manager.download(files[file].url))
                for file in preparation.files
            }
        return preparation.splits(paths, self.info.features)

    members = {
        "_split_generators": split_generators,
        # files beside the real class describe it, and are found by its module
        "__module__": real.__module__,
        "name": real.name,
        # what they print, the caller says better
        "_log_download_bytes": lambda self: None,
        "_log_download_done": lambda self: None,
        "url_infos": {
            archive.url: checksums.UrlInfo(
                size=utils.Size(archive.size), checksum=archive.sha256, filename=file
            )
            for file, archive in files.items()
        },
    }
    with registered.skip_registration():
        without_tensorflow = type(real)(real.__name__, (real,), members)
    extra = {"config": configuration} if configuration else {}
    return without_tensorflow(data_dir=str(root), file_format=FORMAT, **extra)


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """TFDS gives up on a server soon, rather than after minutes or never.

    What it downloads in a thread ends with this context: Ctrl-C waits for no file.
    """
    from tensorflow_datasets.core.download import downloader

    open_url, retries = downloader._open_url, downloader.MAX_RETRIES
    ended = threading.Event()

    @contextlib.contextmanager
    def open_in_time(url: str, **options: Any) -> Iterator[Any]:
        with open_url(url, **options, timeout=_TIMEOUTS) as (response, blocks):
            yield response, itertools.takewhile(lambda _: not ended.is_set(), blocks)

    downloader._open_url, downloader.MAX_RETRIES = open_in_time, _RETRIES
    try:
        yield
    finally:
        ended.set()
        downloader._open_url, downloader.MAX_RETRIES = open_url, retries


def _found(name: str, data_dir: Path | None, *, before: bool) -> Prepared:
    builder = find_builder(name, data_dir)
    splits = builder.info.splits.items()
    examples = {split: info.num_examples for split, info in splits}
    return Prepared(Path(builder.data_dir), examples, before)
