"""The folder of a run: what was asked for, what was measured, and resuming it."""

import dataclasses
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments import environment
from experiments.csv_files import read_csv
from experiments.csv_files import write_csv as write_csv
from experiments.errors import ExperimentError
from experiments.files import json_line, on_disk, read_json_lines, write_atomically

ROOT = Path("runs")

RESULT_COLUMNS = (
    "optimizer",
    "seed",
    "dataset",
    "model",
    "epochs",
    "steps",
    "learning_rate",
    "weight_decay",
    "num_averaged",
    "validation_accuracy",
    "validation_loss",
    "average_validation_accuracy",
    "average_validation_loss",
    "test_accuracy",
    "test_loss",
    "average_test_accuracy",
    "average_test_loss",
    "seconds",
    "compile_seconds",
    "steps_per_second",
    "resumed_from_step",
    "commit",
    "versions",
    "config",
)


class RunFolder:
    """One folder: ``config.json``, ``metrics.jsonl``, ``results.csv``.

    ``metrics.jsonl`` has a row per epoch and holds nothing that a repetition would
    not reproduce; times are in ``results.csv``, which has a row per finished run.

    Attributes:
      path: the folder.
      command: the command that made it.
      config: that command's configuration, as read from JSON.
      task: what was trained, such as "image".
      columns: those of ``results.csv``.
    """

    def __init__(
        self,
        path: Path,
        command: str,
        config: dict[str, Any],
        task: str = "image",
        columns: tuple[str, ...] = RESULT_COLUMNS,
    ):
        self.path = path
        self.command = command
        self.config = config
        self.task = task
        self.columns = columns

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Opens an existing folder.

        Args:
          path: the folder.

        Returns:
          It.

        Raises:
          ExperimentError: if it is not a run folder.
        """
        try:
            description = json.loads((path / "config.json").read_text())
            return cls(
                path,
                description["command"],
                description["config"],
                description.get("task", "image"),
                tuple(description.get("columns", RESULT_COLUMNS)),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ExperimentError(
                f"{path} is not a run folder (no readable config.json in it)"
            ) from error

    @classmethod
    def prepare(
        cls,
        path: Path | None,
        command: str,
        config: Any,
        *,
        resume: bool,
        task: str = "image",
        columns: tuple[str, ...] = RESULT_COLUMNS,
    ) -> "RunFolder":
        """Makes a new folder, or opens the one to go on with.

        Args:
          path: the folder; None is a new one under ``runs/``, or when resuming the
            newest one of this command there.
          command: the command that asks.
          config: its frozen dataclass, which must agree with the folder's.
          resume: whether to go on with what the folder holds.
          task: what is trained.
          columns: those of ``results.csv``; every result has them, but for commit and
            versions, which are added.

        Returns:
          The folder.

        Raises:
          ExperimentError: if it exists and ``resume`` is false, does not exist and
            ``resume`` is true, was made with another configuration, or cannot be
            written to.
        """
        fields = json.loads(json.dumps(dataclasses.asdict(config)))
        if resume:
            folder = cls.open(path or _newest(_place(command, task)))
            folder._check_same(command, task, fields)
            _check_writable(folder.path)
            return folder
        if path is None:
            now = datetime.datetime.now(datetime.UTC)
            path = _place(command, task) / now.strftime("%Y%m%d-%H%M%S")
        if path.is_dir() and any(path.iterdir()):
            raise ExperimentError(
                f"{path} is not empty; go on with it by --resume, or choose another "
                "folder with --out"
            )
        _check_writable(path)
        folder = cls(path, command, fields, task, columns)
        description = {
            "command": command,
            "task": task,
            "config": fields,
            "columns": columns,
            "commit": environment.commit(),
            "versions": environment.versions(),
        }
        text = json.dumps(description, indent=2) + "\n"
        write_atomically(path / "config.json", text, _RESUME)
        return folder

    def _check_same(self, command: str, task: str, fields: dict[str, Any]) -> None:
        if self.command != command:
            raise ExperimentError(
                f"{self.path} was made by {self.command}, not by {command}"
            )
        if self.task != task:
            raise ExperimentError(
                f"{self.path} was made with --task {self.task}, not {task}"
            )
        for name in fields | self.config:
            asked, stored = fields.get(name), self.config.get(name)
            if asked != stored:
                raise ExperimentError(
                    f"{self.path} was made with {name} = {stored}, not {asked}: "
                    "resume with the same arguments"
                )

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def rows(self) -> list[dict[str, Any]]:
        """The rows of ``metrics.jsonl``, without a torn last line.

        Raises:
          ExperimentError: if another line is damaged.
        """
        return read_json_lines(self._metrics)

    def log(self, row: dict[str, Any]) -> None:
        """Appends a row to ``metrics.jsonl``."""
        self._check_there()
        with (
            on_disk(self._metrics, _RESUME),
            open(self._metrics, "a", encoding="utf-8") as file,
        ):
            file.write(json_line(row))

    def keep_rows(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Drops rows of ``metrics.jsonl``, and a torn last line, all at once."""
        kept = [json_line(row) for row in self.rows() if wanted(row)]
        write_atomically(self._metrics, "".join(kept), _RESUME)

    def results(self) -> list[dict[str, Any]]:
        """The rows of ``results.csv``; numbers as numbers, empty cells as None.

        Raises:
          ExperimentError: if the file is damaged: it is always written whole.
        """
        path = self.path / "results.csv"
        if not path.exists():
            return []
        return [
            {name: _from_cell(name, cell) for name, cell in row.items()}
            for row in read_csv(path)
        ]

    def add_result(self, result: dict[str, Any]) -> None:
        """Adds the row of a finished run to ``results.csv``."""
        self._check_there()
        versions = json.dumps(environment.versions(), sort_keys=True)
        row = {**result, "commit": environment.commit(), "versions": versions}
        path = self.path / "results.csv"
        write_csv(path, self.columns, [*self.results(), row], _RESUME)

    def _check_there(self) -> None:
        """Checkpoints make a folder again that was removed, with nothing in it."""
        if not (self.path / "config.json").exists():
            raise ExperimentError(
                f"{self.path} was removed or moved during the run; put it back and go "
                "on with --resume, or begin anew"
            )


_RESUME = "what was written before is unharmed: go on with --resume"

_TEXT = {"optimizer", "dataset", "model", "commit", "versions", "config"}


def _from_cell(name: str, cell: str) -> Any:
    """A cell as what was written: a whole number, a number, or text."""
    if name in _TEXT or name.endswith("_hash"):
        return cell
    if not cell:
        return None
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def _place(command: str, task: str) -> Path:
    """Where a command's folders are; those of the default task carry no name."""
    return ROOT / (command if task == "image" else f"{command}-{task}")


def _newest(place: Path) -> Path:
    """The newest folder of a place: their names are dates."""
    folders = sorted(place.glob("*/config.json"))
    if not folders:
        raise ExperimentError(
            f"nothing to resume under {place}; name a folder with --out"
        )
    return folders[-1].parent


def _check_writable(path: Path) -> None:
    """Makes the folder and writes to it once, before any training is spent."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ExperimentError(
            f"cannot write to {path} ({error.strerror}); choose another folder "
            "with --out"
        ) from error
