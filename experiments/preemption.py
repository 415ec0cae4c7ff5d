"""SIGTERM, by which schedulers say that a machine will be taken away."""

import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class Preemption:
    """Notes SIGTERM instead of dying of it; use as a context manager.

    Call it with the number of updates made to ask whether to save and leave. One signal
    is as good as several: while everything is being saved, more change nothing.

    With several processes JAX's own service listens instead, so that all of them leave
    after the same update whichever was told.
    """

    def __init__(self):
        self._noted = False
        self._before: Any = None
        self._listens = (
            jax.process_count() == 1
            # elsewhere no signal can be listened to
            and threading.current_thread() is threading.main_thread()
        )

    def __enter__(self) -> "Preemption":
        if self._listens:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._listens:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, *_: Any) -> None:
        self._noted = True

    def __call__(self, step: int) -> bool:
        """Whether to save and leave.

        Args:
          step: updates made; all processes ask after every one.

        Returns:
          It.
        """
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._noted
