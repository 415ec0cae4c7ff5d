"""Tables are never cut to the width of a narrow terminal."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from experiments.console import table_console


@pytest.mark.parametrize("columns", ["40", "80", "300"])
def test_every_number_is_printed(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    console = table_console()
    table = Table(*(f"column {i}" for i in range(11)))
    table.add_row(*(f"{i}.2345" for i in range(11)))
    stream = io.StringIO()
    Console(file=stream, width=console.width).print(table)
    assert all(f"{i}.2345" in stream.getvalue() for i in range(11))
