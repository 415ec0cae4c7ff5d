"""The files of a grid, and the page."""

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.configs.p4 import quality as lab_note
from experiments.configs.p4.quality import QualityConfig
from experiments.files import write_atomically
from experiments.quality._figures import scatter
from experiments.quality._runs import Measured
from experiments.quality._tables import (
    GRID_HEADER,
    HEADER,
    finding,
    grid,
    table,
)
from experiments.report import _page
from experiments.report._layer_figures import metrics_evolution, quality_map
from experiments.run_folder import RunFolder

Row = dict[str, Any]

_HOW_TO_READ = """\
Q is computed from the weights of the last iterate alone. PLCC is Pearson's correlation,
ROCC Spearman's, of ranks. The intervals are Fisher's and take all runs for independent,
which seeds of one cell are not quite: they are too narrow. The gap is the accuracy on
the training images, without augmentation, minus that on the test images."""


def _layer_figures(
    shown: Mapping[str, Sequence[Measured]], config: QualityConfig
) -> dict[str, tuple[str, bytes]]:
    """Figures of the widest network's layers, for RMSGD and SGD or the first two."""
    wanted = [name for name in ("rmsgd", "sgd") if name in shown]
    wanted = wanted or list(shown)[:2]
    # the figures count epochs from 1
    after = {name: [m for m in shown[name] if m.epoch > 0] for name in wanted}
    layers = {name: [m.layers for m in own] for name, own in after.items()}
    rates = {
        name: [m.diagnostics for m in own]
        for name, own in after.items()
        if any(key.startswith("learning_rate/") for key in own[0].diagnostics)
    }
    where = f"width {max(config.widths)}, seed {config.seeds[0]}"
    return {
        "layers.png": (
            f"Quality of the layers over epochs, {where} (P4, fig. 1b)",
            quality_map(layers),
        ),
        "metrics.png": (
            f"Stable rank, condition, Q and layers' rates, {where} (P4, fig. 3 and 5)",
            metrics_evolution(layers, rates or None),
        ),
    }


def write(
    folder: RunFolder,
    config: QualityConfig,
    rows: Sequence[Row],
    layers: Sequence[Row],
    shown: Mapping[str, Sequence[Measured]],
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Writes the figures, ``table.md`` and ``report.html``.

    Args:
      folder: where to.
      config: the grid.
      rows: those of ``results.csv``.
      layers: those of ``layers.csv``.
      shown: by optimiser, what was measured of one network.

    Returns:
      The table's lines, and what came out in sentences.
    """
    lines, said = table(rows, config), finding(rows, layers, config)
    picture = scatter(rows, config)
    figures = _layer_figures(shown, config)
    write_atomically(folder.path / "quality.png", picture)
    for name, (_, png) in figures.items():
        write_atomically(folder.path / name, png)
    write_atomically(folder.path / "table.md", _page.markdown(HEADER, lines))
    page = _page.make_page(
        title=f"quality of the weights: {config.model} on {config.dataset}",
        finding=said,
        sections=[
            (
                "Q and generalisation (P4, fig. 2a)",
                _page.picture("Q against test accuracy and gap", picture)
                + _page.make_table(HEADER, lines)
                + _page.paragraph(_HOW_TO_READ),
            ),
            *(
                (caption, _page.picture(caption, png))
                for caption, png in figures.values()
            ),
            ("The grid", _page.make_table(GRID_HEADER, grid(rows, config))),
        ],
        description=json.loads((folder.path / "config.json").read_text()),
        note=inspect.getdoc(lab_note) or "",
    )
    write_atomically(folder.path / "report.html", page)
    return lines, said
