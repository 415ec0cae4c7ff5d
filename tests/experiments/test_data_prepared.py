"""Data sets prepared by TensorFlow Datasets, read without TensorFlow."""

import shlex
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.data import load_dataset
from experiments.errors import ExperimentError
from tests.experiments.prepared import dummy_images, prepare

COUNTS = {"train": 120, "test": 40}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    prepare("mnist", path, COUNTS)
    return path


def rows(images, labels):
    """Images with their labels, in an order of their own."""
    pixels = images.reshape(len(images), -1)
    return sorted(map(tuple, np.column_stack([pixels, labels]).astype(int)))


def test_parts_are_what_was_prepared(data_dir):
    data = load_dataset("mnist", data_dir)
    assert (data.name, data.num_classes) == ("mnist", 10)
    parts = data.train, data.validation, data.test
    assert [len(part) for part in parts] == [100, 20, 40]
    for part in parts:
        assert part.images.shape == (len(part), 28, 28, 1)
        assert part.images.dtype == np.float32
        assert part.labels.dtype == np.int32
        shares = np.bincount(part.labels, minlength=10)
        assert (shares == len(part) / 10).all()
    np.testing.assert_allclose(data.train.images.mean(dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(data.train.images.std(dtype=np.float64), 1, atol=1e-6)
    assert abs(data.test.images.mean(dtype=np.float64)) > 1e-5
    # one affine map for all: undone, they are the pixels again
    whole, labels = dummy_images("train", 120)
    held_out, held_out_labels = dummy_images("test", 40)
    fitted = np.concatenate([data.train.images, data.validation.images])
    low, high = fitted.min(), fitted.max()

    def pixels(images):
        scale = (images.astype(np.float64) - low) / (high - low)
        return np.rint(scale * (float(whole.max()) - whole.min()) + whole.min())

    found = np.concatenate([data.train.labels, data.validation.labels])
    assert rows(pixels(fitted), found) == rows(whole, labels)
    assert rows(pixels(data.test.images), data.test.labels) == rows(
        held_out, held_out_labels
    )
    assert "tensorflow" not in sys.modules


def test_the_split_is_the_same_every_time(data_dir, tmp_path):
    first = load_dataset("mnist", data_dir)
    shutil.copytree(data_dir / "mnist", tmp_path / "mnist")
    again = load_dataset("mnist", tmp_path)
    assert again is not first
    np.testing.assert_array_equal(first.train.images, again.train.images)
    np.testing.assert_array_equal(first.validation.labels, again.validation.labels)


def test_what_is_not_prepared_says_how_at_once(data_dir):
    began = time.perf_counter()
    with pytest.raises(ExperimentError, match="fashion_mnist is not prepared") as info:
        load_dataset("fashion_mnist", data_dir)
    assert time.perf_counter() - began < 5  # TFDS itself tries the network for minutes
    assert "\n" not in str(info.value)
    words = shlex.split(str(info.value).partition("get it by: ")[2])
    assert words[:5] == ["python", "-m", "experiments", "prepare", "fashion_mnist"]
    assert words[5:] == ["--data-dir", str(data_dir)]


def test_other_formats_and_damaged_files_are_named(data_dir, tmp_path):
    other = tmp_path / "$other"
    shutil.copytree(data_dir, other)
    description = other / "mnist" / "3.0.1" / "dataset_info.json"
    changed = description.read_text().replace('"array_record"', '"tfrecord"')
    description.write_text(changed)
    with pytest.raises(ExperimentError, match="holds mnist as tfrecord") as info:
        load_dataset("mnist", other)
    words = shlex.split(str(info.value).partition("get it by: ")[2])
    assert words[-1] == str(other)
    damaged = tmp_path / "damaged"
    shutil.copytree(data_dir, damaged)
    (record,) = (damaged / "mnist" / "3.0.1").glob("mnist-test.array_record*")
    record.unlink()
    with pytest.raises(
        ExperimentError, match="mnist in .*damaged.*split test: there is no"
    ):
        load_dataset("mnist", damaged)


def test_without_a_directory_it_is_that_of_tfds(data_dir):
    # the variable is read when TFDS is imported, so in a process of its own
    code = "from experiments.data import load_dataset as l; print(len(l('mnist').test))"
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"TFDS_DATA_DIR": str(data_dir), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "40\n"
    assert found.stderr == ""


def test_a_command_gives_one_line(tmp_path, capsys):
    arguments = ["--dataset=mnist", f"--data-dir={tmp_path}", f"--out={tmp_path}/run"]
    assert main(["lanczos", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: mnist is not prepared in {tmp_path}")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
