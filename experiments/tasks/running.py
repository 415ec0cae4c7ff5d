"""What the ``train`` and ``compare`` commands of every task do around their runs."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from experiments import parallel
from experiments.checkpoints import Checkpoints
from experiments.cli import command_to_resume
from experiments.loops.engine import NotFiniteError, OnNan, Preempted
from experiments.preemption import Preemption
from experiments.progress import LiveProgress
from experiments.run_folder import RunFolder
from experiments.tensorboard import TensorBoard

Row = dict[str, Any]
Run = Callable[..., Row]
"""Called with keyword arguments of :func:`experiments.loops.engine.fit`, all but the
task; returns the row of the run for ``results.csv``."""


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """How every task's ``train`` saves and goes on; part of the record of a run."""

    checkpoint_every: int = 100
    """Steps between checkpoints, which need not fall on the end of an epoch."""
    on_nan: Literal["stop", "skip"] = "stop"
    """stop: a loss that is not finite ends the run. skip: such updates are left out."""


@dataclasses.dataclass(frozen=True)
class TrainOptions(parallel.ParallelArguments):
    """What every task's ``train`` takes beside that; no number depends on it."""

    tensorboard: bool = False
    """Write event files for TensorBoard too, into the run folder."""
    out: Path | None = None
    """Run folder; by default a new one under runs/, named after command and task."""
    resume: bool = False
    """Go on with a run folder: that of --out, or the newest of this task."""


def command_line(command: str, task: str) -> str:
    """The words that call a task's command.

    Args:
      command: "train" or "compare".
      task: its name.

    Returns:
      Such as ``"train --task language"``; the default task need not be named.
    """
    return command if task == "image" else f"{command} --task {task}"


def train_in(
    folder: RunFolder,
    console: Console,
    run: Run,
    *,
    label: str,
    epochs: int,
    every: int,
    on_nan: OnNan = "stop",
    tensorboard: bool = False,
) -> None:
    """Does one run, from the newest checkpoint of the folder or from the start.

    Args:
      folder: where rows, result and checkpoints go.
      console: where progress is shown.
      run: the run.
      label: its name.
      epochs: how many it has.
      every: steps between checkpoints.
      on_nan: what a loss that is not finite does.
      tensorboard: whether to write event files too.

    Raises:
      Preempted: if SIGTERM came, once everything is saved.
    """
    with (
        Preemption() as preempted,
        Checkpoints(folder.path / "checkpoints", every=every) as checkpoints,
        TensorBoard(folder.path / "tensorboard" if tensorboard else None) as board,
        LiveProgress(console, 1) as progress,
    ):

        def on_start(step: int, epoch: int) -> None:
            # What was logged after the checkpoint will be logged again, the same.
            folder.keep_rows(lambda row: row["step"] <= step)
            board.begin(folder.rows())
            progress.begin(label, epochs, done=epoch)

        def on_epoch(row: Row) -> None:
            folder.log(row)
            board.add(row)
            progress.epoch(row)

        result = run(
            on_epoch=on_epoch,
            on_start=on_start,
            checkpoints=checkpoints,
            on_nan=on_nan,
            preempted=preempted,
        )
        folder.add_result(result)
        progress.end()
    if on_nan == "skip":
        count = sum(row["skipped"] for row in folder.rows())
        if count:
            print(
                f"{count} updates were skipped: their loss or gradient was not finite",
                file=sys.stderr,
            )


def train_command(
    arguments: Sequence[str],
    options: TrainOptions,
    config: TrainSettings,
    begin: Callable[[RunFolder], Run],
    *,
    task: str,
    columns: tuple[str, ...],
    label: str,
    epochs: int,
    show: Callable[[RunFolder, Console], None],
) -> int:
    """The ``train`` command of a task, once its arguments are understood.

    Where several processes train together, each calls it; the first alone writes and
    prints.

    Args:
      arguments: what stood after the command, without ``--task``.
      options: where to, and whether to go on.
      config: the run's configuration, which the folder records.
      begin: called with the run folder once it is there; gives the run.
      task: its name.
      columns: those of ``results.csv``.
      label: the run's name.
      epochs: how many it has.
      show: writes the report and prints the table, of a partial folder too.

    Returns:
      The exit status: 130 if interrupted, 1 if the loss is not finite, else 0, after
      SIGTERM too.
    """
    with parallel.leader_alone_prints():
        folder = parallel.prepare_folder(
            options.out,
            "train",
            config,
            resume=options.resume,
            task=task,
            columns=columns,
        )
        console = Console()
        interrupted = False
        try:
            if not folder.results():
                train_in(
                    folder,
                    console,
                    begin(folder),
                    label=label,
                    epochs=epochs,
                    every=config.checkpoint_every,
                    on_nan=config.on_nan,
                    tensorboard=options.tensorboard and parallel.is_leader(),
                )
        except KeyboardInterrupt:
            interrupted = True
        except Preempted as stop:
            what = f"stopped by SIGTERM after step {stop.step}, all of it saved"
            _say_how_to_go_on("train", arguments, folder, what)
            return 0
        except NotFiniteError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        if parallel.is_leader():
            show(folder, console)
        if interrupted:
            _say_how_to_go_on("train", arguments, folder, "interrupted")
            return 130
    return 0


def compare_command(
    arguments: Sequence[str],
    folder: RunFolder,
    runs: Sequence[tuple[str, int, int, Run]],
    *,
    show: Callable[[RunFolder, Console], None],
) -> int:
    """The ``compare`` command of a task: the runs that the folder has no result of.

    Args:
      arguments: what stood after the command, without ``--task``.
      folder: the run folder.
      runs: optimiser, seed, epochs and the run itself, in order.
      show: writes the report and prints the table, of a partial folder too.

    Returns:
      The exit status: 130 if interrupted, else 0.
    """
    console = Console()
    interrupted = False
    try:
        do_missing(runs, folder, console)
    except KeyboardInterrupt:
        interrupted = True
    show(folder, console)
    if interrupted:
        _say_how_to_go_on("compare", arguments, folder, "interrupted")
        return 130
    return 0


def do_missing(
    runs: Sequence[tuple[str, int, int, Run]], folder: RunFolder, console: Console
) -> None:
    """Does the runs that the folder holds no result of; half-done ones start anew.

    Args:
      runs: optimiser, seed, epochs and the run itself, in order.
      folder: where rows and results go.
      console: where progress is shown.
    """
    done = {(row["optimizer"], row["seed"]) for row in folder.results()}
    folder.keep_rows(lambda row: (row["optimizer"], row["seed"]) in done)
    missing = [entry for entry in runs if entry[:2] not in done]
    with LiveProgress(console, len(missing)) as progress:
        for optimizer, seed, epochs, run in missing:
            progress.begin(f"{optimizer}, seed {seed}", epochs)

            def on_epoch(row: Row) -> None:
                folder.log(row)
                progress.epoch(row)

            folder.add_result(run(on_epoch=on_epoch))
            progress.end()


def _say_how_to_go_on(
    command: str, arguments: Sequence[str], folder: RunFolder, what: str
) -> None:
    words = command_line(command, folder.task)
    line = command_to_resume(words, arguments, folder.path)
    print(f"{what}; go on with: {line}", file=sys.stderr)
