"""Figures, tables and page of the comparison, from its rows."""

import inspect
import json
from collections.abc import Sequence
from typing import Any

from experiments.configs.p3 import switchover as lab_note
from experiments.configs.p3.switchover import SwitchoverConfig
from experiments.files import write_atomically
from experiments.report import _page
from experiments.run_folder import RunFolder
from experiments.switchover import _figures, _tables
from experiments.switchover._methods import methods

_ABOUT_ERRORS = (
    "Mean ± sample deviation over seeds, and below it the 95 % bootstrap interval "
    "of the mean, which resamples seeds only and is too narrow for a handful of "
    "them. Rates were chosen on validation. The test error was recorded at every "
    "epoch for the figures below; nothing was chosen by it. 'Rate after it' is what "
    "multiplies SGD's momentum buffer: (1−β1)Λ for SWATS, the tuned rate for Sw@."
)
_ABOUT_RATE = (
    "One colour a seed. The logarithmic axis of steps shows the first epochs. Once "
    "the loss is small, steps and gradients are nearly orthogonal: γ has a heavy "
    "tail and either sign, its average jumps or turns negative, and a switch there "
    "would take over a rate without meaning (a negative one is never taken). Where "
    "Adam's rate falls γ follows at once and its average, with a memory of 1000 "
    "steps, does not: the two are apart, and no switch can be expected. From a "
    "switch on the dashed line is Λ under the schedule."
)
_ABOUT_TOLERANCES = (
    "Read off the runs with the printed tolerance: until its first switch a run is "
    "Adam whatever the tolerance, so a run without a switch answers for all of "
    "them."
)
_ABOUT_CURVES = (
    "Mean over seeds, band of one deviation; dotted where the rate falls to a "
    "tenth. Sw@e: Adam for e epochs, then SGD with momentum at its tuned rate, e "
    "being the same fraction of the run as the paper's 10, 40 and 80 of 200 epochs."
)
_ABOUT_CLIP = (
    "The bounds are multiples of the tuned SGD(M) rate / (1−β1): Adam-Clip "
    "multiplies a moving average of the gradient, so that with it Adam-Clip(1, 1) "
    "would be SGD(M)."
)
_ABOUT_TABLE_1 = (
    "† without momentum. Λ multiplies 1−β1 before it is used, so (1−β1)Λ is what "
    "compares with the rate of SGDM. The paper's rows are of other networks, data "
    "and lengths: no target. Its accuracies stand in figures only."
)


def write(
    folder: RunFolder,
    config: SwitchoverConfig,
    results: Sequence[dict[str, Any]],
    steps: Sequence[dict[str, Any]],
) -> list[str]:
    """Writes the figures, ``table.md`` and ``report.html``.

    Args:
      folder: where to; ``metrics.jsonl`` is read from it.
      config: the comparison.
      results: rows of ``results.csv``.
      steps: rows of ``steps.csv``.

    Returns:
      What came out, in sentences.
    """
    every = results[0]["steps"] // results[0]["epochs"]
    chosen = {method.name: method for method in methods(config, every)}
    sgd, adam, printed, swats, *rest = chosen.values()
    fixed, clipped = rest[:-2], rest[-2:]
    rows = folder.rows()
    figures = {
        "rate.png": _figures.estimated_rate(steps, config, (printed, swats)),
        "switches.png": _figures.error_curves(
            rows, [sgd, adam, swats, printed, *fixed], config
        ),
        "clip.png": _figures.error_curves(rows, [sgd, adam, *clipped], config),
    }
    for name, png in figures.items():
        write_atomically(folder.path / name, png)
    tables = {
        "errors": (_tables.ERRORS_HEADER, _tables.errors(results, [*chosen.values()])),
        "table 1": (_tables.TABLE_1_HEADER, _tables.table_1(results, config)),
        "tolerances": (_tables.TOLERANCES_HEADER, _tables.tolerances(steps, every)),
    }
    text = "\n".join(_page.markdown(*table) for table in tables.values())
    write_atomically(folder.path / "table.md", text)
    finding = _tables.findings(results, steps, config)
    html = {name: _page.make_table(*table) for name, table in tables.items()}
    page = _page.make_page(
        title=f"switchover: {config.model} on {config.dataset}",
        finding=finding,
        sections=[
            (
                "Errors at the end",
                html["errors"] + _page.paragraph(_ABOUT_ERRORS),
            ),
            (
                "The estimated rate of SGD, step by step (P3, fig. 7)",
                _page.picture("gamma and its average", figures["rate.png"])
                + _page.paragraph(_ABOUT_RATE),
            ),
            (
                "Where other tolerances would have switched",
                html["tolerances"] + _page.paragraph(_ABOUT_TOLERANCES),
            ),
            (
                "SWATS, its parts, and fixed switches (P3, fig. 2)",
                _page.picture("error curves", figures["switches.png"])
                + _page.paragraph(_ABOUT_CURVES),
            ),
            (
                "Clipped step sizes (P3, fig. 1)",
                _page.picture("error curves", figures["clip.png"])
                + _page.paragraph(_ABOUT_CLIP),
            ),
            (
                "Table 1, the paper's and ours",
                html["table 1"] + _page.paragraph(_ABOUT_TABLE_1),
            ),
        ],
        description=json.loads((folder.path / "config.json").read_text()),
        note=inspect.getdoc(lab_note) or "",
    )
    write_atomically(folder.path / "report.html", page)
    return finding
