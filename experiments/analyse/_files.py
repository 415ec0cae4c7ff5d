"""The numbers of an analysis, as JSON and CSV."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.analyse._table import Analysis
from experiments.run_folder import write_csv


def numbers_of(found: Analysis, table: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Everything of one number, for ``numbers.json``."""
    many = found.ensemble
    numbers: dict[str, Any] = {
        name: {
            **found.scores[name],
            "num_params": sharp.num_params,
            "largest_eigenvalue": sharp.largest,
            "smallest_eigenvalue": sharp.smallest,
            "spectral_norm": sharp.spectral_norm,
            "spectral_norm_residual": sharp.residual,
            "trace": float(sharp.trace.mean),
            "trace_standard_error": float(sharp.trace.standard_error),
            "frobenius_norm": float(sharp.frobenius.mean),
            "frobenius_norm_standard_error": float(sharp.frobenius.standard_error),
            "trace_per_parameter": sharp.mean_eigenvalue,
            "squared_frobenius_norm_per_parameter": sharp.mean_square,
            "eigenvalues_beyond": sharp.num_beyond,
            "bulk": sharp.bulk._asdict(),
        }
        for name, sharp in found.sharpness.items()
    }
    damping = found.damping
    numbers["damping"] = None if damping is None else dataclasses.asdict(damping)
    numbers["ensemble_validation_error"] = many.error
    for name in ("symmetric_kl", "total_variation"):
        measured = getattr(many, name)
        numbers[name] = None if measured is None else float(measured.mean)
    numbers["collected_epochs"] = many.epochs
    numbers["difference_from_folder"] = found.trained.largest_difference
    numbers["table"] = [list(row) for row in table]
    return _without_nan(numbers)


def _without_nan(node: Any) -> Any:
    """NaN and infinities, which JSON does not have, become None."""
    if isinstance(node, dict):
        return {name: _without_nan(value) for name, value in node.items()}
    if isinstance(node, list | tuple):
        return [_without_nan(value) for value in node]
    if isinstance(node, float) and not math.isfinite(node):
        return None
    return node


def write_curves(path: Path, found: Analysis) -> None:
    """The numbers behind the figures, as CSV files."""
    nodes = [
        {"point": name, "probe": probe, "node": float(node), "weight": float(weight)}
        for name, sharp in found.sharpness.items()
        for probe in range(len(sharp.density.nodes))
        for node, weight in zip(
            sharp.density.nodes[probe], sharp.density.weights[probe], strict=True
        )
    ]
    write_csv(path / "spectrum.csv", ("point", "probe", "node", "weight"), nodes)
    loss, error = found.lines["training loss"], found.lines["validation error"]
    line = [
        {"coordinate": float(a), "train_loss": float(b), "validation_error": float(c)}
        for a, b, c in zip(loss.coordinates, loss.losses, error.losses, strict=True)
    ]
    write_csv(path / "line.csv", ("coordinate", "train_loss", "validation_error"), line)
    surfaces = [
        {"point": name, "x": float(x), "y": float(y), "train_loss": float(value)}
        for name, plane in found.surfaces.items()
        for y, row in zip(plane.ys, np.asarray(plane.losses), strict=True)
        for x, value in zip(plane.xs, row, strict=True)
    ]
    write_csv(path / "surface.csv", ("point", "x", "y", "train_loss"), surfaces)
    rates = [
        {"epoch": epoch, "layer": name, "effective_learning_rate": value}
        for name, values in found.rates.items()
        for epoch, value in enumerate(values, 1)
    ]
    columns = ("epoch", "layer", "effective_learning_rate")
    write_csv(path / "effective_rates.csv", columns, rates)
