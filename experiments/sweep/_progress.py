"""What is seen while a sweep goes on: lines, and in a terminal a bar below them."""

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)


class SweepProgress:
    """Follows the runs of a sweep; use as a context manager."""

    def __init__(self, console: Console, *, total: int, finished: int):
        """Starts with nothing shown.

        Args:
          console: where to.
          total: number of runs.
          finished: how many of them were finished before.
        """
        self._console = console
        self._total = total
        self._begun = finished
        self._running: dict[str, int] = {}
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.description}"),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=total, completed=finished)

    def __enter__(self) -> "SweepProgress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, label: str, where: str) -> None:
        """Announces a run.

        Args:
          label: what it is called.
          where: anything to say of how it is run.
        """
        self._begun += 1
        self._running[label] = self._begun
        self._print(f"{self._number(label)} {label}{where}")
        self._describe()

    def end(self, label: str, seconds: float, text: str) -> None:
        """Tells how a run ended.

        Args:
          label: what it is called.
          seconds: how long it took.
          text: its score or its error.
        """
        self._print(f"{self._number(label)} {label}: {text} ({seconds:.0f} s)")
        del self._running[label]
        if self._bar is not None:
            self._bar.advance(self._task)
        self._describe()

    def _number(self, label: str) -> str:
        return f"[{self._running[label]}/{self._total}]"

    def _describe(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description="; ".join(self._running))

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)
