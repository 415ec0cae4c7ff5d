"""The check of one number of a configuration."""

from collections.abc import Callable
from typing import Any

from experiments.errors import ExperimentError


def check(name: str, value: Any, bound: str, holds: Callable[[Any], bool]) -> None:
    """Raises if a bound does not hold.

    Args:
      name: of the field; the flag is made of it.
      value: received.
      bound: in words, such as "at least 1".
      holds: whether it does.

    Raises:
      ExperimentError: naming the flag, its bound and the value received.
    """
    if not holds(value):
        flag = "--" + name.replace("_", "-")
        raise ExperimentError(f"{flag} must be {bound}, got {value}")
