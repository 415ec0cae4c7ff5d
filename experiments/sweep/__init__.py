"""``python -m experiments sweep CONFIG``: seeds x optimisers x settings, one table.

Each run is a process of its own, ``python -m experiments train ...``, with its own
folder inside the sweep's; what it prints is in ``logs``. With ``--resume``, finished
runs are never repeated, half-done and failed ones go on from their checkpoints, and
those whose loss was not finite are left: they would end the same way.
"""

import dataclasses
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from experiments.cli import command_to_resume, parse
from experiments.errors import ExperimentError
from experiments.sweep import _config, _table
from experiments.sweep._check import check
from experiments.sweep._config import SweepConfig
from experiments.sweep._failures import (
    Errors,
    describe,
    list_open,
    remember,
)
from experiments.sweep._folder import SweepFolder
from experiments.sweep._plan import Run, plan
from experiments.sweep._progress import SweepProgress
from experiments.sweep._scores import find_score, score_run
from experiments.sweep._slots import GPUS, keep_compiled, slots
from experiments.sweep._workers import Ended, Job, Signals, run_jobs

PROGRAM = (sys.executable, "-m", "experiments")
"""What a run's command stands after."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Run a TOML file of seeds x optimisers x settings; a table at the end."""

    config: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(
            metavar="CONFIG",
            help="TOML with optimizers, seeds, [fixed], [grid], [[settings]]; one that "
            "runs is experiments/configs/p0/sweep_digits.toml.",
        ),
    ]
    out: Path | None = None
    """Folder of the sweep; by default runs/sweep/NAME."""
    resume: bool = False
    """Go on with what the folder holds; seeds, optimisers and settings may be added.
    Stopped and failed runs go on from their checkpoints. Those whose loss was not
    finite are left: they would end the same way (to repeat one, delete its folder)."""
    workers: int | None = None
    """Runs at a time: one per GPU where there are GPUs, else processes on the CPU, each
    with threads for all cores (PJRT_NPROC=1 in the environment: one thread each).
    Without it one at a time, with all devices."""
    devices: str | None = None
    """GPUs, such as 0,1: one run at a time on each; one named twice is shared."""
    dry_run: bool = False
    """Print the commands of what is left to run, and leave."""


def make_job(run: Run, folder: SweepFolder) -> Job:
    """The process of a run, which goes on with a half-done one.

    Args:
      run: the run, not finished.
      folder: the sweep's.

    Returns:
      What to start.
    """
    path = folder.run_path(run)
    words = [*PROGRAM, run.command, *run.arguments, f"--out={path}"]
    if folder.state(run) == "half done":
        words.append("--resume")
    logs = folder.path / "logs"
    return Job(run, words, logs / f"{run.id}.log", logs / f"{run.id}.err")


def run_missing(
    config: SweepConfig,
    runs: Sequence[Run],
    folder: SweepFolder,
    places: Sequence[dict[str, str]],
    console: Console,
) -> tuple[Errors, int | None]:
    """Does the runs that are not finished; ``sweep.csv`` is written after each.

    Args:
      config: the sweep.
      runs: all runs.
      folder: the sweep's, opened.
      places: the environment of each slot.
      console: where progress is shown.

    Returns:
      What those that failed said last, by id, and the signal that stopped it, if any.
    """
    errors = remember(folder, runs)
    missing = list_open(folder, runs, errors)
    for run in missing:
        if folder.state(run) == "missing":
            folder.clear_leftovers(run)
    progress = SweepProgress(
        console, total=len(runs), finished=len(runs) - len(missing)
    )

    def began(job: Job, slot: int) -> None:
        errors.pop(job.run.id, None)
        gpu = places[slot].get(GPUS)
        again = ", from its checkpoint" if "--resume" in job.words else ""
        where = f", GPU {gpu}" if gpu is not None else ""
        progress.begin(job.run.label, f"{again}{where}")

    def ended(one: Ended) -> None:
        run = one.job.run
        text = _outcome(config, folder, one)
        if one.error is not None and folder.state(run) != "finished":
            errors[run.id] = one.error
        _table.write_runs(folder, runs, errors)
        progress.end(run.label, one.seconds, text)

    def stopping(count: int) -> None:
        text = f"stopping {count} run{'s' * (count > 1)}, which save first; once more "
        print(f"{text}to kill", file=sys.stderr)

    _table.write_runs(folder, runs, errors)
    with Signals() as signals, progress:
        run_jobs(
            [make_job(run, folder) for run in missing],
            [
                place | keep_compiled(folder.compiled(slot))
                for slot, place in enumerate(places)
            ],
            signals,
            began=began,
            ended=ended,
            stopping=stopping,
            lock=folder.lock,
        )
    _table.write_runs(folder, runs, errors)
    return errors, signals.received[0] if signals.received else None


def _outcome(config: SweepConfig, folder: SweepFolder, one: Ended) -> str:
    """How a process ended, in words."""
    result = folder.result(one.job.run)
    if result is None:
        return describe(one.error) if one.error else "stopped before its end"
    try:
        score = find_score(list(result), config)
    except ExperimentError:  # said at the end, when it is in nobody's way
        return "finished"
    value = score_run(result, score).validation
    shown = "not finite" if value is None else score.text(value)
    unit = " %" if score.percent and value is not None else ""
    return f"{score.chosen_by} {shown}{unit}"


def _print_commands(runs: Sequence[Run], folder: SweepFolder) -> None:
    """The commands of what is left to run, and the number of what is not."""
    left = list_open(folder, runs, remember(folder, runs))
    for run in left:
        words = make_job(run, folder).words[len(PROGRAM) :]
        print(shlex.join(["python", "-m", "experiments", *words]))
    if len(left) < len(runs):
        print(f"# over: {len(runs) - len(left)} of {len(runs)} runs")


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: those of :class:`Arguments`.

    Returns:
      The exit status: 130 after Ctrl-C, 1 if there are runs to try again, else 0, also
      after SIGTERM, as a queue sends that takes the machine away. A run that diverged
      is a result.
    """
    parsed = parse(Arguments, arguments, command="sweep")
    config = _config.read(parsed.config)
    runs = plan(config)
    places = slots(parsed.devices, parsed.workers)
    check(config, runs, places)
    folder = SweepFolder.of(config, parsed.out)
    if parsed.dry_run:
        _print_commands(runs, folder)
        return 0
    console = Console()
    with folder.opened(config, resume=parsed.resume):
        errors, stopped = run_missing(config, runs, folder, places, console)
        _table.write(config, folder, runs, errors)
        _table.show(config, folder, runs, errors, console)
    print(f"table: {folder.path / 'table.md'}")
    for path in folder.strangers(runs):
        print(f"left alone, not in {config.source}: {path}", file=sys.stderr)
    command = command_to_resume("sweep", arguments, folder.path)
    if stopped is not None:
        word = "interrupted" if stopped == signal.SIGINT else "stopped"
        print(f"{word}; go on with: {command}", file=sys.stderr)
        return 130 if stopped == signal.SIGINT else 0
    for run in runs:
        if folder.state(run) != "finished":
            error = errors.get(run.id)
            text = "stopped before its end" if error is None else describe(error)
            print(
                f"{run.label}: {text} ({make_job(run, folder).errors})", file=sys.stderr
            )
    if list_open(folder, runs, errors):
        print(f"try again with: {command}", file=sys.stderr)
        return 1
    return 0
