"""Every notebook: its size, its committed outputs, and a run from start to end."""

import json
import pathlib
import sys

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from tests.conftest import FLAGS

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[2] / "colab").glob("*.ipynb"))
MACHINE_PATHS = ("/work", "/tmp", "/root", "/home", "site-packages")

every_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS]
)

SHORTER = {
    "01_first_steps": (
        ("BATCH, EPOCHS = 50, 40", "BATCH, EPOCHS = 50, 4"),
        ("RATE, DECAY, START = 3e-2, 0.5, 20", "RATE, DECAY, START = 3e-2, 0.5, 2"),
    )
}
"""Replacements that leave every cell as it is, but for how long it trains."""


class ThisInterpreter(AsyncKernelManager):
    """Starts the interpreter that runs the tests, whatever kernels are installed."""

    @property
    def kernel_spec(self):
        command = [sys.executable, "-m", "ipykernel_launcher"]
        return KernelSpec(argv=[*command, "-f", "{connection_file}"])


def read(path):
    return nbformat.read(path, as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_there_are_notebooks():
    assert NOTEBOOKS


@every_notebook
def test_form(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert 12 <= len(notebook.cells) <= 24
    assert notebook.cells[0].source.startswith("# ")
    assert notebook.metadata.kernelspec.display_name == "Python 3"
    assert not any(cell.metadata for cell in notebook.cells)


@every_notebook
def test_outputs_are_committed(path):
    notebook = read(path)
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    stored = outputs(notebook)
    assert any("image/png" in output.get("data", {}) for output in stored)
    kinds = {output.output_type for output in stored}
    assert "stream" in kinds
    assert "error" not in kinds
    assert not [output for output in stored if output.get("name") == "stderr"]
    texts = [
        json.dumps({**output, "data": {**output.get("data", {}), "image/png": ""}})
        for output in stored
    ]
    for machine_path in MACHINE_PATHS:
        assert not [text for text in texts if machine_path in text]


def execute(notebook, folder, monkeypatch):
    """Runs all cells in a kernel, which raises at the first that fails."""
    monkeypatch.delenv("MPLBACKEND", raising=False)
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(folder / name.lower()))
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_manager_class=ThisInterpreter,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    kinds = {output.output_type for output in outputs(notebook)}
    assert "error" not in kinds
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))


@pytest.mark.parametrize("name", SHORTER)
def test_a_shorter_training_runs_from_start_to_end(name, tmp_path, monkeypatch):
    (path,) = (path for path in NOTEBOOKS if path.stem == name)
    notebook = read(path)
    for long, short in SHORTER[name]:
        (cell,) = (cell for cell in notebook.cells if long in cell.source)
        cell.source = cell.source.replace(long, short)
    # a reader has one device, but may wait longer for a compiler that optimises
    flags = FLAGS | {"xla_force_host_platform_device_count": "1"}
    monkeypatch.setenv("XLA_FLAGS", " ".join(f"--{k}={v}" for k, v in flags.items()))
    execute(notebook, tmp_path, monkeypatch)


@pytest.mark.slow  # half a minute and more
@every_notebook
def test_runs_from_start_to_end(path, tmp_path, monkeypatch):
    # The kernel is a reader's: one device, no user settings, figures inline.
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    execute(read(path), tmp_path, monkeypatch)
