"""Preparing data sets from their published archives, served from this machine."""

import dataclasses
import io
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from experiments.__main__ import main
from experiments.data import load_images
from experiments.data.prepare import PREPARATIONS, prepare
from experiments.data.prepare._prepare import published
from experiments.errors import ExperimentError
from tests.experiments import archives
from tests.experiments.prepared import encoded, write
from tests.experiments.serving import WRITERS, partial_files


def rows(images, labels):
    """Images with their labels, in an order of their own."""
    pairs = zip(images, labels, strict=True)
    return sorted((image.tobytes(), int(label)) for image, label in pairs)


@pytest.mark.parametrize("name", WRITERS)
def test_pixels_and_labels_are_those_of_the_archives(name, server, tmp_path):
    put_in = WRITERS[name](server.folder)
    if name == "imagenette":
        put_in = {
            split: ([np.asarray(PIL.Image.open(io.BytesIO(f))) for f in files], labels)
            for split, (files, labels) in put_in.items()
        }
    files = server.archives(name)
    done = prepare(name, tmp_path / "data", archives=files)
    assert not done.before
    assert done.examples == {
        split: len(labels) for split, (_, labels) in put_in.items()
    }
    for split, (images, labels) in put_in.items():
        source = tfds.data_source(
            name, split=split, data_dir=tmp_path / "data", download=False
        )
        read = [source[index] for index in range(len(source))]
        found = [record["image"] for record in read]
        numbers = [record.get("label", 0) for record in read]
        assert rows(found, numbers) == rows(images, labels)
        for record in read:
            if "id" in record:  # which counts the published order
                number = int(record["id"].decode().partition("_")[2])
                np.testing.assert_array_equal(record["image"], images[number])
    # nothing is asked for again, not even with the server gone
    server.close()
    asked = len(server.asked)
    again = prepare(name, tmp_path / "data", archives=files)
    assert again == dataclasses.replace(done, before=True)
    assert (len(server.asked), asked) == (len(files), len(files))
    assert not partial_files(tmp_path / "data")
    assert "tensorflow" not in sys.modules


def test_the_published_files_are_known():
    for name, preparation in PREPARATIONS.items():
        found = published(name)
        assert tuple(found) == preparation.files
        for archive in found.values():
            assert archive.url.startswith("http")
            assert archive.size > 4000
            assert len(archive.sha256) == 64
    cifar = published("cifar10")["cifar-10-binary.tar.gz"]
    assert cifar.size == 170_052_171


def test_records_come_in_the_order_of_the_original_keys(server, tmp_path):
    """TFDS orders records by a hash of their keys; index 0..19 for CIFAR-10's test."""
    archives.cifar(server.folder)
    prepare("cifar10", tmp_path, archives=server.archives("cifar10"))
    pixel = encoded(np.zeros((32, 32, 3), np.uint8))
    by_key = [
        {"id": f"test_{key:05d}", "image": pixel, "label": 0} for key in range(20)
    ]
    write("cifar10", tmp_path / "keys", {"test": by_key})
    ids = [
        [
            record["id"]
            for record in tfds.data_source("cifar10", split="test", data_dir=d)
        ]
        for d in (tmp_path, tmp_path / "keys")
    ]
    assert ids[0] == ids[1]
    assert ids[0] != sorted(ids[0])


def official_labels(count):
    path = tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt")
    return path.read_text().split()[:count]


def test_imagenet_comes_from_the_users_own_archives(server, tmp_path):
    put_in = archives.imagenet2012(server.folder, official_labels(30))
    files = server.archives("imagenet2012")
    done = prepare("imagenet2012", tmp_path, server.folder, archives=files)
    assert done.examples == {"train": 150, "validation": 30}
    assert server.asked == []
    names = tfds.builder("imagenet2012", data_dir=tmp_path).info.features["label"].names
    for split, (images, labels) in put_in.items():
        source = tfds.data_source(
            "imagenet2012",
            split=split,
            data_dir=tmp_path,
            download=False,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        assert len(source) == len(images)
        for record in source:
            name = record["file_name"].decode()
            assert names[record["label"]] == labels[name]
            original = PIL.Image.open(io.BytesIO(images[name]))
            stored = PIL.Image.open(io.BytesIO(record["image"]))
            assert (stored.format, stored.mode) == ("JPEG", "RGB")
            if name in ("n01739381_1309.JPEG", "n02105855_2933.JPEG"):
                assert original.format == "PNG" or original.mode == "CMYK"
                colours = np.asarray(stored, int) - [200, 120, 40]
                assert np.abs(colours).max() <= 3  # rounded by JPEG
            else:
                assert record["image"] == images[name]
    data = load_images("imagenet2012", tmp_path)
    parts = data.train, data.validation, data.test
    assert [len(part) for part in parts] == [148, 2, 30]
    assert data.image_shape == (224, 224, 3)


def test_imagenet_without_its_archives_names_them(tmp_path):
    with pytest.raises(ExperimentError, match="ILSVRC2012_img_train.tar and .*val.tar"):
        prepare("imagenet2012", tmp_path / "data")
    with pytest.raises(ExperimentError, match="manual-dir .*nowhere is no folder"):
        prepare("imagenet2012", tmp_path / "data", tmp_path / "nowhere")
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(b"half")
    with pytest.raises(ExperimentError, match=r"has no ILSVRC2012_img_train.tar$"):
        prepare("imagenet2012", tmp_path / "data", tmp_path)
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(b"half")
    with pytest.raises(ExperimentError, match="has 4 bytes, expected 147,897,477,120"):
        prepare("imagenet2012", tmp_path / "data", tmp_path)
    assert not (tmp_path / "data").exists()


def test_the_command_says_what_is_there(server, tmp_path, capsys):
    archives.mnist(server.folder)
    prepare("mnist", tmp_path / "data", archives=server.archives("mnist"))
    assert main(["prepare", "mnist", f"--data-dir={tmp_path}/data"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"mnist: already prepared in {tmp_path}/data/mnist/3.0.1 ")
    assert said.endswith("(train 30, test 20)\n")
    assert main(["prepare", "cifar", f"--data-dir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown dataset to prepare 'cifar'; choose one of")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("digits", "comes with scikit-learn"),
        ("ptb", "--data-dir: a folder with ptb.train.txt, ptb.valid.txt and ptb.test"),
    ],
)
def test_what_is_had_in_another_way_says_in_which(name, how, capsys):
    assert main(["prepare", name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {name} is none to prepare; how to get it: {how}")
    assert error.count("\n") == 1
