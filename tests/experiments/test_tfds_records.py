"""Records of TensorFlow Datasets, read one by one, and what may be wrong with them."""

import json
import pickle
import shutil

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.data import (
    get_dataset_record,
    load_dataset,
    load_images,
    load_records,
    train_batches,
)
from experiments.data._augment import shift_and_flip
from experiments.data._tfds_split import TfdsSplit
from experiments.data.prepare import prepare
from experiments.errors import ExperimentError
from tests.experiments.prepared import cifar_examples, encoded, write


@pytest.fixture(scope="module")
def imagenette_dir(tmp_path_factory):
    """JPEG files of several sizes, some of them grey."""
    path = tmp_path_factory.mktemp("imagenette")
    rng = np.random.default_rng(0)

    def examples(count):
        for number in range(count):
            image = rng.integers(0, 256, (250 + number, 230, 3), np.uint8)
            mode = "L" if number % 5 == 0 else "RGB"
            yield {"image": encoded(image, "jpeg", mode), "label": number % 10}

    splits = {"train": examples(100), "validation": examples(20)}
    write("imagenette", path, splits)
    return path


def test_arrays_and_records_are_the_same_images(cifar_dir):
    arrays, records = (
        load_dataset("cifar10", cifar_dir),
        load_records("cifar10", cifar_dir),
    )
    assert load_images("cifar10", cifar_dir) is arrays
    assert (arrays.num_classes, records.num_classes) == (10, 10)
    draw = np.random.default_rng(0)
    for part in ("train", "validation", "test"):
        split, source = getattr(arrays, part), getattr(records, part)
        shares = np.bincount(split.labels, minlength=10)
        assert (shares == len(split) / 10).all()
        read = [source[index] for index in range(len(source))]
        images = np.stack(
            [records.eval_transform(record["image"], draw) for record in read]
        )
        labels = np.array([record["label"] for record in read])
        # each in an order of its own: by the first few pixels of these random images
        one = np.lexsort(images.reshape(len(images), -1)[:, :9].T)
        other = np.lexsort(split.images.reshape(len(split), -1)[:, :9].T)
        np.testing.assert_array_equal(labels[one], split.labels[other])
        np.testing.assert_allclose(images[one], split.images[other], atol=1e-5)
    assert [len(arrays.train), len(arrays.validation), len(arrays.test)] == [
        180,
        20,
        30,
    ]


@pytest.mark.parametrize("border", [None, (-1.0,)])
def test_training_images_of_cifar_are_shifted_and_mirrored(border):
    image = np.arange(1, 13 * 13 + 1, dtype=np.float32).reshape(1, 13, 13, 1)
    images = np.repeat(image, 300, 0)
    found = np.asarray(shift_and_flip(jax.random.key(0), images, border=border))
    if border is None:
        padded = np.pad(image[0, ..., 0], 4, mode="edge")
    else:
        padded = np.pad(image[0, ..., 0], 4, constant_values=-1)
    places = {
        padded[top : top + 13, left : left + 13][:, ::direction].tobytes(): (
            top,
            left,
            direction,
        )
        for top in range(9)
        for left in range(9)
        for direction in (1, -1)
    }
    seen = [places[one[..., 0].tobytes()] for one in found]
    assert len(set(seen)) > 100  # of 162
    assert 110 < sum(direction == -1 for *_, direction in seen) < 190
    again = np.asarray(shift_and_flip(jax.random.key(0), images, border=border))
    np.testing.assert_array_equal(found, again)


def test_the_border_of_cifar_is_black(cifar_dir):
    arrays, records = (
        load_dataset("cifar10", cifar_dir),
        load_records("cifar10", cifar_dir),
    )
    black = records.eval_transform(
        np.zeros((32, 32, 3), np.uint8), np.random.default_rng(0)
    )[0, 0]
    images = np.zeros((64, 32, 32, 3), np.float32) + 9
    shifted = np.asarray(arrays.augment(jax.random.key(0), images))
    colours = np.unique(shifted.reshape(-1, 3), axis=0)
    np.testing.assert_allclose(colours, [black, [9, 9, 9]], rtol=1e-5)


def test_large_images_are_read_when_their_turn_comes(imagenette_dir):
    found = load_images("imagenette", imagenette_dir)
    parts = found.train, found.validation, found.test
    assert [len(part) for part in parts] == [90, 10, 20]
    labels = [
        record["label"] for record in map(found.validation.__getitem__, range(10))
    ]
    assert sorted(labels) == list(range(10))  # one of every class
    shapes = {found.train[index]["image"].shape[1:] for index in range(90)}
    assert shapes == {(230, 3)}  # grey ones have three channels too
    images, labels = next(train_batches(found, 4, seed=0, epochs=1))
    assert images.shape == (4, 224, 224, 3)
    assert images.dtype == np.float32
    assert labels.dtype == np.int32
    # a copy for a worker process reads the same
    copy = pickle.loads(pickle.dumps(found.train))
    np.testing.assert_array_equal(copy[3]["image"], found.train[3]["image"])
    ours = load_images("imagenette", imagenette_dir)
    assert ours is found


def test_images_without_labels_have_one_class(tmp_path):
    name = "downsampled_imagenet/32x32"
    examples = [{"image": one["image"]} for one in cifar_examples(200)]
    write(name, tmp_path, {"train": examples, "validation": examples[:5]})
    found = load_images(name, tmp_path)
    assert (found.num_classes, len(found.train), len(found.test)) == (1, 198, 5)
    assert found.train[0]["image"].shape == (32, 32, 3)
    assert {found.test[index]["label"] for index in range(5)} == {0}
    assert get_dataset_record(name).classes is None


def test_a_wrong_size_and_a_wrong_file_are_named_with_their_record(tmp_path):
    bad = cifar_examples(200)
    bad[7] = {**bad[7], "image": encoded(np.zeros((31, 32, 3), np.uint8))}
    write("cifar10", tmp_path, {"train": bad, "test": bad[:30]})
    message = r"cifar10 in .*: split train, record \d+ \(.*\): the image is 31x32"
    with pytest.raises(ExperimentError, match=message) as info:
        load_dataset("cifar10", tmp_path)
    number = int(str(info.value).partition("record ")[2].partition(" ")[0])
    stored = tfds.data_source(
        "cifar10",
        split="train",
        data_dir=tmp_path,
        download=False,
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    assert stored[number]["id"] == b"7"
    (tmp_path / "other").mkdir()
    bad[7] = {**bad[7], "image": b"no image at all"}
    write("cifar10", tmp_path / "other", {"train": bad, "test": bad[:30]})
    message = rf"record {number} \(.*\): the image cannot be decoded"
    with pytest.raises(ExperimentError, match=message):
        load_dataset("cifar10", tmp_path / "other")


def split_of(data_dir, split="train", **options):
    builder = tfds.builder("cifar10", data_dir=data_dir)
    options = {"channels": 3, "size": (32, 32), "classes": 10} | options
    return TfdsSplit("cifar10", builder, split, **options)


def test_an_unknown_label_is_named_with_its_record(cifar_dir):
    message = r"split train, record \d+ \(.*\): unknown label [6-9], expected 0 to 5"
    with pytest.raises(ExperimentError, match=message):
        split_of(cifar_dir, classes=6).labels()
    source = split_of(cifar_dir)
    assert sorted(source.labels()) == sorted(list(range(10)) * 20)
    part = source.take(np.array([5, 3, 8])).take(np.array([2, 0]))
    np.testing.assert_array_equal(part.labels(), source.labels()[[8, 5]])


def test_the_file_of_a_record_is_named(tmp_path):
    """Of three files of 67, 67 and 66 records or so."""
    examples = {"train": cifar_examples(200), "test": cifar_examples(30)}
    builder = write("cifar10", tmp_path, examples, shards=3)
    lengths = builder.info.splits["train"].shard_lengths
    assert (len(lengths), sum(lengths)) == (3, 200)
    source = split_of(tmp_path)
    labels = source.labels()
    with pytest.raises(ExperimentError, match="unknown label") as info:
        split_of(tmp_path, classes=9)[int(np.flatnonzero(labels == 9)[-1])]
    assert "train.array_record-00002-of-00003" in str(info.value)
    last = lengths[0] - 1  # of the first file
    folder = builder.data_path
    first, second = (
        folder / f"cifar10-train.array_record-0000{number}-of-00003"
        for number in range(2)
    )
    second.write_bytes(second.read_bytes()[:100_000])
    broken = split_of(tmp_path)
    np.testing.assert_array_equal(broken[last]["image"], source[last]["image"])
    with pytest.raises(ExperimentError, match=f"record {last + 1} .{second.name}"):
        broken.__getitems__([0, last, last + 1])
    assert first.exists()


def test_missing_and_truncated_files_are_named(tmp_path):
    examples = {"train": cifar_examples(200), "test": cifar_examples(30)}
    folder = write("cifar10", tmp_path, examples).data_path
    with pytest.raises(ExperimentError, match="split extra is missing; there are: t"):
        split_of(tmp_path, "extra")
    (file,) = folder.glob("cifar10-train.array_record*")
    content = file.read_bytes()
    for length in (len(content) // 2, 0):
        file.write_bytes(content[:length])
        message = "cifar10 in .*3.0.2: split train.* cannot be read: "
        with pytest.raises(ExperimentError, match=message) as info:
            load_dataset.__wrapped__("cifar10", tmp_path)
        assert "\n" not in str(info.value)
    middle = bytearray(content)
    middle[len(content) // 3 : len(content) // 3 + 2000] = bytes(2000)
    file.write_bytes(middle)
    with pytest.raises(
        ExperimentError, match=r"split train, record \d+ \(cifar10-train"
    ):
        load_dataset.__wrapped__("cifar10", tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"splits": [{"name": 3}]}'])
def test_a_damaged_description_is_named(content, tmp_path, capsys):
    """Where one data set is damaged, the others can still be listed and read."""
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(content)
    message = f"cifar10 in {tmp_path} has a dataset_info.json that cannot be read .*: p"
    with pytest.raises(ExperimentError, match=message) as info:
        load_dataset("cifar10", tmp_path)
    assert "\n" not in str(info.value)
    assert str(info.value).endswith(f"prepare cifar10 --data-dir {tmp_path}")
    assert get_dataset_record("cifar10").missing(tmp_path) == str(info.value)
    with pytest.raises(ExperimentError, match="dataset_info.json that cannot be read"):
        prepare("cifar10", tmp_path)


def test_an_empty_split_is_named(cifar_dir, tmp_path):
    shutil.copytree(cifar_dir, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "cifar10" / "3.0.2" / "dataset_info.json"
    description = json.loads(path.read_text())
    for split in description["splits"]:
        if split["name"] == "test":
            split["shardLengths"] = ["0"]
    path.write_text(json.dumps(description))
    with pytest.raises(ExperimentError, match=r"cifar10 in .*: split test is empty"):
        load_records("cifar10", tmp_path)


def test_too_few_for_a_share_of_every_class(tmp_path):
    examples = {"train": cifar_examples(20), "test": cifar_examples(5)}
    write("cifar10", tmp_path, examples)
    with pytest.raises(ExperimentError, match="split train: 20 examples are too few"):
        load_dataset("cifar10", tmp_path)
