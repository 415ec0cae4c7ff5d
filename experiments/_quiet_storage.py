"""What storage says of its errors: one short line instead of its many."""

import gc
import logging
import sys
import threading
from typing import Any

_SPEAKERS = ("absl", "asyncio")
_LONGEST_WAIT = 10.0

NO_SPACE = "no space left on device"


def reason_of(error: BaseException) -> str:
    """One short line of an error that may have many.

    Args:
      error: as Orbax raised it.

    Returns:
      :data:`NO_SPACE` if that was the reason, else the first of its lines, shortened.
    """
    text = str(error)
    if NO_SPACE in text.lower():
        return NO_SPACE
    if isinstance(error, KeyError):
        return f"an entry is missing: {text}"
    line = text.split("\n")[0].split(". See full")[0].strip() or type(error).__name__
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


_LONGEST = 120


class QuietStorage:
    """From its making to its end, keeps Orbax from writing tracebacks.

    An error that it raises comes to whoever called it. It also logs that error, once
    for every thread it passes through, and the reads and writes given up on its account
    complain when they are thrown away. Of those nothing is to be seen.
    """

    def __init__(self):
        self._loggers = [logging.getLogger(name) for name in _SPEAKERS]
        self._levels = [logger.level for logger in self._loggers]
        self._hook = sys.unraisablehook
        for logger in self._loggers:
            logger.setLevel(logging.CRITICAL)
        sys.unraisablehook = self._unraisable

    def _unraisable(self, unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        given_up = code is not None and "orbax" in code.co_filename
        # what reports to an event loop that has ended with the error
        too_late = str(unraisable.exc_value) == "Event loop is closed"
        if not (given_up or too_late):
            self._hook(unraisable)

    def end(self, *, failed: bool = False) -> None:
        """Gives everything back.

        Args:
          failed: whether there was an error, of which other threads may have yet to
            hear; they are waited for.
        """
        if failed:
            for thread in threading.enumerate():
                if type(thread).__module__.startswith("orbax."):
                    # not its own method, which raises what it died of
                    threading.Thread.join(thread, _LONGEST_WAIT)
            gc.collect()
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
        sys.unraisablehook = self._hook
