"""Several processes that train together: how they meet, and who of them writes."""

import atexit
import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from experiments.errors import ExperimentError
from experiments.parallel._placement import Placement, Shard, place_over
from experiments.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class ParallelArguments:
    """Where a run is computed; changes its numbers by rounding alone."""

    devices: int | None = None
    """Devices to train on; by default all of them, of all processes."""
    shard: Shard = "replicated"
    """replicated: the whole state on every device. full: cut over the devices."""
    distributed: bool = False
    """Train together with other processes, found by the cluster's environment (Slurm,
    Open MPI, TPU pods), or by the three arguments that follow."""
    coordinator: str | None = None
    """HOST:PORT of process 0, at which the processes meet."""
    num_processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which of them this one is, from 0."""


def begin(arguments: ParallelArguments) -> Placement | None:
    """Meets the other processes if there are any, and takes the devices.

    To be called before anything is computed.

    Args:
      arguments: what the command line said.

    Returns:
      Where batches and states are to lie; None if there is one device alone.

    Raises:
      ExperimentError: if the arguments do not fit one another, or the processes do not
        meet.
    """
    _check(arguments)
    if arguments.distributed:
        _meet(arguments)
    return place_over(arguments.devices, arguments.shard)


def _check(arguments: ParallelArguments) -> None:
    given = {
        "--coordinator": arguments.coordinator,
        "--num-processes": arguments.num_processes,
        "--process-id": arguments.process_id,
    }
    present = [flag for flag, value in given.items() if value is not None]
    if present and not arguments.distributed:
        raise ExperimentError(f"{present[0]} needs --distributed")
    if present and len(present) < len(given):
        missing = next(flag for flag in given if flag not in present)
        raise ExperimentError(f"{present[0]} needs {missing} too")
    if not present:
        return
    assert arguments.num_processes is not None
    assert arguments.process_id is not None
    assert arguments.coordinator is not None
    host, _, port = arguments.coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ExperimentError(
            f"--coordinator must be HOST:PORT, got {arguments.coordinator}"
        )
    if arguments.num_processes < 1:
        raise ExperimentError(
            f"--num-processes must be at least 1, got {arguments.num_processes}"
        )
    if not 0 <= arguments.process_id < arguments.num_processes:
        raise ExperimentError(
            f"--process-id must be at least 0 and below --num-processes = "
            f"{arguments.num_processes}, got {arguments.process_id}"
        )


def _meet(arguments: ParallelArguments) -> None:
    try:
        jax.distributed.initialize(
            arguments.coordinator, arguments.num_processes, arguments.process_id
        )
    except (ValueError, RuntimeError) as error:
        if arguments.coordinator is None:
            raise ExperimentError(
                "--distributed found no cluster in the environment (Slurm, Open MPI, "
                "TPU pod); give --coordinator HOST:PORT --num-processes N "
                f"--process-id I ({_line(error)})"
            ) from error
        raise ExperimentError(
            f"the processes did not meet at {arguments.coordinator} ({_line(error)})"
        ) from error


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def is_leader() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


@contextlib.contextmanager
def leader_alone_prints() -> Iterator[None]:
    """Within it, what other processes than the first print is dropped.

    A process that leaves it by an error ends even where the others do not, which wait
    for it in a computation: they are then ended by JAX, which says that another task
    died.
    """
    try:
        if is_leader():
            yield
            return
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield
    except BaseException as error:
        if jax.process_count() > 1:
            atexit.register(_leave, _status(error))
        raise


def _status(error: BaseException) -> int:
    """The exit status of a process that an error ends."""
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 2 if isinstance(error, ExperimentError) else 1


def _leave(status: int) -> None:
    """Ends this process, of which the others may not know that it failed.

    Before JAX's own end, which waits for them for five minutes and then aborts.
    """
    try:
        multihost.get_barrier_sync_fn()(key="leave", timeout_ms=int(1000 * _PATIENCE))
    except Exception:  # they are elsewhere, or have ended
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


_PATIENCE = 5.0
"""Seconds in which processes that fail for the same reason all notice it."""


def prepare_folder(
    out: Path | None, command: str, config: Any, *, resume: bool, **options: Any
) -> RunFolder:
    """As ``RunFolder.prepare``, in every process: the first alone writes.

    Args:
      out: the folder, which all processes must be able to reach; named by the time
        only where there is one process.
      command: the command that asks.
      config: its frozen dataclass.
      resume: whether to go on with what the folder holds.
      **options: further arguments of ``RunFolder.prepare``.

    Returns:
      The folder; that of the other processes writes nothing.

    Raises:
      ExperimentError: as ``RunFolder.prepare`` does, and if processes that train
        together are given no folder.
    """
    if jax.process_count() == 1:
        return RunFolder.prepare(out, command, config, resume=resume, **options)
    if out is None:
        raise ExperimentError(
            "processes that train together need a folder that all of them reach: --out"
        )
    if is_leader():
        try:
            folder = RunFolder.prepare(out, command, config, resume=resume, **options)
        except ExperimentError:
            _tell(ready=False, done=False)
            raise
        _tell(ready=True, done=bool(folder.results()))
        return folder
    ready, done = _tell()
    if not ready:
        print("error: see that of process 0", file=sys.stderr)
        raise SystemExit(2)
    opened = RunFolder.open(out)
    return _Follower(opened, done)


def _tell(*, ready: bool = False, done: bool = False) -> tuple[bool, bool]:
    """What the first process says, in all of them."""
    said = multihost_utils.broadcast_one_to_all(np.array([ready, done], np.int32))
    return bool(said[0]), bool(said[1])


class _Follower(RunFolder):
    """The run folder of a process that writes nothing."""

    def __init__(self, opened: RunFolder, done: bool):
        super().__init__(
            opened.path, opened.command, opened.config, opened.task, opened.columns
        )
        self._done = done

    def log(self, row: dict[str, Any]) -> None:
        """Leaves it to the first process."""

    def keep_rows(self, wanted: Any) -> None:
        """Leaves it to the first process."""

    def results(self) -> list[dict[str, Any]]:
        """What there was when the run began, as far as it matters: whether."""
        return [{}] if self._done else []

    def add_result(self, result: dict[str, Any]) -> None:
        """Leaves it to the first process."""
