"""What the ``train`` and ``compare`` commands of every task do around their runs."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from experiments.checkpoints import Checkpoints
from experiments.cli import command_to_resume
from experiments.progress import LiveProgress
from experiments.run_folder import RunFolder

Row = dict[str, Any]
Run = Callable[..., Row]
"""Called with keyword arguments of :func:`experiments.loops.engine.fit`, all but the
task; returns the row of the run for ``results.csv``."""


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
) -> None:
    """Does one run, from the newest checkpoint of the folder or from the start.

    Args:
      folder: where rows, result and checkpoints go.
      console: where progress is shown.
      run: the run.
      label: its name.
      epochs: how many it has.
      every: steps between checkpoints.
    """
    with (
        Checkpoints(folder.path / "checkpoints", every=every) as checkpoints,
        LiveProgress(console, 1) as progress,
    ):

        def on_start(step: int, epoch: int) -> None:
            # What was logged after the checkpoint will be logged again, the same.
            folder.keep_rows(lambda row: row["step"] <= step)
            progress.begin(label, epochs, done=epoch)

        def on_epoch(row: Row) -> None:
            folder.log(row)
            progress.epoch(row)

        result = run(on_epoch=on_epoch, on_start=on_start, checkpoints=checkpoints)
        folder.add_result(result)
        progress.end()


def train_command(
    arguments: Sequence[str],
    folder: RunFolder,
    run: Run,
    *,
    label: str,
    epochs: int,
    every: int,
    show: Callable[[RunFolder, Console], None],
) -> int:
    """The ``train`` command of a task, once its arguments are understood.

    Args:
      arguments: what stood after the command, without ``--task``.
      folder: the run folder.
      run: the run.
      label: its name.
      epochs: how many it has.
      every: steps between checkpoints.
      show: writes the report and prints the table, of a partial folder too.

    Returns:
      The exit status: 130 if interrupted, else 0.
    """
    console = Console()
    interrupted = False
    try:
        if not folder.results():
            train_in(folder, console, run, label=label, epochs=epochs, every=every)
    except KeyboardInterrupt:
        interrupted = True
    show(folder, console)
    if interrupted:
        return _say_how_to_go_on("train", arguments, folder)
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
        return _say_how_to_go_on("compare", arguments, folder)
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


def _say_how_to_go_on(command: str, arguments: Sequence[str], folder: RunFolder) -> int:
    words = command_line(command, folder.task)
    line = command_to_resume(words, arguments, folder.path)
    print(f"interrupted; go on with: {line}", file=sys.stderr)
    return 130
