"""Rows of a benchmark as a CSV file: a spread takes three columns."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments import environment
from experiments.benchmarks._measure import Spread
from experiments.run_folder import write_csv


def _flat(row: Any) -> dict[str, Any]:
    """One cell per number, and what the row says of a bar."""
    cells: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Spread):
            cells[field.name] = value.median
            cells[f"{field.name}_q1"] = value.low
            cells[f"{field.name}_q3"] = value.high
        else:
            cells[field.name] = value
    if hasattr(row, "passed"):
        cells["passed"] = row.passed
    return cells


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """Writes rows of one dataclass, with what they were measured on.

    Args:
      path: the file.
      rows: at least one; a field that is None has one column, whatever it could be.
    """
    source = {
        "device": jax.devices()[0].device_kind,
        "commit": environment.commit(),
        "versions": json.dumps(environment.versions(), sort_keys=True),
    }
    table = [_flat(row) | source for row in rows]
    columns = tuple(dict.fromkeys(name for row in table for name in row))
    write_csv(path, columns, [dict.fromkeys(columns) | row for row in table])


def with_quartiles(spread: Spread | None) -> str:
    """A median and its quartiles; empty for None."""
    if spread is None:
        return ""
    return f"{spread.median:.2f} [{spread.low:.2f}, {spread.high:.2f}]"
