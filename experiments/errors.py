"""The error a user can do something about, shown as one line."""

from collections.abc import Iterable


class ExperimentError(Exception):
    """A wrong argument, folder or file; the command line prints its message alone."""


def unknown(kind: str, name: str, choices: Iterable[str]) -> ExperimentError:
    """The error for a name that is not known, naming those that are.

    Args:
      kind: what the name was to be, such as ``"dataset"``.
      name: what was asked for.
      choices: the names that exist.

    Returns:
      An error to raise.
    """
    known = ", ".join(choices)
    return ExperimentError(f"unknown {kind} {name!r}; choose one of: {known}")
