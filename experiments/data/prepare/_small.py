"""MNIST and its kin, CIFAR and SVHN: arrays of small images in one file or a few."""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from experiments.data.prepare._archive import (
    Examples,
    Preparation,
    check_label,
    png,
    reading,
    tar_members,
)
from experiments.errors import ExperimentError

_PIXELS = 3 * 32 * 32


def _idx(path: Path, magic: int, dimensions: int) -> np.ndarray:
    """An array of bytes in LeCun's format: a magic number, the sizes, the data."""
    with reading(path), gzip.open(path) as file:
        content = file.read()
    header = np.frombuffer(content[: 4 * (1 + dimensions)], ">i4")
    data = np.frombuffer(content, np.uint8, offset=header.nbytes)
    if len(header) != 1 + dimensions or header[0] != magic:
        raise ExperimentError(f"{path} is no IDX file of {dimensions} dimensions")
    if len(data) != np.prod(header[1:], dtype=np.int64):
        raise ExperimentError(
            f"{path} is truncated: {len(data)} values after the header, expected "
            f"{' x '.join(map(str, header[1:]))}"
        )
    return data.reshape(header[1:])


def _mnist_split(images_path: Path, labels_path: Path) -> Examples:
    images, labels = _idx(images_path, 2051, 3), _idx(labels_path, 2049, 1)
    if images.shape != (len(labels), 28, 28):
        raise ExperimentError(
            f"{images_path} holds images of {images.shape}, expected "
            f"{(len(labels), 28, 28)}, one for each label"
        )
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = f"{labels_path}, record {index}"
        yield (
            index,
            {"image": png(image[..., None]), "label": check_label(label, 10, place)},
        )


def _mnist(files: Mapping[str, Path], features: Any) -> dict[str, Examples]:
    del features
    train, test = (
        _mnist_split(
            files[f"{part}-images-idx3-ubyte.gz"], files[f"{part}-labels-idx1-ubyte.gz"]
        )
        for part in ("train", "t10k")
    )
    return {"train": train, "test": test}


MNIST = Preparation(
    (
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ),
    _mnist,
)


def _cifar_split(
    parts: list[tuple[str, bytes]], prefix: str, labels: list[str], features: Any
) -> Examples:
    """Records of one byte for each label, then the image, a channel after another."""
    length, number = len(labels) + _PIXELS, 0
    for place, content in parts:
        if not content or len(content) % length:
            raise ExperimentError(
                f"{place} is truncated: {len(content)} bytes are not a multiple of "
                f"{length}, a record"
            )
        for record in np.frombuffer(content, np.uint8).reshape(-1, length):
            where = f"{place}, record {number}"
            example = {
                key: check_label(int(value), features[key].num_classes, where)
                for key, value in zip(labels, record, strict=False)
            }
            image = record[len(labels) :].reshape(3, 32, 32).transpose(1, 2, 0)
            yield (
                number,
                {**example, "id": f"{prefix}{number:05d}", "image": png(image)},
            )
            number += 1


def _cifar(
    path: Path,
    features: Any,
    folder: str,
    train: list[str],
    test: list[str],
    names: dict[str, str],
) -> dict[str, Examples]:
    wanted = [f"{folder}/{name}" for name in (*train, *test, *names.values())]
    found = {name: data for name, data in tar_members(path) if name in wanted}
    for name in wanted:
        if name not in found:
            raise ExperimentError(f"{path} has no {name}")
    for key, name in names.items():
        lines = found[f"{folder}/{name}"].decode().split("\n")
        with reading(path):  # a wrong number of names
            features[key].names = [line for line in lines if line]

    def split(files: list[str], prefix: str) -> Examples:
        parts = [(f"{path}: {name}", found[f"{folder}/{name}"]) for name in files]
        return _cifar_split(parts, prefix, list(names), features)

    return {"train": split(train, "train_"), "test": split(test, "test_")}


def _cifar10(files: Mapping[str, Path], features: Any) -> dict[str, Examples]:
    return _cifar(
        files["cifar-10-binary.tar.gz"],
        features,
        "cifar-10-batches-bin",
        [f"data_batch_{number}.bin" for number in range(1, 6)],
        ["test_batch.bin"],
        {"label": "batches.meta.txt"},
    )


def _cifar100(files: Mapping[str, Path], features: Any) -> dict[str, Examples]:
    return _cifar(
        files["cifar-100-binary.tar.gz"],
        features,
        "cifar-100-binary",
        ["train.bin"],
        ["test.bin"],
        {"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"},
    )


CIFAR10 = Preparation(("cifar-10-binary.tar.gz",), _cifar10)
CIFAR100 = Preparation(("cifar-100-binary.tar.gz",), _cifar100)


def _svhn_split(path: Path, prefix: str) -> Examples:
    """Images ``X`` (32, 32, 3, n), labels ``y`` from 1 to 10, which stands for 0."""
    with reading(path):
        try:
            data = scipy.io.loadmat(path, variable_names=("X", "y"))
        except (TypeError, NotImplementedError) as error:  # no .mat, or another version
            raise ValueError(str(error)) from error
        images, labels = data["X"], data["y"].reshape(-1)
    if images.shape != (32, 32, 3, len(labels)) or images.dtype != np.uint8:
        raise ExperimentError(
            f"{path} holds images of {images.shape} and {images.dtype}, expected "
            f"{(32, 32, 3, len(labels))}, one for each label, and uint8"
        )
    for index, label in enumerate(labels):
        check_label(int(label) - 1, 10, f"{path}, record {index} (counted from 0)")
        yield (
            index,
            {
                "image": png(images[..., index]),
                "label": int(label) % 10,
                "id": f"{prefix}{index:06d}",
            },
        )


def _svhn(files: Mapping[str, Path], features: Any) -> dict[str, Examples]:
    del features
    return {
        split: _svhn_split(files[f"{split}_32x32.mat"], f"{split}_")
        for split in ("train", "test", "extra")
    }


SVHN = Preparation(("train_32x32.mat", "test_32x32.mat", "extra_32x32.mat"), _svhn)
