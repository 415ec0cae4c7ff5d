"""The folder of a sweep: one run folder for each run, logs, table, and a lock.

The state of a run is what its own folder tells: it is finished if ``results.csv`` has
its row, and half done if it has only ``config.json``. What a run said that failed is in
``sweep.csv``.
"""

import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from experiments import environment
from experiments.csv_files import read_csv
from experiments.errors import ExperimentError
from experiments.files import write_atomically
from experiments.run_folder import ROOT
from experiments.sweep._config import SweepConfig
from experiments.sweep._plan import Run

THEN = "what was written before is unharmed: go on with --resume"
"""What it means that a file of the sweep cannot be written."""

_COMPILED = ".compiled"

State = Literal["finished", "half done", "missing"]
Result = dict[str, str]
"""A row of ``results.csv`` as it stands there, whatever columns the task has."""


class SweepFolder:
    """``runs/sweep/NAME``, which one sweep at a time writes.

    Attributes:
      path: the folder.
      lock: descriptor of the lock while it is held, for the runs to hold it too.
    """

    def __init__(self, path: Path):
        self.path = path
        self.lock: int | None = None

    @classmethod
    def of(cls, config: SweepConfig, out: Path | None) -> "SweepFolder":
        """The folder of a sweep, which need not exist.

        Args:
          config: the sweep.
          out: where it is; None is under ``runs/sweep``.

        Returns:
          It.
        """
        return cls(out or ROOT / "sweep" / config.name)

    @contextlib.contextmanager
    def opened(self, config: SweepConfig, *, resume: bool) -> Iterator[None]:
        """Makes the folder, or goes on with it, and keeps other sweeps out.

        A sweep may have grown or shrunk since: what is finished is known by its flags.
        The runs inherit the lock: where a sweep was killed and a run of it lives on, no
        second process is started on that run's folder.

        Args:
          config: the sweep.
          resume: whether to go on with what the folder holds.

        Raises:
          ExperimentError: if it holds something and ``resume`` is false, is not this
            sweep's, is in use, or cannot be written to, now or later.
        """
        self._check(config, resume=resume)
        try:
            (self.path / "logs").mkdir(parents=True, exist_ok=True)
            self.lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ExperimentError(
                f"cannot write to {self.path} ({error.strerror}); choose another "
                "folder with --out"
            ) from error
        try:
            self._take(self.lock)
            description = {
                "command": "sweep",
                "name": config.name,
                "config": config.source.read_text(encoding="utf-8"),
                "commit": environment.commit(),
                "versions": environment.versions(),
            }
            text = json.dumps(description, indent=2) + "\n"
            write_atomically(self.path / "config.json", text, THEN)
            self._clear_compiled()
            yield
        except OSError as error:
            where = error.filename or self.path
            raise ExperimentError(
                f"{where}: {error.strerror or error}; {THEN}"
            ) from error
        finally:
            self._clear_compiled()
            os.close(self.lock)
            self.lock = None

    def _check(self, config: SweepConfig, *, resume: bool) -> None:
        """Whether the folder is what is expected of it."""
        if not resume:
            if self.path.is_dir() and any(self.path.iterdir()):
                raise ExperimentError(
                    f"{self.path} is not empty; go on with it by --resume, or choose "
                    "another folder with --out"
                )
            return
        description = self._description()
        if description is None:
            raise ExperimentError(
                f"nothing to resume: {self.path} is not the folder of a sweep"
            )
        if description["name"] != config.name:
            raise ExperimentError(
                f"{self.path} is the folder of the sweep {description['name']}, "
                f"not of {config.name}"
            )

    def _take(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode() or "unknown"
            raise ExperimentError(
                f"{self.path} is in use by another sweep (process {holder}), or by a "
                "run that it left behind; wait for it or end it"
            ) from None
        except OSError as error:  # some network file systems have no locks
            print(
                f"warning: {self.path} cannot be locked ({error.strerror}): do not "
                "start a second sweep in it",
                file=sys.stderr,
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)

    def compiled(self, slot: int) -> Path:
        """Where the runs of a slot keep compiled programs, as long as the sweep runs.

        One after another they mostly compile the same. A slot has its own, because JAX
        writes these files in place, where a neighbour might read half of one. They do
        not outlive the sweep, which may go on on a machine with another processor.

        Args:
          slot: its number.

        Returns:
          A folder, which need not exist.
        """
        return self.path / _COMPILED / str(slot)

    def _clear_compiled(self) -> None:
        shutil.rmtree(self.path / _COMPILED, ignore_errors=True)

    def _description(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.path / "config.json").read_text())
        except (OSError, ValueError):
            return None
        mine = isinstance(found, dict) and found.get("command") == "sweep"
        return found if mine and "name" in found else None

    @property
    def table(self) -> Path:
        """``sweep.csv``, with a row for each run."""
        return self.path / "sweep.csv"

    def run_path(self, run: Run) -> Path:
        """The folder of a run, which need not exist.

        Args:
          run: the run.

        Returns:
          The one that has its hash, should it have been named otherwise before.
        """
        return next(self.path.glob(f"*-{run.digest}"), self.path / run.id)

    def state(self, run: Run) -> State:
        """How far a run is."""
        if self.result(run) is not None:
            return "finished"
        if (self.run_path(run) / "config.json").exists():
            return "half done"
        return "missing"

    def result(self, run: Run) -> Result | None:
        """The row of a finished run, None of any other.

        Raises:
          ExperimentError: if ``results.csv`` is damaged.
        """
        try:
            rows = read_csv(self.run_path(run) / "results.csv")
        except FileNotFoundError:
            return None
        return rows[-1] if rows else None

    def clear_leftovers(self, run: Run) -> None:
        """Removes what a process leaves that was killed before ``config.json``.

        Args:
          run: a run that is missing.

        Raises:
          ExperimentError: if there is anything but temporary files.
        """
        path = self.run_path(run)
        if not path.exists():
            return
        kept = [item for item in path.iterdir() if not item.name.startswith(".")]
        if kept:
            raise ExperimentError(
                f"{path} has no config.json, but {kept[0].name}; move it away"
            )
        shutil.rmtree(path)

    def strangers(self, runs: list[Run]) -> Iterator[Path]:
        """Run folders that none of the runs has."""
        known = {run.digest for run in runs}
        for path in sorted(self.path.glob("*/config.json")):
            if path.parent.name.rpartition("-")[2] not in known:
                yield path.parent
