"""Every public name is documented with an example, and every example runs."""

import doctest
import importlib
import inspect
import os
import pathlib
import pkgutil
import re
import subprocess
import sys

import jax
import pytest

import optax_ia

README = pathlib.Path(__file__).parents[1] / "README.md"


def public_modules():
    """The packages whose names users import."""
    names = ["optax_ia", "optax_ia.flax", "optax_ia.models", "optax_ia.registry"]
    for module in pkgutil.iter_modules(optax_ia.__path__, "optax_ia."):
        if not module.name.rpartition(".")[2].startswith("_"):
            names.append(module.name)
    return sorted(set(names))


def public_objects():
    """Functions and classes reachable by a public name, each once."""
    seen = {}
    for module_name in public_modules():
        module = importlib.import_module(module_name)
        for name, value in vars(module).items():
            if name.startswith("_") or not (
                inspect.isfunction(value) or inspect.isclass(value)
            ):
                continue
            if getattr(value, "__module__", "").startswith("optax_ia"):
                seen.setdefault(id(value), (f"{module_name}.{name}", value))
    return [pytest.param(value, id=name) for name, value in seen.values()]


def library_modules():
    """Every module of the library, private ones too."""
    found = pkgutil.walk_packages(optax_ia.__path__, "optax_ia.")
    return ["optax_ia", *(module.name for module in found)]


@pytest.mark.parametrize("value", public_objects())
def test_public_names_have_a_docstring_with_an_example(value):
    doc = inspect.getdoc(value)
    assert doc, "no docstring"
    assert len(doc.splitlines()[0]) <= 88
    assert doc.splitlines()[0].rstrip().endswith((".", ":")), doc.splitlines()[0]
    if isinstance(value, type) and issubclass(value, tuple):
        # A container: its fields are documented, an example would say nothing.
        assert "Attributes:" in doc
        for field in value._fields:
            assert re.search(rf"^\s*{field}: ", doc, re.MULTILINE), field
        return
    if isinstance(value, type) and value.__name__.endswith("Record"):
        assert "Attributes:" in doc
        return
    assert ">>> " in doc, "no example"


@pytest.mark.parametrize(
    "value",
    [param for param in public_objects() if inspect.isfunction(param.values[0])],
)
def test_docstrings_name_every_argument(value):
    doc = inspect.getdoc(value)
    names = [
        name
        for name, parameter in inspect.signature(value).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if names:
        assert "Args:" in doc
    for name in names:
        assert re.search(rf"^\s+{name}: ", doc, re.MULTILINE), name
    assert "Returns:" in doc


@pytest.mark.parametrize(
    "value",
    [param for param in public_objects() if inspect.isfunction(param.values[0])],
)
def test_signatures_are_typed(value):
    signature = inspect.signature(value)
    if inspect.unwrap(value) is value and value.__name__ == "recalibrate_batch_stats":
        return  # two forms, typed by their overloads
    untyped = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is parameter.empty
    ]
    assert not untyped
    assert signature.return_annotation is not signature.empty


@pytest.mark.parametrize("name", library_modules())
def test_examples_run(name):
    """As a user runs them: without 64-bit types."""
    module = importlib.import_module(name)
    with jax.enable_x64(False), jax.numpy_rank_promotion("allow"):
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    count = sum(
        bool(test.examples)
        for name in library_modules()
        for test in finder.find(importlib.import_module(name))
    )
    assert count >= 25


@pytest.mark.parametrize("name", library_modules())
def test_modules_have_a_docstring(name):
    assert importlib.import_module(name).__doc__


def test_the_readme_opens_with_ten_lines_that_work(tmp_path):
    """The first block of Python, as pasted into a file of its own."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert blocks, "no Python in the README"
    lines = [line for line in blocks[0].splitlines() if line.strip()]
    assert len(lines) <= 20
    script = tmp_path / "pasted.py"
    script.write_text(blocks[0])
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=README.parent,
        env={**os.environ, "PYTHONPATH": str(README.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr


def test_the_readme_lists_every_method():
    """The table is made from the registry: each entry has a row with its summary."""
    rows = [line for line in README.read_text().splitlines() if line.startswith("|")]
    missing = [
        name
        for name in optax_ia.list_optimizers()
        if not any(
            f"`{name}`" in row and optax_ia.get_record(name).summary.rstrip(".") in row
            for row in rows
        )
    ]
    assert not missing
