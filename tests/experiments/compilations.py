"""Counting the programs that JAX compiles."""

import contextlib
import dataclasses
from collections.abc import Iterator

import jax


@dataclasses.dataclass
class Count:
    """How many programs were compiled since it was begun."""

    programs: int = 0


_OPEN: list[Count] = []


def _listen(event: str, duration: float, **details: object) -> None:
    del duration, details
    if event == "/jax/core/compile/backend_compile_duration":
        for count in _OPEN:
            count.programs += 1


jax.monitoring.register_event_duration_secs_listener(_listen)


@contextlib.contextmanager
def counted() -> Iterator[Count]:
    """Counts the compilations inside the block."""
    count = Count()
    _OPEN.append(count)
    try:
        yield count
    finally:
        _OPEN.remove(count)
