"""The allocator's habits, set once for a process that trains."""

import ctypes

# <malloc.h>: number of a parameter of mallopt, and what it is set to
_TRIM_THRESHOLD = (-1, 2**31 - 1)
_MMAP_MAX = (-4, 0)
_ARENA_MAX = (-8, 1)

ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}
"""The same for a process to be started, whatever it runs."""


def keep_freed() -> bool:
    """Lets glibc keep freed memory for the next step instead of giving it back.

    XLA allocates what a program needs anew at each call. Large pieces come from the
    system by default and go back to it, a page fault for every 4 kB: ResNet-20 at batch
    128 takes 75,000 a step, an eighth of its processor time, and hardly any after
    this. A process's memory then falls no lower than its peak.

    Returns:
      Whether the allocator took it; other systems have no such switch.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return all(
        mallopt(*setting) for setting in (_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD)
    )
