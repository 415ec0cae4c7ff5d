"""The console that wide tables are printed to."""

from rich.console import Console

TABLE_WIDTH = 160
"""Characters that the widest table's line takes."""


def table_console() -> Console:
    """A console wide enough for every number of a table.

    Rich shortens cells to fit; a line that the terminal wraps loses nothing.
    """
    return Console(width=max(Console().width, TABLE_WIDTH))
