"""Silence about errors that storage both raises and complains of."""

import logging
import sys
from typing import Any


class QuietStorage:
    """From its making to its end, keeps Orbax from writing tracebacks.

    An error that it raises comes to whoever called it. It also logs that error, once
    for every thread it passes through, and the reads and writes given up on its account
    complain when they are thrown away. Of those nothing is to be seen.
    """

    def __init__(self):
        self._logger = logging.getLogger("absl")
        self._level, self._hook = self._logger.level, sys.unraisablehook
        self._logger.setLevel(logging.CRITICAL)
        sys.unraisablehook = self._unraisable

    def _unraisable(self, unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        given_up = code is not None and "orbax" in code.co_filename
        # what reports to an event loop that has ended with the error
        too_late = str(unraisable.exc_value) == "Event loop is closed"
        if not (given_up or too_late):
            self._hook(unraisable)

    def end(self) -> None:
        """Gives everything back."""
        self._logger.setLevel(self._level)
        sys.unraisablehook = self._hook
