"""The files of a run, and the page."""

import inspect
import json
from collections.abc import Sequence
from typing import Any

from experiments.configs.p1.damping import DampingConfig
from experiments.damping._cells import METHODS, methods
from experiments.damping._figures import FLOOR, diagonal_curves, error_curves, maps
from experiments.damping._tables import HEADER, finding, table
from experiments.data import Dataset
from experiments.files import write_atomically
from experiments.report import _page
from experiments.run_folder import RunFolder

Row = dict[str, Any]

_REPORTED_HEADER = ("rate", "damping", "spectral norm", "validation\nerror (%)")


def write(
    folder: RunFolder,
    config: DampingConfig,
    lab_note: Any,
    data: Dataset,
    rows: Sequence[Row],
    epochs: Sequence[Row],
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Writes the figures, ``table.md`` and ``report.html``.

    Args:
      folder: where to.
      config: the comparison.
      lab_note: the module of its configuration.
      data: what was trained on.
      rows: those of ``results.csv``.
      epochs: those of ``metrics.jsonl``.

    Returns:
      The table's lines, and what came out in sentences.
    """
    curves, picture = error_curves(epochs, config), maps(rows, config)
    lines, said = table(rows, config), finding(rows, config, len(data.test))
    write_atomically(folder.path / "errors.png", curves)
    write_atomically(folder.path / "maps.png", picture)
    write_atomically(folder.path / "table.md", _page.markdown(HEADER, lines))
    reported = [
        (f"{rate:g}", f"{damping:g}", f"{norm:g}", f"{100 - accuracy:.1f}")
        for rate, damping, norm, accuracy in lab_note.REPORTED
    ]
    about = (
        "The spectral norm is the eigenvalue of largest magnitude of the Hessian of "
        "the training loss at the last weights, over all training images without "
        f"augmentation, by {config.num_steps} steps of Lanczos; batch normalisation, "
        "where there is any, keeps its running statistics. Mean ± deviation over seeds."
    )
    names = " and ".join(METHODS[name] for name in methods(config))
    together = []
    along = diagonal_curves(epochs, config)
    if along is not None:
        write_atomically(folder.path / "diagonal.png", along)
        heading = f"Errors at δ = {config.kappa:g} α (P1, fig. 4)"
        together = [(heading, _page.picture(heading, along))]
    page = _page.make_page(
        title=f"damping of {names}: {config.model} on {config.dataset}",
        finding=said,
        sections=[
            *together,
            (
                "Errors over the epochs (P1, figs 4, 5 and 7)",
                _page.picture("training and validation errors over the epochs", curves)
                + _page.paragraph(
                    "Mean over seeds. The training error is the mean over the epoch's "
                    f"steps, of augmented images; less than {FLOOR:g} % is drawn as "
                    "that."
                ),
            ),
            (
                "Spectral norm and test error (P1, table 2)",
                _page.picture("spectral norms and test errors of the grid", picture)
                + _page.paragraph("Blank places were not run."),
            ),
            ("Numbers", _page.make_table(HEADER, lines) + _page.paragraph(about)),
            (
                f"What P1 reports: {METHODS[config.optimizer]}, VGG-16 on CIFAR-100",
                _page.make_table(_REPORTED_HEADER, reported),
            ),
        ],
        description=json.loads((folder.path / "config.json").read_text()),
        note=inspect.getdoc(lab_note) or "",
    )
    write_atomically(folder.path / "report.html", page)
    return lines, said
