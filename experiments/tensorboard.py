"""Event files for TensorBoard, of the rows that ``metrics.jsonl`` holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.errors import ExperimentError

Row = dict[str, Any]

_NOT_SCALARS = ("seed", "step")


class TensorBoard:
    """Writes every number of a row as a scalar over steps; use as a context manager.

    The files are made anew from the rows whenever a run goes on, so that they show what
    the rows show, whatever killed the run.

    Args:
      folder: for the files; None writes none.

    Raises:
      ExperimentError: if tensorboardX is missing.
    """

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._writer: Any = None
        if folder is None:
            return
        try:
            import tensorboardX
        except ModuleNotFoundError as error:
            raise ExperimentError(
                "tensorboardX is not installed: pip install 'optax-ia[tensorboard]'"
            ) from error
        self._make_writer = tensorboardX.SummaryWriter

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._writer is not None:
            self._writer.close()

    def begin(self, rows: Sequence[Row]) -> None:
        """Starts over with the rows that there are.

        Args:
          rows: of the epochs done.
        """
        if self._folder is None:
            return
        for old in self._folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = self._make_writer(str(self._folder))
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Writes the scalars of an epoch; what is None is left out.

        Args:
          row: its row.
        """
        if self._writer is None:
            return
        for name, value in row.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and name not in _NOT_SCALARS:
                self._writer.add_scalar(name, value, row["step"])
        self._writer.flush()
