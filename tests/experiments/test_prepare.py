"""Preparing data sets from their published archives, served from this machine."""

import _thread
import contextlib
import dataclasses
import functools
import http.server
import io
import os
import subprocess
import sys
import tarfile
import textwrap
import threading
import time

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

from experiments.__main__ import main
from experiments.data import load_images
from experiments.data.prepare import PREPARATIONS, prepare
from experiments.data.prepare._folder import alone
from experiments.data.prepare._prepare import published
from experiments.errors import ExperimentError
from tests.experiments import archives

WRITERS = {
    "mnist": archives.mnist,
    "fashion_mnist": archives.mnist,
    "cifar10": archives.cifar,
    "cifar100": functools.partial(archives.cifar, fine=True, count=200),
    "svhn_cropped": archives.svhn,
    "imagenette": archives.imagenette,
    "imagenet_resized/32x32": archives.imagenet_resized,
    "downsampled_imagenet/32x32": archives.downsampled_imagenet,
}


@pytest.fixture(autouse=True)
def _no_progress_bars():
    tfds.disable_progress_bar()


class Server:
    """Serves a folder on the loopback address and counts what is asked for."""

    def __init__(self, folder):
        self.folder, self.asked, self.cut = folder, [], set()
        self.halfway = None
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *arguments):
                del arguments

            def do_GET(self):
                name = self.path.lstrip("/")
                outer.asked.append(name)
                if name not in outer.cut:
                    return super().do_GET()
                content = (folder / name).read_bytes()  # and hangs up half-way
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                if outer.halfway is not None:
                    outer.halfway()
                return None

        make = functools.partial(Handler, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), make)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def archives(self, name):
        address = f"http://127.0.0.1:{self._server.server_port}"
        return {
            file: archives.archive_of(self.folder / file, f"{address}/{file}")
            for file in PREPARATIONS[name].files
        }

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    with contextlib.closing(Server(folder)) as found:
        yield found


def rows(images, labels):
    """Images with their labels, in an order of their own."""
    pairs = zip(images, labels, strict=True)
    return sorted((image.tobytes(), int(label)) for image, label in pairs)


def partial_files(data_dir):
    """What only an unfinished preparation has."""
    found = [str(path) for path in data_dir.rglob("*")]
    return [path for path in found if ".tmp." in path or "incomplete." in path]


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
    real = tfds.builder_cls("cifar10")
    with registered.skip_registration():

        class Keys(real):
            def _split_generators(self, dl_manager):
                del dl_manager
                return {"test": self._keys()}

            def _keys(self):
                pixel = archives.jpeg(np.zeros((32, 32, 3), np.uint8), kind="png")
                for key in range(20):
                    yield key, {"id": f"test_{key:05d}", "image": pixel, "label": 0}

    Keys.name = "cifar10"
    Keys(data_dir=tmp_path / "keys", file_format="array_record").download_and_prepare()
    ids = [
        [
            record["id"]
            for record in tfds.data_source("cifar10", split="test", data_dir=d)
        ]
        for d in (tmp_path, tmp_path / "keys")
    ]
    assert ids[0] == ids[1]
    assert ids[0] != sorted(ids[0])


def test_a_wrong_checksum_is_one_line_and_leaves_nothing(server, tmp_path):
    archives.mnist(server.folder)
    files = server.archives("mnist")
    wrong = "t10k-labels-idx1-ubyte.gz"
    damaged = dataclasses.replace(files[wrong], sha256="0" * 64)
    with pytest.raises(ExperimentError, match=f"mnist: .*{wrong}.*wrong checksum") as e:
        prepare("mnist", tmp_path / "data", archives=files | {wrong: damaged})
    assert "\n" not in str(e.value)
    assert not partial_files(tmp_path / "data")
    assert not (tmp_path / "data" / "mnist" / "3.0.1").exists()
    server.asked.clear()
    assert not prepare("mnist", tmp_path / "data", archives=files).before
    assert server.asked == [wrong]  # the others were kept


def test_a_download_that_was_cut_off_is_begun_again(server, tmp_path):
    archives.cifar(server.folder)
    files = server.archives("cifar10")
    server.cut = {"cifar-10-binary.tar.gz"}
    with pytest.raises(ExperimentError, match="cannot download cifar10 from 127") as e:
        prepare("cifar10", tmp_path / "data", archives=files)
    assert "\n" not in str(e.value)
    assert not partial_files(tmp_path / "data")
    server.cut = set()
    done = prepare("cifar10", tmp_path / "data", archives=files)
    assert done.examples == {"train": 100, "test": 20}


def test_ctrl_c_leaves_no_half_download(server, tmp_path):
    archives.cifar(server.folder)
    files = server.archives("cifar10")
    server.cut, server.halfway = {"cifar-10-binary.tar.gz"}, _thread.interrupt_main
    with pytest.raises(KeyboardInterrupt):
        prepare("cifar10", tmp_path / "data", archives=files)
    assert not partial_files(tmp_path / "data")
    server.cut = set()
    assert not prepare("cifar10", tmp_path / "data", archives=files).before


def test_a_full_disk_leaves_what_was_there(server, tmp_path):
    archives.mnist(server.folder)
    archives.cifar(server.folder)
    data_dir = tmp_path / "data"
    prepare("mnist", data_dir, archives=server.archives("mnist"))
    code = f"""
        import resource
        from pathlib import Path
        from experiments.data.prepare import Archive, prepare
        from experiments.errors import ExperimentError

        # no file may become larger: what write() meets on a full disk, but for errno
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        folders = Path({str(data_dir)!r}), Path({str(server.folder)!r})
        for by_hand in (None, folders[1]):  # while downloading, while writing records
            try:
                prepare("cifar10", folders[0], by_hand,
                        archives={server.archives("cifar10")!r})
            except ExperimentError as error:
                print(error)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    said = ended.stdout.splitlines()
    assert len(said) == 2, ended.stderr
    for line in said:
        assert line.startswith(f"cannot write cifar10 to {data_dir}: ")
        assert "File too large" in line
    assert not partial_files(data_dir)
    assert not (data_dir / "cifar10" / "3.0.2").exists()
    assert prepare("mnist", data_dir).before


def test_an_unreachable_server_is_said_at_once(server, tmp_path):
    archives.mnist(server.folder)
    files = server.archives("mnist")
    server.close()
    began = time.perf_counter()
    with pytest.raises(ExperimentError, match="cannot download mnist from 127") as info:
        prepare("mnist", tmp_path / "data", archives=files)
    assert time.perf_counter() - began < 20  # TFDS itself tries for 205 seconds
    assert "Connection refused; finished files" in str(info.value).replace("')", "")
    assert "--manual-dir" in str(info.value)
    assert "\n" not in str(info.value)
    # the same files by hand need no server
    done = prepare("mnist", tmp_path / "data", server.folder, archives=files)
    assert done.examples == {"train": 30, "test": 20}


def test_what_a_killed_process_leaves_is_removed(server, tmp_path):
    archives.cifar(server.folder)
    files = server.archives("cifar10")
    data_dir = tmp_path / "data"
    code = f"""
        import dataclasses, os, signal
        from pathlib import Path
        from experiments.data.prepare import Archive, PREPARATIONS, prepare

        def killed(files, features, real=PREPARATIONS["cifar10"].splits):
            found = real(files, features)
            def half(examples=found["train"]):
                for number, example in enumerate(examples):
                    if number == 50:
                        os.kill(os.getpid(), signal.SIGKILL)
                    yield example
            return found | {{"train": half()}}

        whole = PREPARATIONS["cifar10"]
        PREPARATIONS["cifar10"] = dataclasses.replace(whole, splits=killed)
        prepare("cifar10", Path({str(data_dir)!r}), archives={files!r})
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True
    )
    assert ended.returncode == -9
    (left,) = (data_dir / "cifar10").glob("incomplete.*")
    # and of a day ago, in the middle of a download
    old = data_dir / "downloads" / "cifar10" / "cs.toronto.edu_x.tmp.0123456789abcdef"
    old.mkdir()
    (old / "cifar-10-binary.tar.gz").write_bytes(b"half")
    for path in (old, left):
        os.utime(path, (time.time() - 90_000,) * 2)
    with pytest.raises(ExperimentError, match="cifar10 is not prepared"):
        load_images("cifar10", data_dir)
    server.asked.clear()
    done = prepare("cifar10", data_dir, archives=files)
    assert done.examples == {"train": 100, "test": 20}
    assert server.asked == []  # the download was whole
    assert not partial_files(data_dir)


def test_only_one_process_prepares_a_data_set(server, tmp_path):
    archives.mnist(server.folder)
    with (
        alone(tmp_path / "downloads", "mnist"),
        pytest.raises(ExperimentError, match="mnist is being prepared in"),
    ):
        prepare("mnist", tmp_path, archives=server.archives("mnist"))
    prepare("mnist", tmp_path, archives=server.archives("mnist"))


def truncate(content):
    return content[:-100]


@pytest.mark.parametrize(
    ("name", "member", "change", "message"),
    [
        ("cifar10", "test_batch.bin", truncate, "test_batch.bin is truncated"),
        (
            "cifar10",
            "data_batch_2.bin",
            lambda content: content[: 3073 * 3] + b"\x0b" + content[3073 * 3 + 1 :],
            "data_batch_2.bin, record 23: unknown label 11, expected 0 to 9",
        ),
        ("cifar10", "data_batch_3.bin", None, "has no cifar-10.*data_batch_3.bin"),
        ("cifar10", "data_batch_3.bin", lambda content: b"", "truncated: 0 bytes"),
        ("cifar10", "batches.meta.txt", lambda content: b"a\nb\n", "10"),
    ],
)
def test_damage_inside_an_archive_is_named(
    name, member, change, message, server, tmp_path
):
    archives.cifar(server.folder)
    path = server.folder / "cifar-10-binary.tar.gz"
    with tarfile.open(path) as archive:
        members = {
            entry.name: archive.extractfile(entry).read()
            for entry in archive.getmembers()
        }
    with tarfile.open(path, "w:gz") as archive:
        for entry, content in members.items():
            if not entry.endswith(member):
                archives.add(archive, entry, content)
            elif change is not None:
                archives.add(archive, entry, change(content))
    with pytest.raises(ExperimentError, match=message) as info:
        prepare(name, tmp_path / "data", archives=server.archives(name))
    assert "\n" not in str(info.value)
    assert not partial_files(tmp_path / "data")
    with pytest.raises(ExperimentError, match=f"{name} is not prepared"):
        load_images(name, tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("mnist", "train-images-idx3-ubyte.gz", b"no gzip", "cannot read .*gzip"),
        (
            "mnist",
            "train-labels-idx1-ubyte.gz",
            archives.idx(np.full(30, 12, np.uint8)),
            "record 0: unknown label 12",
        ),
        (
            "mnist",
            "t10k-images-idx3-ubyte.gz",
            archives.idx(np.zeros((20, 28, 27), np.uint8)),
            r"\(20, 28, 27\), expected \(20, 28, 28\)",
        ),
        ("svhn_cropped", "test_32x32.mat", b"MATLAB?" * 40, "cannot read .*test_32x32"),
        ("imagenet_resized/32x32", "Imagenet32_val_npz.zip", b"", "cannot read .*zip"),
        (
            "downsampled_imagenet/32x32",
            "valid_32x32.tar",
            b"x" * 9,
            "cannot read .*tar",
        ),
        ("imagenette", "imagenette2.tgz", b"x" * 99, "cannot read .*tgz"),
    ],
)
def test_damaged_files_are_named(name, file, content, message, server, tmp_path):
    WRITERS[name](server.folder)
    (server.folder / file).write_bytes(content)
    with pytest.raises(ExperimentError, match=message) as info:
        prepare(name, tmp_path / "data", archives=server.archives(name))
    assert "\n" not in str(info.value)
    assert not partial_files(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "file", "member", "content", "message"),
    [
        (
            "downsampled_imagenet/32x32",
            "valid_32x32.tar",
            "valid_32x32/00000.png",
            archives.jpeg(np.zeros((32, 31, 3), np.uint8), kind="png"),
            "valid_32x32/00000.png: the image is 31x32, expected 32x32",
        ),
        (
            "imagenette",
            "imagenette2.tgz",
            "imagenette2/train/n01440764/a.JPEG",
            b"no image",
            ".tgz: imagenette2/train/n01440764/a.JPEG is no image",
        ),
        (
            "imagenette",
            "imagenette2.tgz",
            "imagenette2/train/n00000000/a.JPEG",
            archives.jpeg(np.zeros((9, 9, 3), np.uint8)),
            "a.JPEG: unknown label 'n00000000'",
        ),
    ],
)
def test_a_wrong_image_in_an_archive_is_named(
    name, file, member, content, message, server, tmp_path
):
    WRITERS[name](server.folder)
    with tarfile.open(server.folder / file, "w:gz") as archive:
        archives.add(archive, member, content)
    with pytest.raises(ExperimentError, match=message):
        prepare(name, tmp_path / "data", archives=server.archives(name))
    assert not partial_files(tmp_path / "data")


def test_an_archive_without_images_is_an_empty_split(server, tmp_path):
    archives.imagenette(server.folder)
    with tarfile.open(server.folder / "imagenette2.tgz", "w:gz") as archive:
        archives.add(archive, "imagenette2/val/README", b"nothing")
    with pytest.raises(
        ExperimentError, match="imagenette2.*.tgz holds no .*: an empty"
    ):
        prepare("imagenette", tmp_path, archives=server.archives("imagenette"))


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
    assert main(["prepare", "digits", f"--data-dir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown dataset to prepare 'digits'; choose one of")
