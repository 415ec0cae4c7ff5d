"""Processes side by side, one for each slot, until all are done or a signal comes.

The children are in sessions of their own, so that Ctrl-C reaches the sweep alone, which
asks them to stop by SIGTERM and waits while they save.
"""

import dataclasses
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from experiments.sweep._plan import Run

GRACE = 120.0
"""Seconds that a run has to save and end after SIGTERM."""
_POLL = 0.05


class Signals:
    """Notes the signals that ask a process to end, while used as a context manager.

    Attributes:
      received: their numbers, in order.
    """

    def __init__(self):
        self.received: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received.append(number)


@dataclasses.dataclass(frozen=True)
class Job:
    """A process to start.

    Attributes:
      run: what it is for.
      words: its command line.
      log: where its output goes, at the end of what is there.
      errors: the same of its errors.
    """

    run: Run
    words: Sequence[str]
    log: Path
    errors: Path


@dataclasses.dataclass(frozen=True)
class Ended:
    """A process that is over.

    Attributes:
      job: what it did.
      seconds: how long it took.
      error: None after exit status 0, else what it said last.
    """

    job: Job
    seconds: float
    error: str | None


@dataclasses.dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    began: float
    skip: int  # bytes of the errors that are of an earlier attempt


def run_jobs(
    jobs: Sequence[Job],
    slots: Sequence[Mapping[str, str]],
    signals: Signals,
    *,
    began: Callable[[Job, int], None],
    ended: Callable[[Ended], None],
    stopping: Callable[[int], None],
    lock: int | None = None,
) -> None:
    """Runs jobs in order, each in the first slot that is free.

    Args:
      jobs: what to run.
      slots: what the environment of the jobs has beside this process's, slot by slot.
      signals: after the first, nothing more is started and what runs is told to stop;
        after the second, or :data:`GRACE` seconds, it is killed.
      began: called with a job and the number of its slot.
      ended: called with each that is over, unless it was told to stop.
      stopping: called once, with the number of processes that are waited for.
      lock: a descriptor that the processes inherit.
    """
    waiting = list(jobs)
    running: dict[int, _Running] = {}
    try:
        while (waiting or running) and not signals.received:
            for slot in range(len(slots)):
                if waiting and slot not in running and not signals.received:
                    job = waiting.pop(0)
                    running[slot] = _start(job, slots[slot], lock)
                    began(job, slot)
            for slot, one in list(running.items()):
                if one.process.poll() is not None:
                    del running[slot]
                    ended(Ended(one.job, time.monotonic() - one.began, _error(one)))
            if running:
                time.sleep(_POLL)
    finally:
        if running:
            _stop(list(running.values()), signals, stopping)


def _start(job: Job, extra: Mapping[str, str], lock: int | None) -> _Running:
    with open(job.log, "ab") as log, open(job.errors, "ab") as errors:
        skip = errors.tell()
        process = subprocess.Popen(
            job.words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=errors,
            env=os.environ | extra,
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,
        )
    return _Running(job, process, time.monotonic(), skip)


def _stop(
    running: list[_Running], signals: Signals, stopping: Callable[[int], None]
) -> None:
    """Asks processes to end; kills them and theirs at another signal, or in the end."""
    enough = len(signals.received) + 1
    for one in running:
        one.process.terminate()
    stopping(len(running))
    last = time.monotonic() + GRACE
    while any(one.process.poll() is None for one in running):
        if len(signals.received) >= enough or time.monotonic() > last:
            for one in running:
                if one.process.poll() is None:
                    os.killpg(one.process.pid, signal.SIGKILL)
                    one.process.wait()
        time.sleep(_POLL)


_ERROR = re.compile(r"^(error: |[\w.]+(Error|Exception|Interrupt|Exit)\b)")


def _error(one: _Running) -> str | None:
    """What a process said last, or what ended it; None if it ended well."""
    status = one.process.returncode
    if not status:
        return None
    with open(one.job.errors, "rb") as file:
        file.seek(one.skip)
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Libraries may have the last word: a line that is an error's goes first.
    said = [line for line in lines if _ERROR.match(line)] or lines
    last = said[-1].removeprefix("error: ") if said else "no word of why"
    if status > 0:
        return last if said else f"exit status {status}, {last}"
    name = signal.Signals(-status).name
    hint = ", as when memory is short" if name == "SIGKILL" else ""
    return f"ended by {name}{hint}: {last}" if said else f"ended by {name}{hint}"
