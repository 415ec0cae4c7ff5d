"""``python -m experiments analyse RUN``: why a run's average generalises, or not.

Spectrum and sharpness of the last iterate and of the average, the loss between and
around them, diversity of the collected iterates and effective learning rates (P0,
tables 9 and 15, fig. 3 to 5; P1, R_est-curv), as one page in the run's folder.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro
from rich.console import Console
from rich.table import Table

from experiments.analyse._network import (
    AVERAGE,
    ITERATE,
    batches_of,
    loss_of,
    points_of,
)
from experiments.analyse._progress import Stages
from experiments.analyse._report import write
from experiments.analyse._run import Trained, choose, run_of, train_again
from experiments.analyse._sharpness import damping_of, measure, num_products
from experiments.analyse._solutions import (
    effective_rates,
    ensemble,
    line_coordinates,
    lines,
    surface,
    surface_coordinates,
)
from experiments.analyse._table import HEADER, Analysis, rows_of
from experiments.cli import parse
from experiments.configs.p0.analyse import PRESETS, AnalyseConfig, check
from experiments.console import table_console
from experiments.data import Dataset
from experiments.errors import ExperimentError
from experiments.loops import image
from experiments.loops.evaluation import evaluate
from experiments.optimizers import check_optimizer
from experiments.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Spectrum, landscape and diversity of a finished run, which is trained again.

    Iterates are not kept in folders, but a run is a function of its configuration.
    """

    folder: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(metavar="RUN", help="A folder of compare or train."),
    ]
    config: tyro.conf.OmitArgPrefixes[AnalyseConfig]
    optimizer: str | None = None
    """Whose run; by default the first that averages, else the first."""
    seed: int | None = None
    """Its seed; by default the first."""
    preset: Annotated[
        Literal["small", "smoke"],
        tyro.conf.arg(help="small: minutes on two cores. smoke: seconds, a check."),
    ] = "small"


def analyse(
    trained: Trained, data: Dataset, config: AnalyseConfig, console: Console
) -> Analysis:
    """Measures everything.

    Args:
      trained: the run.
      data: its data.
      config: how closely.
      console: where progress is shown.

    Returns:
      What was found.
    """
    points = points_of(trained, data)
    apply_fn = trained.state.apply_fn
    stages = Stages(console, 6)
    scores, sharpness = {}, {}
    for name, variables in points.variables.items():
        scores[name] = {}
        for split in ("train", "validation"):
            loss, accuracy = evaluate(apply_fn, variables, getattr(data, split))
            scores[name] |= {f"{split}_loss": loss, f"{split}_error": 1 - accuracy}
        num_params = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        with stages.stage(
            f"Hessian of the {name}", num_products(config, num_params)
        ) as advance:
            sharpness[name] = measure(
                loss_of(apply_fn),
                variables["params"],
                batches_of(data.train, variables["batch_stats"]),
                config,
                advance,
            )
    with stages.stage("line between them", 2 * len(line_coordinates(config))) as step:
        between = lines(trained, data, points, config, step)
    surfaces = {}
    for name in (ITERATE, AVERAGE):
        total = len(surface_coordinates(config)) ** 2
        with stages.stage(f"surface around the {name}", total) as step:
            surfaces[name] = surface(name, trained, data, points, config, step)
    with stages.stage("iterates", len(trained.collected)) as step:
        together = ensemble(trained, data, step)
    return Analysis(
        trained=trained,
        config=config,
        scores=scores,
        sharpness=sharpness,
        damping=damping_of(trained),
        lines=between,
        surfaces=surfaces,
        ensemble=together,
        rates=effective_rates(trained),
    )


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: those of :class:`Arguments`.

    Returns:
      The exit status, 0.
    """
    parsed = parse(Arguments, arguments, command="analyse")
    if parsed.preset != "small":  # what is not given comes from the preset
        default = Arguments(parsed.folder, PRESETS[parsed.preset])
        parsed = parse(Arguments, arguments, command="analyse", default=default)
    check(parsed.config)
    folder = RunFolder.open(parsed.folder)
    result = choose(folder, parsed.optimizer, parsed.seed)
    check_optimizer(result["optimizer"])
    run = run_of(result)
    data = image.load_arrays(run)
    path = folder.path / "analysis" / f"{run.optimizer}-{run.seed}"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentError(f"cannot write to {path} ({error.strerror})") from error
    console = Console()
    trained = train_again(folder, result, data, run, console)
    found = analyse(trained, data, parsed.config, console)
    said = write(path, folder.path, found)
    table = Table(*HEADER, box=None, pad_edge=False)
    for row in rows_of(found):
        table.add_row(*row)
    table_console().print(table)
    for text in said:
        print(text)
    print(f"report: {path / 'report.html'}")
    return 0
