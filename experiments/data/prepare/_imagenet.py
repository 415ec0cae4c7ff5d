"""ImageNet and what is made of it. JPEG files are kept as they are, byte for byte.

Of ImageNet 2012, 22 images in CMYK become RGB and one PNG becomes JPEG, as TFDS does.
"""

import io
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import PIL.Image

from experiments.data.prepare._archive import (
    Examples,
    Preparation,
    check_image,
    check_label,
    png,
    reading,
    tar_members,
)
from experiments.errors import ExperimentError


def _imagenette_split(path: Path, part: str, names: list[str]) -> Examples:
    """``imagenette2/train/n01440764/n01440764_10026.JPEG`` and so on."""
    found = False
    for name, content in tar_members(path):
        pieces = PurePosixPath(name).parts[-3:]
        if len(pieces) < 3 or pieces[0] != part or not name.endswith(".JPEG"):
            continue
        if pieces[1] not in names:
            raise ExperimentError(f"{path}: {name}: unknown label {pieces[1]!r}")
        found = True
        image = check_image(content, f"{path}: {name}")
        yield pieces[2], {"image": image, "label": pieces[1]}
    _check_found(path, found, f"{part}/*/*.JPEG")


def _imagenette(files: Mapping[str, Path], features: Any) -> dict[str, Examples]:
    path, names = files["imagenette2.tgz"], features["label"].names
    return {
        "train": _imagenette_split(path, "train", names),
        "validation": _imagenette_split(path, "val", names),
    }


IMAGENETTE = Preparation(("imagenette2.tgz",), _imagenette)


def _resized_split(path: Path) -> Examples:
    """A zip of npz files: ``data`` (n, 3072), channel by channel, labels from 1."""
    found = False
    with reading(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            content = io.BytesIO(archive.read(member))
            with np.load(content, allow_pickle=False) as arrays:
                data, labels = arrays["data"], arrays["labels"]
            images = data.reshape(len(labels), 3, 32, 32).transpose(0, 2, 3, 1)
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                place = f"{path}: {member.filename}, record {index}"
                label = check_label(int(label) - 1, 1000, place)
                found = True
                yield f"{member.filename}{index}", {"image": png(image), "label": label}
    _check_found(path, found, "*.npz")


def _resized(files: Mapping[str, Path], features: Any) -> dict[str, Examples]:
    del features
    return {
        "train": _resized_split(files["Imagenet32_train_npz.zip"]),
        "validation": _resized_split(files["Imagenet32_val_npz.zip"]),
    }


IMAGENET_RESIZED = Preparation(
    ("Imagenet32_train_npz.zip", "Imagenet32_val_npz.zip"), _resized
)


def _downsampled_split(path: Path) -> Examples:
    found = False
    for name, content in tar_members(path):
        found = True
        yield name, {"image": check_image(content, f"{path}: {name}", (32, 32))}
    _check_found(path, found, "images")


def _downsampled(files: Mapping[str, Path], features: Any) -> dict[str, Examples]:
    del features
    return {
        "train": _downsampled_split(files["train_32x32.tar"]),
        "validation": _downsampled_split(files["valid_32x32.tar"]),
    }


DOWNSAMPLED_IMAGENET = Preparation(("train_32x32.tar", "valid_32x32.tar"), _downsampled)


def _rgb_jpeg(name: str, content: bytes) -> bytes:
    """The file itself, unless it is none of RGB or grey in JPEG."""
    from tensorflow_datasets.datasets.imagenet2012 import (
        imagenet2012_dataset_builder as real,
    )

    if name not in real.CMYK_IMAGES and name not in real.PNG_IMAGES:
        return content
    file = io.BytesIO()
    with PIL.Image.open(io.BytesIO(content)) as picture:
        picture.convert("RGB").save(file, "jpeg", quality=100)
    return file.getvalue()


def _imagenet_train(path: Path, names: list[str]) -> Examples:
    """An archive of archives, one a class, named by it."""
    for member, content in tar_members(path):
        label = PurePosixPath(member).stem
        if label not in names:
            raise ExperimentError(f"{path}: {member}: unknown label {label!r}")
        found = False
        for name, image in _inner_members(path, member, content):
            found = True
            check_image(image, f"{path}: {member}: {name}")
            with reading(path):
                image = _rgb_jpeg(name, image)
            yield name, {"image": image, "label": label, "file_name": name}
        _check_found(path, found, f"images in {member}")


def _inner_members(
    path: Path, member: str, content: bytes
) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for entry in archive:
                file = archive.extractfile(entry) if entry.isfile() else None
                if file is not None:
                    yield entry.name, file.read()
    except (tarfile.TarError, EOFError) as error:
        raise ExperimentError(f"cannot read {path}: {member}: {error}") from error


def _imagenet_validation(path: Path) -> Examples:
    """Labels are TFDS's list, in the order of the images' names."""
    import tensorflow_datasets as tfds

    table = tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt")
    labels = table.read_text().split()
    with reading(path), tarfile.open(path, "r:") as archive:
        names = sorted(member.name for member in archive if member.isfile())
    if len(names) > len(labels):
        raise ExperimentError(
            f"{path} holds {len(names)} images, expected {len(labels)}"
        )
    label_of = dict(zip(names, labels, strict=False))
    for name, content in tar_members(path):
        image = check_image(content, f"{path}: {name}")
        yield name, {"image": image, "label": label_of[name], "file_name": name}
    _check_found(path, bool(names), "images")


def _imagenet2012(files: Mapping[str, Path], features: Any) -> dict[str, Examples]:
    train = files["ILSVRC2012_img_train.tar"]
    return {
        "train": _imagenet_train(train, features["label"].names),
        "validation": _imagenet_validation(files["ILSVRC2012_img_val.tar"]),
    }


IMAGENET2012 = Preparation(
    ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"), _imagenet2012, by_hand=True
)


def _check_found(path: Path, found: bool, what: str) -> None:
    if not found:
        raise ExperimentError(f"{path} holds no {what}: an empty split")
