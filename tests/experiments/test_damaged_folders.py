"""Folders of images with something wrong: which file, which line."""

import re

import numpy as np
import PIL.Image
import pytest

from experiments import data
from experiments.data import folders
from experiments.errors import ExperimentError
from tests.experiments.image_folders import (
    ROWS,
    adp,
    labelled,
    mhist,
    picture,
    tiny_imagenet,
)


def read_through(name, folder):
    found = folders.load_folder(name, folder)
    return list(data.train_batches(found, 2, seed=0, epochs=1))


def complaint(name, folder):
    with pytest.raises(ExperimentError) as caught:
        read_through(name, folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", sorted(folders.FOLDERS))
def test_no_folder(name, tmp_path):
    with pytest.raises(
        ExperimentError, match=f"{name} needs --data-dir, a folder with"
    ):
        folders.load_folder(name, None)
    missing = tmp_path / "missing"
    with pytest.raises(
        ExperimentError, match="missing is no folder; .* needs a folder with"
    ):
        folders.load_folder(name, missing)
    for needed in folders.FOLDERS[name].files:
        message = complaint(name, tmp_path)
        assert f"there is no {needed} in {tmp_path}; {name} needs a folder" in message
        made = tmp_path / needed
        made.parent.mkdir(exist_ok=True)
        if "." in needed:
            made.write_text("")
        else:
            made.mkdir()
    assert folders.find_folder(name, tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (
            ["x.png,cat,train"],
            "name,label,split",
            "labels.csv, line 1: .* 'file', only: name",
        ),
        (["x.png,cat,train"], "file,class,split", "line 1: there is no column 'label'"),
        ([*ROWS, "d.png,dog,test"], None, "line 7: unknown label 'dog' .* cat, horse"),
        (
            [*ROWS, "d.png,cat,other"],
            None,
            "line 7: unknown label 'other' in column 'split'",
        ),
        ([*ROWS, "c.png,cat,test"], None, "line 7: 'c.png' was already on line 6"),
        ([*ROWS, "d.png,cat"], None, "line 7: expected 3 cells"),
        ([*ROWS, "d.png,cat,test,4"], None, "line 7: expected 3 cells"),
        (ROWS[:4], None, "labels.csv: the test split is empty"),
        (ROWS[3:], None, "labels.csv: the train split is empty"),
        ([], None, "labels.csv names no images"),
        (
            ["x.png,cat", "y.png,dog"],
            "file,label",
            "folder: the validation split is empty",
        ),
        (
            ["x.png,cat", "y.png,cat"],
            "file,label",
            "labels.csv must name at least 2 classes, got 1: 'cat'",
        ),
        ([*ROWS, '"d"x.png,cat,test'], None, "labels.csv, line 7: ',' expected after"),
        ([*ROWS, '"d.png,cat,test'], None, "line 7: unexpected end of data"),
    ],
)
def test_wrong_tables(rows, header, message, tmp_path):
    labelled(tmp_path, rows, header or "file,label,split")
    assert re.search(message, complaint("folder", tmp_path))


def test_unnamed_and_missing_images(tmp_path):
    labelled(tmp_path, ROWS)
    table = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(table + ",cat,test\n")
    assert "labels.csv, line 7: 'file' is empty" in complaint("folder", tmp_path)
    (tmp_path / "labels.csv").write_text(table + "d/e.png,cat,test\n")
    message = complaint("folder", tmp_path)
    assert f"labels.csv, line 7: there is no image {tmp_path}/d/e.png" in message
    (tmp_path / "labels.csv").write_bytes(table.encode() + b"\xff,cat,test\n")
    message = "labels.csv, line 7: not UTF-8 (invalid start byte at byte 1 of the line)"
    assert message in complaint("folder", tmp_path)
    (tmp_path / "labels.csv").write_text("")
    assert complaint("folder", tmp_path) == f"{tmp_path}/labels.csv is empty"
    (tmp_path / "classes.txt").write_text("cat\nhorse\ncat\n")
    (tmp_path / "labels.csv").write_text(table)
    assert "classes.txt, line 3: 'cat' stands there twice" in complaint(
        "folder", tmp_path
    )


@pytest.mark.parametrize("damage", ["truncated", "text", "size", "gone"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_damaged_images_name_file_and_line(damage, suffix, tmp_path):
    rows = [row.replace(".png", f".{suffix}") for row in ROWS]
    labelled(tmp_path, rows)
    found = folders.load_folder("folder", tmp_path)
    path = tmp_path / f"b/1.{suffix}"
    if damage == "truncated":
        PIL.Image.effect_noise((40, 40), 90).convert("RGB").save(path)
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "text":
        path.write_text("no image")
    elif damage == "size":
        picture(path, 3, (5, 4))
    else:
        path.unlink()
    expected = {
        "truncated": "cannot be decoded",
        "text": "cannot be decoded",
        "size": "the image is 5x4, expected 4x4",
        "gone": "there is no such file",
    }
    with pytest.raises(ExperimentError) as caught:
        list(data.train_batches(found, 3, seed=0, epochs=1))
    message = str(caught.value)
    assert message.startswith(f"{path} ({tmp_path}/labels.csv, line 4): ")
    assert expected[damage] in message


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_what_does_not_fit_into_eight_bits_is_not_cut_off(dtype, tmp_path):
    """Pillow would make white of all that is above 255."""
    labelled(tmp_path, ROWS)
    path = tmp_path / "b" / "1.png"
    deep = PIL.Image.fromarray(np.full((4, 4), 200, dtype))
    deep.save(path, "tiff")
    message = complaint("folder", tmp_path)
    assert message.startswith(f"{path} ({tmp_path}/labels.csv, line 4): its pixels are")
    assert message.endswith(", expected 8 bits a channel")


def test_an_image_too_large_to_be_one_is_named(tmp_path, monkeypatch):
    labelled(tmp_path, ROWS)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 7)  # Pillow stops at twice that
    assert "a/1.png" in complaint("folder", tmp_path)


def test_wrong_tiny_imagenet(tmp_path):
    tiny_imagenet(tmp_path)
    table = tmp_path / "val" / "val_annotations.txt"
    lines = table.read_text()
    for added, message in (
        ("val_9.JPEG\tn01\t0\t0\t1\t1\n", "line 3: there is no image .*val_9.JPEG"),
        ("val_1.JPEG\tn77\t0\t0\t1\t1\n", "line 3: unknown label 'n77'"),
        ("val_1.JPEG\tn01\t0\t0\t1\t1\n", "line 3: 'val_1.JPEG' was already on line 2"),
        ("val_1.JPEG\n", "line 3: expected a name and a class"),
    ):
        table.write_text(lines + added)
        assert re.search(message, complaint("tiny_imagenet", tmp_path))
    table.write_text("\n")
    assert "an empty test split" in complaint("tiny_imagenet", tmp_path)
    for path in (tmp_path / "train" / "n01" / "images").iterdir():
        path.unlink()
    assert "an empty class" in complaint("tiny_imagenet", tmp_path)
    table.write_bytes(b"val_0.JPEG\tn02\nval_\xe9.JPEG\tn01\n")
    picture(tmp_path / "train" / "n01" / "images" / "n01_0.JPEG", 0, (64, 64))
    message = "val_annotations.txt, line 2: not UTF-8 (invalid continuation byte at by"
    assert message in complaint("tiny_imagenet", tmp_path)
    (tmp_path / "wnids.txt").write_text("n01\n")
    message = "wnids.txt must name at least 2 classes, got 1: 'n01'"
    assert message in complaint("tiny_imagenet", tmp_path)
    (tmp_path / "train" / "n01" / "images" / "n01_0.JPEG").unlink()
    (tmp_path / "wnids.txt").write_text("n01\nn03\n")
    (tmp_path / "train" / "n01" / "images").rmdir()
    assert "cannot read" in complaint("tiny_imagenet", tmp_path)


def test_wrong_mhist(tmp_path):
    mhist(tmp_path)
    table = tmp_path / "annotations.csv"
    lines = table.read_text()
    table.write_text(lines.replace("SSA,3", "ADENOMA,3", 1))
    assert re.search("line 5: unknown label 'ADENOMA'", complaint("mhist", tmp_path))
    table.write_text(lines.replace(",test\n", ",train\n"))
    assert "no row of partition 'test'" in complaint("mhist", tmp_path)
    table.write_text(lines)
    picture(tmp_path / "images" / "MHIST_007.png", 0, (224, 220))
    message = complaint("mhist", tmp_path)
    assert "MHIST_007.png" in message
    assert "line 9): the image is 224x220, expected 224x224" in message


def test_wrong_adp(tmp_path):
    adp(tmp_path, names=folders.ADP_CLASSES[:-1])
    assert "line 1: there is no column 'T'" in complaint("adp", tmp_path)
    adp(tmp_path)
    table = tmp_path / "ADP_EncodedLabels_Release1_Flat.csv"
    lines = table.read_text().splitlines()
    lines[4] = lines[4][:-1] + "2"
    table.write_text("\n".join(lines))
    assert "line 5: unknown label '2' in column 'T'" in complaint("adp", tmp_path)
    adp(tmp_path, count=3)
    assert "test split of 3 images is empty" in complaint("adp", tmp_path)
    adp(tmp_path)
    (tmp_path / "splits").mkdir()
    assert "train.npy" in complaint("adp", tmp_path)
    for rows, message in (
        ([0, 10], "between 0 and 9, got 0 to 10"),
        ([0, 1], "a row is in two places"),
        ([0.5], "holds no list of row numbers"),
    ):
        for name, chosen in (("train", rows), ("valid", [1]), ("test", [2])):
            np.save(tmp_path / "splits" / f"{name}.npy", np.array(chosen))
        assert message in complaint("adp", tmp_path)
