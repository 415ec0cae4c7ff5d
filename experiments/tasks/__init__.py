"""The command lines of ``train`` and ``compare``, a module per task."""

import importlib
from collections.abc import Sequence
from typing import Any

from experiments.errors import ExperimentError, unknown
from experiments.loops import TASKS

DEFAULT = "image"


def find_main(command: str, arguments: Sequence[str]) -> tuple[Any, list[str]]:
    """Takes ``--task NAME`` off the arguments; asked for help without it, says more.

    Args:
      command: "train" or "compare".
      arguments: what stands after the command.

    Returns:
      The task's function for the command, and the arguments that are left for it.

    Raises:
      ExperimentError: if there is no such task, or it has no such command.
    """
    name, rest = _take_task(arguments)
    if name is None:
        name = DEFAULT
        if any(word in ("-h", "--help") for word in rest):
            others = ", ".join(task for task in TASKS if task != DEFAULT)
            print(
                f"--task NAME chooses what is trained: {DEFAULT} (the default, below)"
                + (f", {others}" if others else "")
                + f"\npython -m experiments {command} --task NAME --help   "
                "lists the arguments of another\n"
            )
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    module = importlib.import_module(TASKS[name])
    function = getattr(module, f"{command}_main", None)
    if function is None:
        raise ExperimentError(f"--task {name} has no {command}; use train")
    return function, rest


def _take_task(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    name, rest = None, []
    words = iter(arguments)
    for word in words:
        if word == "--task":
            name = next(words, None)
            if name is None:
                raise ExperimentError(
                    f"--task needs a name, one of: {', '.join(TASKS)}"
                )
        elif word.startswith("--task="):
            name = word.removeprefix("--task=")
        else:
            rest.append(word)
    return name, rest
