"""Processes that train together, each with host devices of its own."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def start(devices, *command):
    """Starts Python with so many devices."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} "
        "--xla_backend_optimization_level=0",
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error", *command],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(processes):
    """What they printed, on both streams, and their exit statuses."""
    return [
        (*process.communicate(timeout=240), process.returncode) for process in processes
    ]


def alone(arguments, devices=2):
    """``train`` in one process with so many devices."""
    ((_, error, code),) = ended(
        [start(devices, "-m", "experiments", "train", *arguments)]
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
            start(1, *program, "train", *arguments, *meeting, f"--process-id={process}")
            for process in (0, 1)
        ]
    )
