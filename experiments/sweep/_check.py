"""Every run's flags, through the parser of the command that will get them.

The parser alone: no data is loaded and no device taken, which the runs will need. What
it cannot know, such as a rate below 0, ends a run in its first seconds instead.
"""

import sys
from collections.abc import Mapping, Sequence

from experiments.cli import parse
from experiments.errors import ExperimentError
from experiments.sweep._config import SweepConfig
from experiments.sweep._plan import Run
from experiments.sweep._slots import GPUS
from experiments.tasks import find_main


def check(
    config: SweepConfig, runs: Sequence[Run], places: Sequence[Mapping[str, str]]
) -> None:
    """Checks all runs before the first is started.

    Args:
      config: the sweep.
      runs: its runs; those that differ in nothing but the seed are checked once.
      places: the environment of each slot.

    Raises:
      ExperimentError: naming the file, the run, and what its command says.
    """
    one_gpu = any(GPUS in place for place in places)
    for run in runs:
        if run.seed != config.seeds[0]:
            continue
        try:
            train_main, rest = find_main(run.command, run.arguments)
            task = sys.modules[train_main.__module__]
            known = task.TrainArguments
            devices = parse(known, rest, command=run.command).devices
            if one_gpu and devices is not None and devices > 1:
                raise ExperimentError(
                    f"devices must be 1 where each run has one GPU, got {devices}; "
                    "without --workers and --devices one run at a time has all"
                )
        except ExperimentError as error:
            raise ExperimentError(f"{config.source}: {run.label}: {error}") from None
