"""Flags of a sweep's file: read from its tables, checked, and made words again."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.errors import ExperimentError

_ONE_PROCESS = "each run of a sweep is one process; call train to have several"
_OWN = {
    "optimizer": "name it in optimizers",
    "seed": "name it in seeds",
    "task": "it is a key of the file itself",
    "out": "each run has its own folder",
    "resume": "give it to sweep",
    "distributed": _ONE_PROCESS,
    "coordinator": _ONE_PROCESS,
    "num_processes": _ONE_PROCESS,
    "process_id": _ONE_PROCESS,
    "help": "it is no setting",
}
"""Flags that no run is given by the file, and why."""

Flags = dict[str, Any]
"""Flag, with underscores, to its value."""


def read_flags(table: Any, where: str) -> Flags:
    """Reads a table of flags, nested tables as dotted flags.

    Args:
      table: of the file.
      where: what it is called in messages.

    Returns:
      The flags.

    Raises:
      ExperimentError: naming the flag and what is wrong with it.
    """
    if not isinstance(table, dict):
        raise ExperimentError(f"{where} must be a table, got {table!r}")
    found: Flags = {}
    for flag, value in _flattened(table):
        reason = _OWN.get(flag.removeprefix("no_"))
        if reason is not None:
            raise ExperimentError(f"{where} {flag}: {reason}")
        if flag in found:
            raise ExperimentError(f"{where} {flag} is there twice")
        _check_value(value, f"{where} {flag}")
        found[flag] = value
    return found


def _flattened(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        flag = prefix + key.replace("-", "_")
        if isinstance(value, dict):
            yield from _flattened(value, f"{flag}.")
        else:
            yield flag, value


def _check_value(value: Any, where: str) -> None:
    if isinstance(value, list):
        if not value:
            raise ExperimentError(f"{where} is an empty list")
        for item in value:
            _check_value(item, where)
    elif not isinstance(value, str | int | float):
        raise ExperimentError(
            f"{where} must be a number, text, true, false or a list, got {value!r}"
        )


def check_differ(values: list[Any], where: str) -> None:
    """Refuses a list that has a value twice.

    Args:
      values: of a list.
      where: what it is called in messages.

    Raises:
      ExperimentError: if two are the same words.
    """
    words = [shown(value) for value in values]
    if len(set(words)) < len(words):
        raise ExperimentError(f"{where} must differ, got {', '.join(words)}")


def check_apart(one: Flags, other: Flags, first: str, second: str) -> None:
    """Refuses two tables that set the same flag.

    Args:
      one: some flags.
      other: others.
      first: what the first is called in messages.
      second: what the other is called.

    Raises:
      ExperimentError: naming a flag that both have.
    """
    for flag in one:
        if flag in other:
            raise ExperimentError(f"{flag} is in {first} and in {second}")


def shown(value: Any) -> str:
    """A value as it stands on a command line.

    Args:
      value: of a flag.

    Returns:
      Text; the items of a list with spaces between.
    """
    if isinstance(value, list):
        return " ".join(map(shown, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def flag_words(flag: str, value: Any) -> tuple[str, ...]:
    """A flag as words of a command line.

    Args:
      flag: its name, with underscores; dots for one inside a group.
      value: number, text, truth value or list.

    Returns:
      The words.
    """
    *groups, name = flag.replace("_", "-").split(".")
    if isinstance(value, bool):
        name = name if value else f"no-{name}"
        return ("--" + ".".join([*groups, name]),)
    dashed = "--" + ".".join([*groups, name])
    if isinstance(value, list):
        return (dashed, *map(shown, value))
    return (f"{dashed}={shown(value)}",)
