"""``python -m experiments train``: one run, with checkpoints and exact resume."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments import report
from experiments.checkpoints import Checkpoints
from experiments.cli import command_to_resume, parse
from experiments.configs.p0.digits import PRESETS
from experiments.configs.settings import (
    RunConfig,
    TaskConfig,
    check_rates,
    check_seeds,
    fields_of,
)
from experiments.data import Dataset
from experiments.errors import ExperimentError
from experiments.loops import image
from experiments.optimizers import check_optimizer, damping_of, rates_of
from experiments.progress import LiveProgress
from experiments.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class TrainConfig(TaskConfig):
    """One optimiser, one seed."""

    optimizer: str = "gadamx"
    """Registry name."""
    seed: int = 0
    """Of initialisation, data order and augmentation."""
    learning_rate: float | None = None
    """Initial learning rate; by default the tuned one, else the registry's."""
    weight_decay: float | None = None
    """Weight decay; by default the tuned one, else the registry's."""
    damping: float | None = None
    """Damping of K-FAC; by default the tuned one."""
    checkpoint_every: int = 100
    """Steps between checkpoints, which need not fall on the end of an epoch."""


@dataclasses.dataclass(frozen=True)
class Arguments(TrainConfig):
    """Train one optimiser with checkpoints; --resume goes on exactly."""

    out: Path | None = None
    """Run folder; by default a new one under runs/train."""
    resume: bool = False
    """Go on with a run folder: that of --out, or the newest under runs/train."""


def resolve(config: TrainConfig) -> RunConfig:
    """Checks the arguments and fills in the tuned rate and decay.

    Args:
      config: the arguments.

    Returns:
      The run.

    Raises:
      ExperimentError: if something is wrong.
    """
    check_seeds((config.seed,))
    check_optimizer(config.optimizer)
    if config.checkpoint_every < 1:
        raise ExperimentError(
            f"--checkpoint-every must be at least 1, got {config.checkpoint_every}"
        )
    tuned = PRESETS["small"].tuned
    learning_rate, weight_decay = rates_of(config.optimizer, tuned)
    damping = damping_of(config.optimizer, tuned)
    if config.learning_rate is not None:
        learning_rate = config.learning_rate
    if config.weight_decay is not None:
        weight_decay = config.weight_decay
    if config.damping is not None:
        damping = config.damping
    check_rates("", learning_rate, weight_decay, damping)
    return RunConfig(
        **fields_of(config, TaskConfig),
        optimizer=config.optimizer,
        seed=config.seed,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        damping=damping,
    )


def train(
    run: RunConfig, data: Dataset, folder: RunFolder, console: Console, *, every: int
) -> None:
    """Trains from the newest checkpoint of the folder, or from the start.

    Args:
      run: the run.
      data: the data.
      folder: where rows, result and checkpoints go.
      console: where progress is shown.
      every: steps between checkpoints.
    """
    with (
        Checkpoints(folder.path / "checkpoints", every=every) as checkpoints,
        LiveProgress(console, 1) as progress,
    ):
        # What was logged after the checkpoint will be logged again, the same.
        saved = checkpoints.latest or 0
        folder.keep_rows(lambda row: row["step"] <= saved)
        done = saved // (len(data.train) // run.batch_size)
        progress.begin(f"{run.optimizer}, seed {run.seed}", run.epochs, done=done)

        def on_epoch(row: image.Row) -> None:
            folder.log(row)
            progress.epoch(row)

        result = image.run(run, data, on_epoch=on_epoch, checkpoints=checkpoints)
        folder.add_result(result)
        progress.end()


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: those of :class:`Arguments`.

    Returns:
      The exit status: 130 if interrupted, else 0.
    """
    parsed = parse(Arguments, arguments, command="train")
    config = TrainConfig(**fields_of(parsed, TrainConfig))
    run = resolve(config)
    data = image.load(run)
    folder = RunFolder.prepare(parsed.out, "train", config, resume=parsed.resume)
    console = Console()
    interrupted = False
    try:
        if not folder.results():
            train(run, data, folder, console, every=config.checkpoint_every)
    except KeyboardInterrupt:
        interrupted = True
    report.write(folder)
    report.show(folder, console)
    if interrupted:
        line = command_to_resume("train", arguments, folder.path)
        print(f"interrupted; go on with: {line}", file=sys.stderr)
        return 130
    return 0
