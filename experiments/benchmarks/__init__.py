"""Costs of the optimisers beside their peers: ``python -m experiments.benchmarks``."""

import importlib
from collections.abc import Sequence

from experiments.errors import unknown

COMMANDS = {
    "step": "time, memory and compile time of one update",
    "epoch": "an epoch of training with P4's optimisers, in those of SGD",
    "curvature": "Hessian products and Lanczos steps, in gradients",
    "kfac": "K-FAC's training steps, in those of SGD and of kfac-jax",
    "evbmf": "the low-rank parts of all layers, beside thin SVDs in NumPy",
    "models": "training steps of the zoo's networks, beside PyTorch's",
    "pipeline": "batches of CIFAR's size beside the steps that they feed",
    "shampoo": "Shampoo's steps with and without roots, in those of AdamW",
}


def usage() -> str:
    """The list of commands."""
    lines = [f"  {name:11}{summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        ["usage: python -m experiments.benchmarks COMMAND [ARGUMENTS]", "", *lines]
    )


def main(arguments: Sequence[str]) -> int:
    """Runs one command.

    Args:
      arguments: the command's name and its arguments.

    Returns:
      The exit status.

    Raises:
      ExperimentError: if there is no such command, or its arguments are wrong.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    return importlib.import_module(f"experiments.benchmarks.{name}").main(rest)
