"""Folders of images in the published layouts, read as a run reads them."""

import re

import numpy as np
import PIL.Image
import pytest

from experiments import data
from experiments.data import folders
from experiments.errors import ExperimentError

MHIST_HEADER = (
    "Image Name,Majority Vote Label,"
    "Number of Annotators who Selected SSA (Out of 7),Partition"
)


def picture(path, value, size=(4, 4), mode="RGB"):
    """An image of one colour, its value in red."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode == "L" else (value, 0, 255)
    PIL.Image.new(mode, size[::-1], colour).save(path)


def stored(source):
    """The files of a source, whether or not it keeps what it read."""
    return getattr(source, "_source", source)


def reds(source):
    return [
        int(source[index]["image"][..., 0].mean().round())
        for index in range(len(source))
    ]


def tiny_imagenet(root, classes=("n02", "n01"), each=10):
    (root / "val").mkdir(parents=True)
    (root / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in classes))
    lines = []
    for number, wnid in enumerate(classes):
        boxes = []
        for index in range(each):
            name = f"{wnid}_{index}.JPEG"
            mode = "L" if index == 3 else "RGB"  # some are grey in the published set
            picture(
                root / "train" / wnid / "images" / name,
                100 * number + index,
                (64, 64),
                mode,
            )
            boxes.append(f"{name}\t0\t10\t62\t60\n")
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("".join(boxes))
        picture(root / "val" / "images" / f"val_{number}.JPEG", 50 + number, (64, 64))
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))


def mhist(root, train=20, test=4):
    lines = [MHIST_HEADER]
    for index in range(train + test):
        name = f"MHIST_{index:03}.png"
        picture(root / "images" / name, 5 * index, (224, 224))
        label = ("HP", "SSA")[index % 2]
        part = "train" if index < train else "test"
        lines.append(f"{name},{label},{index % 8},{part}")
    (root / "annotations.csv").write_text("\n".join(lines) + "\n")


def adp(root, count=10, names=folders.ADP_CLASSES):
    # the published table has the wider types, too
    lines = [",".join(["Patch Names", "E", *names])]
    for index in range(count):
        name = f"{index:03}.png_crop_{index}.png"
        picture(root / "img_res_1um_bicubic" / name, 20 * index, (272, 272))
        bits = [str(index >> place & 1) for place in range(len(names))]
        lines.append(",".join([name, "1", *bits]))
    (root / "ADP_EncodedLabels_Release1_Flat.csv").write_text("\n".join(lines) + "\n")


def labelled(root, rows, header="file,label,split"):
    for row in rows:
        name, label = row.split(",")[:2]
        picture(root / name, 10 * len(label))
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n")


ROWS = (
    "a/1.png,cat,train",
    "a/2.png,horse,train",
    "b/1.png,cat,train",
    "b/2.png,horse,validation",
    "c.png,cat,test",
)


def test_tiny_imagenet(tmp_path):
    tiny_imagenet(tmp_path / "tiny-imagenet-200")
    found = folders.load_folder("tiny_imagenet", tmp_path)
    assert (found.num_classes, found.image_shape) == (2, (64, 64, 3))
    assert [len(part) for part in (found.train, found.validation, found.test)] == [
        18,
        2,
        2,
    ]
    for part in (found.train, found.validation):
        for red, label in zip(reds(part), stored(part).labels, strict=True):
            # numbered as wnids.txt is, and as bright as its class
            assert (red > 60) == (label == 1)
    assert sorted(stored(found.validation).labels) == [0, 1]
    assert stored(found.test).labels.tolist() == [0, 1]
    assert np.allclose(reds(found.test), [50, 51], atol=2)  # JPEG
    held, kept = (
        set(map(str, stored(found.validation)._entries)),
        set(map(str, stored(found.train)._entries)),
    )
    assert not held & kept
    again = folders.load_folder("tiny_imagenet", tmp_path / "tiny-imagenet-200")
    assert reds(again.validation) == reds(found.validation)


def test_mhist(tmp_path):
    mhist(tmp_path)
    found = folders.load_folder("mhist", tmp_path)
    assert found.num_classes == 2
    assert reds(found.test) == [100, 105, 110, 115]
    assert stored(found.test).labels.tolist() == [0, 1, 0, 1]
    assert sorted(reds(found.train) + reds(found.validation)) == list(range(0, 100, 5))
    assert sorted(stored(found.validation).labels) == [0, 1]
    for red, label in zip(reds(found.train), stored(found.train).labels, strict=True):
        assert red // 5 % 2 == label


@pytest.mark.parametrize("below", ["", "ADP V1.0 Release"])
def test_adp(tmp_path, below):
    adp(tmp_path / below)
    found = folders.load_folder("adp", tmp_path)
    assert found.multilabel
    assert found.num_classes == 22
    parts = (found.train, found.validation, found.test)
    assert [len(part) for part in parts] == [8, 1, 1]
    assert sorted(sum(map(reds, parts), [])) == list(range(0, 200, 20))
    for part in parts:
        for index, red in enumerate(reds(part)):
            label = part[index]["label"]
            assert label.dtype == np.float32
            assert label @ 2.0 ** np.arange(22) == red / 20
    images, labels = next(data.train_batches(found, 4, seed=0, epochs=1))
    assert images.shape == (4, 272, 272, 3)
    assert (labels.shape, labels.dtype) == ((4, 22), np.float32)


def test_adp_with_its_authors_split(tmp_path):
    adp(tmp_path)
    (tmp_path / "splits").mkdir()
    for name, rows in (("train", [4, 0, 9]), ("valid", [1]), ("test", [2, 3])):
        np.save(tmp_path / "splits" / f"{name}.npy", np.array(rows))
    found = folders.load_folder("adp", tmp_path)
    assert [reds(part) for part in (found.train, found.validation, found.test)] == [
        [80, 0, 180],
        [20],
        [40, 60],
    ]


def test_labelled_folder_with_a_split(tmp_path):
    labelled(tmp_path, ROWS)
    found = folders.load_folder("folder", tmp_path)
    assert (found.num_classes, found.image_shape) == (2, (4, 4, 3))
    assert stored(found.train).labels.tolist() == [0, 1, 0]
    assert reds(found.train) == [30, 50, 30]
    assert stored(found.validation).labels.tolist() == [1]
    assert stored(found.test).labels.tolist() == [0]
    # the statistics are those of the training images
    np.testing.assert_allclose(found.mean[0], np.mean([30, 50, 30]) / 255)
    batches = list(data.eval_batches(found, "train", 2))
    assert [weights.tolist() for _, _, weights in batches] == [[1, 1], [1, 0]]
    red = batches[0][0][:, 0, 0, 0] * found.deviation[0] + found.mean[0]
    np.testing.assert_allclose(red * 255, [30, 50], rtol=1e-5)


def test_labelled_folder_without_a_split(tmp_path):
    rows = [f"{index}.png,{index % 3 + 8}" for index in range(60)]
    labelled(tmp_path, rows, "file,label")
    found = folders.load_folder("folder", tmp_path)
    parts = (found.train, found.validation, found.test)
    for part, each in zip(parts, (16, 2, 2), strict=True):
        assert np.bincount(stored(part).labels).tolist() == [each] * 3
    names = [entry.path for part in parts for entry in stored(part)._entries]
    assert len(set(names)) == 60
    # labels that are numbers are sorted as such: 8, 9, 10
    assert all(
        red == 10 + 10 * (label == 2)
        for red, label in zip(reds(parts[0]), stored(parts[0]).labels, strict=True)
    )


def test_classes_in_the_order_of_their_file(tmp_path):
    labelled(tmp_path, ROWS)
    (tmp_path / "classes.txt").write_text("horse\ncow\ncat\n")
    found = folders.load_folder("folder", tmp_path)
    assert found.num_classes == 3
    assert stored(found.train).labels.tolist() == [2, 0, 2]


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
            ["x.png,cat", "y.png,cat"],
            "file,label",
            "folder: the validation split is empty",
        ),
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
    assert "cannot read" in complaint("folder", tmp_path)
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
