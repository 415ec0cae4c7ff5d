"""From command-line arguments to frozen dataclasses, with errors of one line."""

import contextlib
import io
import re
import shlex
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from experiments.errors import ExperimentError

Config = TypeVar("Config")

_BOX = re.compile(r"[─-╿]+")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def parse(
    config_type: type[Config],
    arguments: Sequence[str],
    *,
    command: str,
    default: Config | None = None,
) -> Config:
    """Fills a dataclass from arguments; ``--help`` prints all of it and leaves.

    Args:
      config_type: the dataclass; its docstring and those of its fields are the help.
      arguments: what stands after the command.
      command: the command's name.
      default: values for what is not given; None takes those of the class.

    Returns:
      The filled dataclass.

    Raises:
      ExperimentError: if the arguments do not fit, saying why on one line.
    """
    complaint = io.StringIO()
    extra: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                config_type,
                prog=f"python -m experiments {command}",
                args=list(arguments),
                **extra,
            )
    except SystemExit as leaving:
        if not leaving.code:
            raise
        message = _on_one_line(complaint.getvalue())
        raise ExperimentError(message) from None


def _on_one_line(boxed: str) -> str:
    """The text of the parser's framed message, without the frame's title."""
    lines = _COLOUR.sub("", boxed).splitlines()
    text = " ".join(line for line in lines if not line.startswith("╭"))
    return " ".join(_BOX.sub(" ", text).split())


def command_to_resume(command: str, arguments: Sequence[str], out: object) -> str:
    """The command line that goes on with an interrupted run.

    Args:
      command: the command's name, with ``--task`` if it was given one.
      arguments: what stood after it.
      out: the run folder.

    Returns:
      A line to paste into a shell.
    """
    kept = list(arguments)
    if "--resume" not in kept:
        kept.append("--resume")
    if "--out" not in kept and not any(word.startswith("--out=") for word in kept):
        kept += ["--out", str(out)]
    return shlex.join(["python", "-m", "experiments", *command.split(), *kept])
