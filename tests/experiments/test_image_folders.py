"""Folders of images in the published layouts, read as a run reads them."""

from pathlib import Path

import numpy as np
import pytest

from experiments import data
from experiments.data import folders
from tests.experiments.image_folders import (
    ROWS,
    adp,
    labelled,
    mhist,
    picture,
    reds,
    stored,
    tiny_imagenet,
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


def test_tiny_imagenet_through_windows_and_macos(tmp_path):
    """Line ends, a mark at the beginning, and the files that unpacking leaves."""
    tiny_imagenet(tmp_path)
    expected = folders.load_folder("tiny_imagenet", tmp_path)
    for name in ("wnids.txt", "val/val_annotations.txt"):
        path = tmp_path / name
        content = path.read_bytes().replace(b"\n", b"\r\n")
        path.write_bytes(b"\xef\xbb\xbf" + content)
    (tmp_path / "train" / "n01" / "images" / "._n01_1.JPEG").write_bytes(b"no image")
    found = folders.load_folder("tiny_imagenet", tmp_path)
    for part in ("train", "validation", "test"):
        entries = (stored(getattr(d, part))._entries for d in (found, expected))
        assert next(entries) == next(entries)


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


ODD = (
    '"Ä, 1.png",cat,train',
    'b c.png, "horse",train',
    '"d ""1"".png",cat,train',
    "b c 2.png,horse,validation",
    "é.png,cat,test",
)


@pytest.mark.parametrize(
    ("encoding", "end"),
    [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r"), ("utf-8", "\n\n")],
)
def test_tables_as_other_programs_write_them(encoding, end, tmp_path):
    """Quotes, blanks, letters of other alphabets, marks, and line ends of all kinds."""
    root = tmp_path / "Ordner mit Bäumen"
    for name in ("Ä, 1", "b c", 'd "1"', "b c 2", "é"):
        picture(root / f"{name}.png", len(name))
    table = end.join(["file, label ,split", *ODD, ""])
    (root / "labels.csv").write_bytes(table.encode(encoding))
    found = folders.load_folder("folder", root)
    assert stored(found.train).labels.tolist() == [0, 1, 0]
    assert [reds(part) for part in (found.train, found.validation, found.test)] == [
        [4, 3, 5],
        [5],
        [1],
    ]
    line = 1 + 5 * (2 if end == "\n\n" else 1)
    assert stored(found.test)._entries[0].place.endswith(f"labels.csv, line {line}")


def test_links_and_names_from_the_root(tmp_path):
    labelled(tmp_path / "one", ROWS)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "one" / "a" / "1.png").rename(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "one" / "a" / "1.png").symlink_to("../../elsewhere/1.png")
    (tmp_path / "two").symlink_to("one")
    found = folders.load_folder("folder", tmp_path / "two")
    assert reds(found.train) == [30, 50, 30]
    table = tmp_path / "one" / "labels.csv"
    table.write_text(table.read_text().replace("c.png", f"{tmp_path}/elsewhere/1.png"))
    assert reds(folders.load_folder("folder", tmp_path / "two").test) == [30]


def test_the_home_folder_may_be_abbreviated(tmp_path, monkeypatch):
    """The shell leaves ``--data-dir=~/one`` as it is."""
    labelled(tmp_path / "one", ROWS)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders.find_folder("folder", Path("~/one")) == tmp_path / "one"


def test_classes_in_the_order_of_their_file(tmp_path):
    labelled(tmp_path, ROWS)
    (tmp_path / "classes.txt").write_text("horse\ncow\ncat\n")
    found = folders.load_folder("folder", tmp_path)
    assert found.num_classes == 3
    assert stored(found.train).labels.tolist() == [2, 0, 2]
