"""Image runs on records: the same numbers as on arrays, several labels, from disk."""

import dataclasses

import jax
import numpy as np
import PIL.Image
import pytest

from experiments import __main__ as command
from experiments.configs.settings import RunConfig, TaskConfig
from experiments.data import Dataset, Records, Split
from experiments.errors import ExperimentError
from experiments.loops import evaluation, image

CONFIG = RunConfig(
    model="vgg_tiny",
    epochs=2,
    batch_size=16,
    average_from=0.5,
    optimizer="gadamx",
    learning_rate=0.05,
)


class Kept:
    """Examples in memory, as a source of records."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.labels[index]}


def scaled(image, rng):
    del rng
    return image.astype(np.float32) / 255


def unchanged(key, images):
    del key
    return images


def examples(count, seed, multilabel=False):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 100, (count, 8, 8, 1), np.uint8)
    labels = np.arange(count, dtype=np.int32) % 3
    images[np.arange(count), labels + 1] += 150
    if not multilabel:
        return images, labels
    several = np.eye(3, dtype=np.float32)[labels]
    several[::2, 0] = 1
    return images, several


def records(multilabel=False):
    parts = [
        Kept(*examples(count, seed, multilabel))
        for seed, count in enumerate((40, 21, 21))
    ]
    return Records(
        "kept", 3, (8, 8, 1), (0.0,), (1.0,), *parts, scaled, scaled, multilabel
    )


def test_records_train_as_arrays_do():
    data = records()
    parts = [
        Split(part.images.astype(np.float32) / 255, part.labels)
        for part in (data.train, data.validation, data.test)
    ]
    arrays = Dataset("kept", 3, *parts, unchanged)
    rows = {}
    for name, given in (("records", data), ("arrays", arrays)):
        rows[name] = []
        image.run(CONFIG, given, on_epoch=rows[name].append)
    assert rows["records"][1]["num_averaged"] > 0
    assert rows["records"] == rows["arrays"]


def test_several_labels_at_once():
    """Mean binary cross entropy; a label is right where its logit's sign is."""
    data = records(multilabel=True)
    rows = []
    config = dataclasses.replace(CONFIG, epochs=6, optimizer="adam", weight_decay=None)
    image.run(config, data, on_epoch=rows.append)
    assert rows[-1]["train_loss"] < 0.9 * rows[0]["train_loss"]

    logits = np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32)

    def apply_fn(variables, images, train):
        del images, train
        return variables["logits"]

    part = image.split_of(data, "validation")
    loss, correct = evaluation.evaluate(apply_fn, {"logits": logits}, part)
    labels = data.validation.labels
    right = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = -np.where(labels > 0, np.log(right), np.log(1 - right)).mean()
    assert loss == pytest.approx(expected, rel=1e-6)
    assert correct == pytest.approx(((logits > 0) == (labels > 0)).mean())


def labelled_folder(root):
    lines = ["file,label,split"]
    images, labels = examples(60, 3)
    for index, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        PIL.Image.fromarray(pixels[..., 0]).save(root / f"{index}.png")
        split = "train" if index < 40 else "validation" if index < 50 else "test"
        lines.append(f"{index}.png,{'abc'[label]},{split}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


def test_a_folder_from_the_command_line(tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    labelled_folder(pictures)
    arguments = ["train", "--dataset", "folder", "--data-dir", str(pictures)]
    arguments += ["--model", "vgg_tiny", "--batch-size", "20", "--epochs", "2"]
    arguments += [
        "--optimizer",
        "sgd",
        "--devices",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]
    assert command.main([*arguments, "--crop", "6"]) == 0
    assert "folder" in (tmp_path / "run" / "results.csv").read_text()
    assert command.main([*arguments, "--crop", "9"]) == 2
    assert "--crop must be between 1 and 8" in capsys.readouterr().err


def test_what_cannot_be_had():
    with pytest.raises(ExperimentError, match="--data-dir"):
        image.load(TaskConfig(dataset="mhist"))
    with pytest.raises(ExperimentError, match="digits is read into memory"):
        image.load(TaskConfig(crop=6))
    with pytest.raises(ExperimentError, match="--worker-count must be 0 or more"):
        image.load(TaskConfig(worker_count=-1))


def test_kfac_takes_one_label_an_image():
    config = dataclasses.replace(CONFIG, optimizer="kfac")
    with pytest.raises(ExperimentError, match="kfac.*one label"):
        image.ImageTask(config, records(multilabel=True))


def test_keys_do_not_move_records():
    """Their augmentation is done by then."""
    augment = image.augment_of(records())
    images = np.ones((2, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(augment(jax.random.key(3), images), images)
