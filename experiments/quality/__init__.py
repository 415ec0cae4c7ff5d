"""``python -m experiments quality``: does the quality of the weights tell anything?

A grid of small networks, optimisers times widths times seeds; the quality Q of each
one's last weights beside its test accuracy and its generalisation gap (P4, figure 2a).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from experiments.cli import parse
from experiments.configs.p4.quality import PRESETS, QualityConfig, check
from experiments.console import table_console
from experiments.loops import image
from experiments.optimizers import check_optimizer
from experiments.quality._report import write
from experiments.quality._runs import run as run
from experiments.quality._runs import run_all
from experiments.quality._tables import HEADER
from experiments.quality._tables import correlate as correlate
from experiments.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train a grid of networks; correlate their quality with how they generalise."""

    config: tyro.conf.OmitArgPrefixes[QualityConfig]
    preset: Annotated[
        Literal["small", "smoke"],
        tyro.conf.arg(help="small: minutes on two cores. smoke: seconds, a check."),
    ] = "small"
    out: Path | None = None
    """Run folder, by default a new one under runs/quality."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: those of :class:`Arguments`.

    Returns:
      The exit status, 0.
    """
    parsed = parse(Arguments, arguments, command="quality")
    if parsed.preset != "small":  # what is not given comes from the preset
        default = Arguments(PRESETS[parsed.preset], preset=parsed.preset)
        parsed = parse(Arguments, arguments, command="quality", default=default)
    config = parsed.config
    check(config)
    for name in config.optimizers:
        check_optimizer(name)
    data = image.load_arrays(config.task(config.widths[0]))
    folder = RunFolder.prepare(parsed.out, "quality", config, resume=False)
    rows, layers, shown = run_all(config, data, folder, Console())
    lines, said = write(folder, config, rows, layers, shown)
    table = Table(*HEADER, box=None, pad_edge=False)
    for line in lines:
        table.add_row(*line)
    table_console().print(table)
    for text in said:
        print(text)
    print(f"report: {folder.path / 'report.html'}")
    return 0
