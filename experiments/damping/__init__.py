"""``python -m experiments damping``: damping, sharpness and generalisation (P1).

Adam and AdamW, or K-FAC, over learning rate and damping on digits, with several seeds:
errors over the epochs (P1, figs 4, 5 and 7), and at the end the spectral norm of the
training loss's Hessian beside the test error (table 2).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from experiments.cli import parse
from experiments.configs.p1 import damping as adam_note
from experiments.configs.p1 import damping_kfac as kfac_note
from experiments.configs.p1.damping import DampingConfig, check
from experiments.console import table_console
from experiments.damping._cells import Cell as Cell
from experiments.damping._cells import cells as cells
from experiments.damping._report import write
from experiments.damping._runs import run as run
from experiments.damping._runs import run_all
from experiments.damping._tables import HEADER
from experiments.damping._tables import grid as grid
from experiments.damping._tables import summarise as summarise
from experiments.loops import image
from experiments.run_folder import RunFolder

NOTES = {"adam": adam_note, "kfac": kfac_note}
"""By ``--optimizer``: lab note, presets, and what P1 reports."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train Adam and AdamW, or K-FAC, over rate and damping; norms and errors."""

    config: tyro.conf.OmitArgPrefixes[DampingConfig]
    preset: Annotated[
        Literal["small", "smoke"],
        tyro.conf.arg(help="small: minutes on two cores. smoke: seconds, a check."),
    ] = "small"
    out: Path | None = None
    """Run folder, by default a new one under runs/damping."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: those of :class:`Arguments`.

    Returns:
      The exit status, 0.
    """
    parsed = parse(Arguments, arguments, command="damping")
    preset = NOTES[parsed.config.optimizer].PRESETS[parsed.preset]
    if preset != DampingConfig():  # what is not given comes from the preset
        default = Arguments(preset, preset=parsed.preset)
        parsed = parse(Arguments, arguments, command="damping", default=default)
    config = parsed.config
    check(config)
    data = image.load_arrays(config.task)
    folder = RunFolder.prepare(parsed.out, "damping", config, resume=False)
    rows, epochs = run_all(config, data, folder, Console())
    note = NOTES[config.optimizer]
    lines, said = write(folder, config, note, data, rows, epochs)
    shown = Table(*HEADER, box=None, pad_edge=False)
    for line in lines:
        shown.add_row(*line)
    table_console().print(shown)
    for text in said:
        print(text)
    print(f"report: {folder.path / 'report.html'}")
    return 0
