"""``python -m experiments compare``: several optimisers and seeds, one report."""

from collections.abc import Sequence

from experiments.tasks import find_main


def main(arguments: Sequence[str]) -> int:
    """Runs the command of the task that ``--task`` names.

    Args:
      arguments: what stands after the command.

    Returns:
      The exit status.
    """
    compare_main, rest = find_main("compare", arguments)
    return compare_main(rest)
