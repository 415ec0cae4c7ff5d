"""What several of these tests share."""

import contextlib
import os
import shutil
import subprocess

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid():
        pytest.skip("mounting a small file system needs root")
    command = [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def cifar_dir(tmp_path_factory):
    """CIFAR-10 as TFDS prepares it, with few examples."""
    from tests.experiments.prepared import cifar_examples, write

    path = tmp_path_factory.mktemp("cifar")
    examples = {"train": cifar_examples(200), "test": cifar_examples(30, seed=1)}
    write("cifar10", path, examples)
    return path


@pytest.fixture
def server(tmp_path):
    """A server of published archives, with nothing to serve yet."""
    import tensorflow_datasets as tfds

    from tests.experiments.serving import Server

    tfds.disable_progress_bar()
    folder = tmp_path / "published"
    folder.mkdir()
    with contextlib.closing(Server(folder)) as found:
        yield found
