"""A peer library in another interpreter, which answers one request at a time.

Peers want other versions than this library does, so they run in processes of their own.
They and this process take turns: while one measures the other waits. Their allocators
keep freed memory, as this process's does.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from experiments import memory
from experiments.errors import ExperimentError


class Peer:
    """A running script that reads and writes lines of JSON; a context manager."""

    def __init__(self, python: str, script: str):
        """Starts it.

        Args:
          python: the interpreter, whose environment has the peer.
          script: the name of a file in this folder.

        Raises:
          ExperimentError: if there is no such interpreter.
        """
        self._script = script
        path = Path(__file__).with_name(script)
        try:
            self._process = subprocess.Popen(
                [python, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | memory.ENVIRONMENT,
            )
        except OSError as error:
            raise ExperimentError(
                f"peer must be a Python interpreter, got {python!r}: {error.strerror}"
            ) from None

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Sends a request and waits for its answer.

        Args:
          do: the name of the request.
          **arguments: its arguments.

        Returns:
          The answer.

        Raises:
          ExperimentError: if the script ended; what it said stands above.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self._process.wait()
            raise ExperimentError(
                f"the peer {self._script} ended with status {status} when asked to "
                f"{do}; its own message stands above"
            )
        return json.loads(line)
