"""What is seen while runs go on: bars in a terminal, plain lines elsewhere."""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Row = dict[str, Any]


class LiveProgress:
    """Follows runs one after another; use as a context manager.

    In a terminal the current run has a bar with epoch, loss, accuracy and time left,
    one more stands for all runs together, and a finished run leaves a line. Elsewhere
    a run prints a line at every fifth of its epochs.
    """

    def __init__(self, console: Console, num_runs: int):
        """Starts with nothing shown.

        Args:
          console: where to.
          num_runs: how many runs there will be.
        """
        self._console = console
        self._num_runs = num_runs
        self._num_ended = 0
        self._label, self._epochs = "", 0
        self._began, self._before = 0.0, 0
        self._newest: Row | None = None
        self._bars: Progress | None = None
        self._all_runs = self._run = TaskID(0)
        if console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description:15}"),
                BarColumn(bar_width=6),  # all fits into 80 columns
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(compact=True),
                console=console,
                transient=True,
            )
            text = f"0 of {num_runs}"
            self._all_runs = self._bars.add_task("all runs", total=num_runs, text=text)
            self._run = self._bars.add_task("", total=1, text="")

    def __enter__(self) -> "LiveProgress":
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bars is not None:
            self._bars.stop()

    def begin(self, label: str, epochs: int, *, done: int = 0) -> None:
        """Announces a run.

        Args:
          label: its name.
          epochs: how many epochs it will have.
          done: how many of them it has already.
        """
        self._label, self._epochs = label, epochs
        self._began, self._before = time.perf_counter(), done
        self._newest = None
        if self._bars is None:
            self._print(f"{epochs} epochs")
        else:
            self._bars.reset(
                self._run,
                description=label,
                total=epochs,
                completed=done,
                text="compiling",
            )

    def epoch(self, row: Row) -> None:
        """Shows the end of an epoch of the current run.

        Args:
          row: its row of ``metrics.jsonl``.
        """
        self._newest = row
        epoch = row["epoch"]
        text = describe(row, self._epochs)
        if self._bars is not None:
            self._bars.update(self._run, completed=epoch, text=text)
            runs = self._num_ended + epoch / self._epochs
            self._bars.update(self._all_runs, completed=runs)
        elif epoch % max(1, self._epochs // 5) == 0 or epoch == self._epochs:
            per_epoch = (time.perf_counter() - self._began) / (epoch - self._before)
            left = per_epoch * (self._epochs - epoch)
            self._print(f"{text}, {left:.0f} s left")

    def end(self) -> None:
        """Ends the current run."""
        self._num_ended += 1
        if self._bars is None:
            return
        text = f"{self._num_ended} of {self._num_runs}"
        self._bars.update(self._all_runs, completed=self._num_ended, text=text)
        if self._newest is not None:
            line = describe(self._newest, self._epochs)
            self._bars.console.print(f"{self._label:15} {line}", highlight=False)

    def _print(self, message: str) -> None:
        number = f"[{self._num_ended + 1}/{self._num_runs}]"
        # One line a message, whatever the width: these lines end up in log files.
        line = f"{number} {self._label}: {message}"
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)


_SHOWN = (
    ("validation_accuracy", "acc", 100, ".1f", " %"),
    ("average_validation_accuracy", "avg", 100, ".1f", " %"),
    ("validation_perplexity", "ppl", 1, ".4g", ""),
    ("average_validation_perplexity", "avg", 1, ".4g", ""),
    ("wasserstein_estimate", "W", 1, ".3g", ""),
    ("frechet_distance", "FD", 1, ".3g", ""),
    ("average_frechet_distance", "avg", 1, ".3g", ""),
)
"""Entry of a row, its short name, factor, format and unit."""


def describe(row: Row, epochs: int) -> str:
    """Epoch, loss and scores of a row, in words.

    Args:
      row: a row of ``metrics.jsonl``, of any task.
      epochs: how many epochs the run has.

    Returns:
      Such as ``epoch 3/30, loss 0.41, acc 92.4 %, avg 93.0 %``: the loss is that of
      training; accuracies, perplexities or distances of samples are of iterate and
      average on validation. A row that has none of these shows its first other numbers.
    """
    loss = row["train_loss"]
    parts = [
        f"epoch {row['epoch']}/{epochs}",
        "loss not finite" if loss is None else f"loss {loss:.3g}",
    ]
    shown = [
        f"{short} {factor * row[name]:{form}}{unit}"
        for name, short, factor, form, unit in _SHOWN
        if row.get(name) is not None
    ]
    if not shown:
        names = [name for name, value in row.items() if isinstance(value, float)]
        names = [name for name in names if name != "train_loss"]
        shown = [f"{name} {row[name]:.3g}" for name in names[:2]]
    return ", ".join(parts + shown)
