"""``python -m experiments train``: one run, with checkpoints and exact resume."""

from collections.abc import Sequence

from experiments.tasks import find_main


def main(arguments: Sequence[str]) -> int:
    """Runs the command of the task that ``--task`` names.

    Args:
      arguments: what stands after the command.

    Returns:
      The exit status.
    """
    train_main, rest = find_main("train", arguments)
    return train_main(rest)
