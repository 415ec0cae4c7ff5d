"""Processes that train together, each with host devices of its own."""

import socket

from tests.experiments.trained import start


def ended(processes):
    """What they printed, on both streams, and their exit statuses."""
    return [
        (*process.communicate(timeout=240), process.returncode) for process in processes
    ]


def alone(arguments, devices=2):
    """``train`` in one process with so many devices."""
    ((_, error, code),) = ended(
        [start("-m", "experiments", "train", *arguments, devices=devices)]
    )
    assert code == 0, error


def two(arguments, program=("-m", "experiments")):
    """``train`` in two processes of one device each."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    meeting = ["--distributed", f"--coordinator=127.0.0.1:{port}", "--num-processes=2"]
    return ended(
        [
            start(*program, "train", *arguments, *meeting, f"--process-id={process}")
            for process in (0, 1)
        ]
    )
