"""Runs that ended without a result: what they said, and which are tried again.

A run whose loss was not finite is over: from its checkpoint it would take the same
steps. Any other failure, such as of memory, disk or data, may be gone the next time.
"""

import re
from collections.abc import Mapping, Sequence

from experiments.csv_files import read_csv
from experiments.sweep._folder import SweepFolder
from experiments.sweep._plan import Run

Errors = dict[str, str]
"""What runs that failed said last, by their id."""

_DIVERGED = re.compile(r"(loss|gradient) is not finite at (step|the latest) \d+")


def is_diverged(error: str | None) -> bool:
    """Whether a run is over for good.

    Args:
      error: what it said last; None if it did not fail.

    Returns:
      True for that of a ``NotFiniteError``.
    """
    return error is not None and _DIVERGED.search(error) is not None


def describe(error: str) -> str:
    """A failure in a few words.

    Args:
      error: what the run said last.

    Returns:
      It; of a loss that is not finite the step alone, without all that was before.
    """
    if is_diverged(error):
        return f"diverged: {error.partition('; ')[0]}"
    return f"failed: {error}"


def remember(folder: SweepFolder, runs: Sequence[Run]) -> Errors:
    """What ``sweep.csv`` has of failures, which no later attempt has made good.

    Args:
      folder: the sweep's.
      runs: all runs.

    Returns:
      The errors. Whoever deletes a diverged run's folder wants it repeated.

    Raises:
      ExperimentError: if the file is damaged.
    """
    try:
        rows = read_csv(folder.table)
    except FileNotFoundError:
        return {}
    said = {row["run"].rpartition("-")[2]: row["error"] for row in rows}
    found: Errors = {}
    for run in runs:
        error, state = said.get(run.digest), folder.state(run)
        if not error or state == "finished":
            continue
        if not (state == "missing" and is_diverged(error)):
            found[run.id] = error
    return found


def list_open(
    folder: SweepFolder, runs: Sequence[Run], errors: Mapping[str, str]
) -> list[Run]:
    """The runs that are to be started or gone on with.

    Args:
      folder: the sweep's.
      runs: all runs.
      errors: of those that failed.

    Returns:
      Those that are neither finished nor diverged, in order.
    """
    return [
        run
        for run in runs
        if folder.state(run) != "finished" and not is_diverged(errors.get(run.id))
    ]
