"""The default of an argument that must be given, after others that have one."""

from typing import Any


class _Required:
    """Shown as ``<required>`` in a signature."""

    def __repr__(self) -> str:
        return "<required>"


REQUIRED: Any = _Required()

_HINTS = {
    "start": (
        "the first update to average; pass start=None to wait for "
        "optax_ia.start_averaging"
    ),
}


def is_required(function: str, argument: str) -> str:
    """The message that an argument is missing."""
    hint = f", {_HINTS[argument]}" if argument in _HINTS else ""
    return f"{function} needs the argument {argument!r}{hint}."
