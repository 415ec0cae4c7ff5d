"""Runs of ``train`` in processes of their own, and what they leave."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from tests.conftest import FLAGS


def start(*command, devices=1):
    """Starts Python on devices, compiling as fast as the rest of the suite does."""
    flags = FLAGS | {"xla_force_host_platform_device_count": str(devices)}
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join(f"--{name}={value}" for name, value in flags.items()),
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error", *command],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def last_checkpoint(folder):
    """The step of the newest checkpoint, and its arrays by path."""
    with ocp.CheckpointManager(folder / "checkpoints") as manager:
        items = {"training": ocp.args.StandardRestore()}
        step = manager.latest_step()
        tree = manager.restore(step, args=ocp.args.Composite(**items))["training"]
    leaves = jax.tree.leaves_with_path(tree)
    return step, {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def assert_same_run(folder, expected):
    """Two folders hold the same rows and the same last checkpoint, bit by bit."""
    metrics = [(path / "metrics.jsonl").read_bytes() for path in (folder, expected)]
    assert metrics[0] == metrics[1]
    step, found = last_checkpoint(folder)
    same_step, arrays = last_checkpoint(expected)
    assert step == same_step
    assert found.keys() == arrays.keys()
    assert len(arrays) > 30  # parameters, moments, average, statistics, sums
    for path, array in arrays.items():
        np.testing.assert_array_equal(array, found[path], err_msg=path)
