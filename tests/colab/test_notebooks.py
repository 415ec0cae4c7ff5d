"""Every notebook: its size, its committed outputs, and a run from start to end."""

import json
import pathlib
import sys

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[2] / "colab").glob("*.ipynb"))
MACHINE_PATHS = ("/work", "/tmp", "/root", "/home", "site-packages")

every_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS]
)

LONG = (
    "02_switching_and_clipping",
    "03_spectrum_and_surface",
    "04_second_order",
    "05_layer_metrics_and_rmsgd",
    "06_language",
)
"""About a minute each or more: run with the slow tests."""

every_run = pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path, id=path.stem, marks=[pytest.mark.slow] if path.stem in LONG else []
        )
        for path in NOTEBOOKS
    ],
)


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


@every_run
def test_runs_from_start_to_end(path, tmp_path, monkeypatch):
    # The kernel is a reader's: one device, no user settings, figures inline.
    for name in ("XLA_FLAGS", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    notebook = read(path)
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_manager_class=ThisInterpreter,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()  # raises at the first cell that fails
    kinds = {output.output_type for output in outputs(notebook)}
    assert "error" not in kinds
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
