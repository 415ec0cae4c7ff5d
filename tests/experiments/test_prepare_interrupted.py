"""Preparing data sets where something comes in between: nothing half-written stays."""

import _thread
import dataclasses
import os
import resource
import subprocess
import sys
import textwrap
import time

import pytest

from experiments.data import load_images
from experiments.data.prepare import prepare
from experiments.data.prepare._folder import alone
from experiments.errors import ExperimentError
from tests.experiments import archives
from tests.experiments.serving import partial_files


def test_a_wrong_checksum_is_one_line_and_leaves_nothing(server, tmp_path):
    archives.mnist(server.folder)
    files = server.archives("mnist")
    wrong = "t10k-labels-idx1-ubyte.gz"
    damaged = dataclasses.replace(files[wrong], sha256="0" * 64)
    with pytest.raises(ExperimentError, match=f"mnist: .*{wrong}.*wrong checksum") as e:
        prepare("mnist", tmp_path / "data", archives=files | {wrong: damaged})
    assert "\n" not in str(e.value)
    assert not partial_files(tmp_path / "data")
    assert not (tmp_path / "data" / "mnist").exists()
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
    files = server.archives("cifar10")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # no file may become larger: what write() meets on a full disk, but for errno
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        for by_hand in (
            None,
            server.folder,
        ):  # while downloading, while writing records
            with pytest.raises(ExperimentError) as info:
                prepare("cifar10", data_dir, by_hand, archives=files)
            said = str(info.value)
            assert said.startswith(f"cannot write cifar10 to {data_dir}: ")
            assert "File too large" in said
            assert "\n" not in said
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not partial_files(data_dir)
    assert not (data_dir / "cifar10").exists()
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
