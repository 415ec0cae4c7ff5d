"""Figures, files and page of an analysis."""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np

from experiments import environment
from experiments.analyse import _figures
from experiments.analyse._files import numbers_of, write_curves
from experiments.analyse._network import AVERAGE, ITERATE
from experiments.analyse._table import (
    HEADER,
    Analysis,
    about_ratio,
    findings,
    rows_of,
)
from experiments.configs.p0 import analyse as lab_note
from experiments.files import write_atomically
from experiments.report import _landscape_figures, _page
from optax_ia.landscape import Line

_HESSIAN = (
    "The Hessian is that of the evaluation-mode loss: the mean cross entropy over all "
    "training images, without augmentation and without decay, the batch statistics "
    "held fixed. For the last iterate they are its running ones; for the average they "
    "were estimated anew. ± is the standard error over random vectors; the vectors "
    "are the same for both points. The two rows that are divided by P are what P0's "
    "tables 9 and 15 call Frobenius norm and trace."
)
_SPECTRUM = (
    "Above, the density, each node smoothed by a Gaussian; below, the raw nodes of "
    "every probe with their weights. Dotted: ±λ_P. A bulk of noise reaches as far to "
    "both sides of 0, so what lies above −λ_P stands out; the table says how many "
    "eigenvalues that is, P times the nodes' weight. The semicircle is that of random "
    "matrix theory, about 0 beside a peak there, fitted to the nodes below 0, which "
    "noise alone makes. Its distance is between the distribution functions of both, in "
    "units of the semicircle's part below half of its radius: near 0 where the law "
    "describes the tail, and then its edges are the bulk's; if not, they are a scale."
)
_LINE = {
    "estimated": (
        "Batch statistics are estimated anew at every point, on augmented training "
        "batches, so the loss at the iterate's end may differ a little from the "
        "table's, which has its running statistics."
    ),
    "kept": (
        "Batch statistics are the last iterate's at every point, also at the average, "
        "to which they do not belong: the table has estimates for it."
    ),
}
_SURFACE = (
    "Two random directions, each filter scaled to the norm of the filter of the "
    "weights; biases and scales of normalisation stay. {statistics} All panels have "
    "the same random numbers and one scale; a coordinate of 1 is as long as the "
    "weights.{clipped}"
)
_SURFACE_STATISTICS = {
    "estimated": "Statistics are estimated anew at every point.",
    "kept": "Statistics are those of the centre at every point.",
}
_DIVERSITY = (
    "Between the softmax outputs of all pairs of collected iterates, averaged over "
    "the images of the test split (as P0 does; no label is used). The ensemble "
    "averages the iterates' probabilities."
)
_RATES = (
    "The learning rate over the squared norm of the kernel, for the convolutions: "
    "normalisation follows these, and makes their scale immaterial."
)


def _bounds(found: Analysis) -> tuple[float, float] | None:
    """The losses that are drawn of surfaces; None for all."""
    highest = found.config.max_loss
    lowest = min(float(np.nanmin(plane.losses)) for plane in found.surfaces.values())
    return None if highest is None or highest <= lowest else (0.0, highest)


def _about_surface(found: Analysis) -> str:
    """How the surfaces were made, and what of them is not seen."""
    highest, clipped = found.config.max_loss, ""
    if _bounds(found) is not None:
        clipped = (
            f" Losses above {highest:g} are white in the contours and cut off above "
            "the surfaces."
        )
    elif highest is not None:
        clipped = f" No loss is below {highest:g}: all are drawn."
    statistics = _SURFACE_STATISTICS[found.config.statistics]
    return _SURFACE.format(statistics=statistics, clipped=clipped)


def _figures_of(found: Analysis) -> dict[str, bytes]:
    """The PNG files by name."""
    config = found.config
    log_line = config.line_scale == "log"
    around: Any = {
        "log": config.surface_scale == "log",
        "bounds": _bounds(found),
        "label": "training loss",
    }
    marks = {"iterate": 0.0, "average": 1.0}
    error = found.lines["validation error"]
    percent = Line(error.coordinates, 100 * error.losses)
    coordinate = "from last iterate to average"
    loss = found.lines["training loss"]
    figures = {
        "spectrum.png": _figures.spectrum(found.sharpness),
        "line_loss.png": _landscape_figures.line(
            {"training loss": loss}, log=log_line, marks=marks,
            label="training loss", coordinate=coordinate,
        ),
        "line_error.png": _landscape_figures.line(
            {"validation error": percent}, log=log_line, marks=marks,
            label="validation error (%)", coordinate=coordinate,
        ),
        "surface.png": _landscape_figures.contour(found.surfaces, **around),
        "surface_3d.png": _landscape_figures.surface(found.surfaces, **around),
    }  # fmt: skip
    many = found.ensemble
    if many.symmetric_kl is not None and many.total_variation is not None:
        figures["diversity.png"] = _figures.diversity(
            {
                "symmetrised KL": many.symmetric_kl,
                "total variation": many.total_variation,
            },
            many.epochs,
        )
    if found.rates:
        first = many.epochs[0] if many.epochs else None
        figures["effective_rates.png"] = _figures.effective_rates(found.rates, first)
    return figures


def _sections(found: Analysis, figures: dict[str, bytes]) -> list[tuple[str, str]]:
    def pictures(*names):
        return "\n".join(_page.picture(name, figures[name]) for name in names)

    many = found.ensemble
    sections = [
        (
            "Sharpness of both points (P0, tables 9 and 15)",
            _page.make_table(HEADER, rows_of(found))
            + _page.paragraph(_HESSIAN)
            + _page.paragraph(about_ratio(found)),
        ),
        (
            "Spectrum of the Hessian",
            pictures("spectrum.png") + _page.paragraph(_SPECTRUM),
        ),
        (
            "Between the two",
            pictures("line_loss.png", "line_error.png")
            + _page.paragraph(_LINE[found.config.statistics]),
        ),
        (
            "Around each",
            pictures("surface.png", "surface_3d.png")
            + _page.paragraph(_about_surface(found)),
        ),
    ]
    if "diversity.png" in figures:
        iterate, average = (
            100 * found.scores[name]["validation_error"] for name in (ITERATE, AVERAGE)
        )
        rows = [
            (f"{iterate:.2f}", f"{average:.2f}", f"{100 * many.error:.2f}"),
        ]
        header = (
            "validation error, %:\nlast iterate",
            "average of weights",
            "ensemble of predictions",
        )
        body = pictures("diversity.png") + _page.make_table(header, rows)
        body += _page.paragraph(_DIVERSITY)
    else:
        body = _page.paragraph("Diversity needs two collected iterates.")
    sections.append(("Diversity of the iterates (P0, fig. 3 and 4)", body))
    if "effective_rates.png" in figures:
        body = pictures("effective_rates.png") + _page.paragraph(_RATES)
    else:
        body = _page.paragraph(
            "Not shown: the network has no batch normalisation, or the run logs no "
            "learning rate."
        )
    sections.append(("Effective learning rates (P0, fig. 5)", body))
    return sections


def write(path: Path, source: Path, found: Analysis) -> list[str]:
    """Writes figures, numbers and ``report.html``.

    Args:
      path: the folder, made if it is missing.
      source: the run folder.
      found: what was measured.

    Returns:
      What came out, in sentences.
    """
    path.mkdir(parents=True, exist_ok=True)
    figures = _figures_of(found)
    for name, png in figures.items():
        write_atomically(path / name, png)
    run = found.trained.run
    description = {
        "command": "analyse",
        "config": {
            "folder": source.name,
            "analysis": dataclasses.asdict(found.config),
            "run": dataclasses.asdict(run),
        },
        "commit": environment.commit(),
        "versions": environment.versions(),
    }
    numbers = {**description, **numbers_of(found, rows_of(found))}
    text = json.dumps(numbers, indent=2, allow_nan=False) + "\n"
    write_atomically(path / "numbers.json", text)
    write_curves(path, found)
    said = findings(found)
    page = _page.make_page(
        title=(
            f"analyse: {run.optimizer}, seed {run.seed}: {run.model} on {run.dataset}"
        ),
        finding=said,
        sections=_sections(found, figures),
        description=description,
        note=inspect.getdoc(lab_note) or "",
    )
    write_atomically(path / "report.html", page)
    return said
