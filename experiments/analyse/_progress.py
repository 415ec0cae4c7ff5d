"""Progress of an analysis, stage by stage."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Stages:
    """Announces stages; in a terminal each has a bar while it goes on."""

    def __init__(self, console: Console, num_stages: int):
        """Starts with nothing shown.

        Args:
          console: where to.
          num_stages: how many there will be.
        """
        self._console = console
        self._num_stages = num_stages
        self._num_ended = 0

    @contextlib.contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        """One stage, which leaves a line with its seconds.

        Args:
          name: what is being done.
          total: of how many pieces it is.

        Yields:
          What to call after each piece.
        """
        began = time.perf_counter()
        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        number = f"[{self._num_ended + 1}/{self._num_stages}] {name}"
        with bars:
            task = bars.add_task(number, total=total)
            yield lambda: bars.advance(task)
        self._num_ended += 1
        seconds = time.perf_counter() - began
        self._console.print(
            f"{number}: {seconds:.1f} s", soft_wrap=True, markup=False, highlight=False
        )
