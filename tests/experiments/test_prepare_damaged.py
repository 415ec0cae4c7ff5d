"""Published archives with something wrong inside: which file, which record."""

import tarfile

import numpy as np
import pytest

from experiments.data import load_images
from experiments.data.prepare import prepare
from experiments.errors import ExperimentError
from tests.experiments import archives
from tests.experiments.serving import WRITERS, partial_files


def truncate(content):
    return content[:-100]


@pytest.mark.parametrize(
    ("name", "member", "change", "message"),
    [
        ("cifar10", "test_batch.bin", truncate, "test_batch.bin is truncated"),
        (
            "cifar10",
            "data_batch_2.bin",
            lambda content: content[: 3073 * 3] + b"\x0b" + content[3073 * 3 + 1 :],
            "data_batch_2.bin, record 23: unknown label 11, expected 0 to 9",
        ),
        ("cifar10", "data_batch_3.bin", None, "has no cifar-10.*data_batch_3.bin"),
        ("cifar10", "data_batch_3.bin", lambda content: b"", "truncated: 0 bytes"),
        ("cifar10", "batches.meta.txt", lambda content: b"a\nb\n", "10"),
    ],
    ids=["truncated", "label", "missing", "empty", "names"],
)
def test_damage_inside_an_archive_is_named(
    name, member, change, message, server, tmp_path
):
    archives.cifar(server.folder)
    path = server.folder / "cifar-10-binary.tar.gz"
    with tarfile.open(path) as archive:
        members = {
            entry.name: archive.extractfile(entry).read()
            for entry in archive.getmembers()
        }
    with tarfile.open(path, "w:gz") as archive:
        for entry, content in members.items():
            if not entry.endswith(member):
                archives.add(archive, entry, content)
            elif change is not None:
                archives.add(archive, entry, change(content))
    with pytest.raises(ExperimentError, match=message) as info:
        prepare(name, tmp_path / "data", archives=server.archives(name))
    assert "\n" not in str(info.value)
    assert not partial_files(tmp_path / "data")
    with pytest.raises(ExperimentError, match=f"{name} is not prepared"):
        load_images(name, tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("mnist", "train-images-idx3-ubyte.gz", b"no gzip", "cannot read .*gzip"),
        (
            "mnist",
            "train-labels-idx1-ubyte.gz",
            archives.idx(np.full(30, 12, np.uint8)),
            "record 0: unknown label 12",
        ),
        (
            "mnist",
            "t10k-images-idx3-ubyte.gz",
            archives.idx(np.zeros((20, 28, 27), np.uint8)),
            r"\(20, 28, 27\), expected \(20, 28, 28\)",
        ),
        ("svhn_cropped", "test_32x32.mat", b"MATLAB?" * 40, "cannot read .*test_32x32"),
        ("imagenet_resized/32x32", "Imagenet32_val_npz.zip", b"", "cannot read .*zip"),
        (
            "downsampled_imagenet/32x32",
            "valid_32x32.tar",
            b"x" * 9,
            "cannot read .*tar",
        ),
        ("imagenette", "imagenette2.tgz", b"x" * 99, "cannot read .*tgz"),
    ],
    ids=["gzip", "label", "size", "mat", "zip", "tar", "tgz"],
)
def test_damaged_files_are_named(name, file, content, message, server, tmp_path):
    WRITERS[name](server.folder)
    (server.folder / file).write_bytes(content)
    with pytest.raises(ExperimentError, match=message) as info:
        prepare(name, tmp_path / "data", archives=server.archives(name))
    assert "\n" not in str(info.value)
    assert not partial_files(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "file", "member", "content", "message"),
    [
        (
            "downsampled_imagenet/32x32",
            "valid_32x32.tar",
            "valid_32x32/00000.png",
            archives.jpeg(np.zeros((32, 31, 3), np.uint8), kind="png"),
            "valid_32x32/00000.png: the image is 31x32, expected 32x32",
        ),
        (
            "imagenette",
            "imagenette2.tgz",
            "imagenette2/train/n01440764/a.JPEG",
            b"no image",
            ".tgz: imagenette2/train/n01440764/a.JPEG is no image",
        ),
        (
            "imagenette",
            "imagenette2.tgz",
            "imagenette2/train/n00000000/a.JPEG",
            archives.jpeg(np.zeros((9, 9, 3), np.uint8)),
            "a.JPEG: unknown label 'n00000000'",
        ),
    ],
    ids=["size", "no image", "label"],
)
def test_a_wrong_image_in_an_archive_is_named(
    name, file, member, content, message, server, tmp_path
):
    WRITERS[name](server.folder)
    with tarfile.open(server.folder / file, "w:gz") as archive:
        archives.add(archive, member, content)
    with pytest.raises(ExperimentError, match=message):
        prepare(name, tmp_path / "data", archives=server.archives(name))
    assert not partial_files(tmp_path / "data")


def test_an_archive_without_images_is_an_empty_split(server, tmp_path):
    archives.imagenette(server.folder)
    with tarfile.open(server.folder / "imagenette2.tgz", "w:gz") as archive:
        archives.add(archive, "imagenette2/val/README", b"nothing")
    with pytest.raises(
        ExperimentError, match="imagenette2.*.tgz holds no .*: an empty"
    ):
        prepare("imagenette", tmp_path, archives=server.archives("imagenette"))
