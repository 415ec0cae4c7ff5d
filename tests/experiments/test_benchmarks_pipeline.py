"""The benchmark of the pipeline: what it measures, not how fast anything is."""

import csv

import numpy as np
import pytest

from experiments.benchmarks import _pipeline_data, pipeline
from experiments.errors import ExperimentError


def test_written_images_are_of_cifars_shape_and_size(tmp_path):
    decoded, kept = _pipeline_data.stored_cifar(tmp_path, 40)
    assert [len(decoded.train), len(decoded.test)] == [40, 10]
    labels = [decoded.train[index]["label"] for index in range(40)]
    assert np.bincount(labels).tolist() == [4] * 10
    for index in (0, 39):
        image = decoded.train[index]["image"]
        assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
        np.testing.assert_array_equal(image, kept.train[index]["image"])
    sizes = [
        len(example["image"]) for _, example in _pipeline_data.examples("train", 40)
    ]
    assert 2000 < np.mean(sizes) < 3000


def stand_in(monkeypatch):
    """Steps that do nothing, so that nothing is compiled."""

    class Idle:
        def __init__(self, network, batch):
            assert (network, batch) == ("resnet20", 8)
            self.seen = []

        def compile(self):
            return 0.0

        def block(self, steps):
            self.seen += [None] * steps

        def step_on(self, batch):
            images, labels = batch
            assert images.shape == (8, 32, 32, 3)
            assert labels.shape == (8,)
            self.seen.append(labels)

        def wait(self):
            pass

    monkeypatch.setattr(pipeline, "Fed", Idle)


def test_rows_are_ratios_to_the_steps(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    out = tmp_path / "out"
    arguments = ["--batch", "8", "--examples", "24", "--repeats", "2"]
    arguments += ["--block-seconds", "0.0001", "--out", str(out)]
    assert pipeline.main(arguments) == 0
    with open(out / "pipeline.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(row["work"] for row in table) == pipeline.WORK
    for row in table:
        for name in ("examples_per_second", "cpu_microseconds", "ratio"):
            low, mid, high = (float(row[name + end]) for end in ("_q1", "", "_q3"))
            assert 0 <= low <= mid <= high
        assert row["network"] == "resnet20"
        assert row["device"]
    assert float(table[0]["ratio"]) == 1
    bars = [row["bar"] for row in table]
    assert bars == ["", "3.0", "", ""]
    # steps that take no time are faster than any batch
    assert [row["passed"] for row in table] == ["", "False", "", ""]


@pytest.mark.slow  # compiles a training step
def test_a_network_is_fed(tmp_path):
    out = tmp_path / "out"
    arguments = ["--batch", "8", "--examples", "24", "--repeats", "1"]
    arguments += ["--block-seconds", "0.0001", "--out", str(out)]
    assert pipeline.main(arguments) == 0
    with open(out / "pipeline.csv", newline="") as file:
        rate = [float(row["examples_per_second"]) for row in csv.DictReader(file)]
    assert all(value > 0 for value in rate)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "--batch must be >= 1, got 0"),
        (["--repeats", "0"], "--repeats must be >= 1, got 0"),
        (["--workers", "-1"], "--workers must be >= 0, got -1"),
        (["--examples", "100"], "--examples must be >= 128, the batch, got 100"),
        (["--block-seconds", "0"], "--block-seconds must be > 0, got 0"),
        (
            ["--network", "vgg_tiny"],
            "--network must be one on images of 32x32, got vgg",
        ),
    ],
)
def test_wrong_arguments_name_what_is_wrong(arguments, message, tmp_path):
    with pytest.raises(ExperimentError, match=message):
        pipeline.main([*arguments, "--out", str(tmp_path / "out")])
