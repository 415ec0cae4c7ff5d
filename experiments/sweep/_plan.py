"""The runs of a sweep: their command lines and their names."""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterator

from experiments.errors import ExperimentError
from experiments.sweep._config import Setting, SweepConfig
from experiments.sweep._flags import flag_words

_LONGEST = 80  # characters of a name, hash left out
_DIGITS = 10  # of the hash: 40 bits


@dataclasses.dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
      setting: its point of grid and settings.
      optimizer: registry name.
      seed: its seed.
      command: what it calls.
      flags: the words of each of its flags, but for folder and resuming.
    """

    setting: Setting
    optimizer: str
    seed: int
    command: str
    flags: tuple[tuple[str, ...], ...]

    @property
    def arguments(self) -> list[str]:
        """What stands after the command, but for folder and resuming."""
        return list(itertools.chain(*self.flags))

    @property
    def digest(self) -> str:
        """A hash of all its flags, in whatever order the file has them."""
        words = json.dumps([self.command, sorted(self.flags)])
        return hashlib.sha256(words.encode()).hexdigest()[:_DIGITS]

    @property
    def id(self) -> str:
        """What its folder is called: readable, and the hash."""
        words = [self.optimizer, self.setting.label, f"seed{self.seed}"]
        text = re.sub(r"[^\w.]+", "-", "-".join(filter(None, words)))
        return f"{text[:_LONGEST].strip('-')}-{self.digest}"

    @property
    def label(self) -> str:
        """What it is called in messages."""
        words = [self.optimizer, self.setting.label, f"seed {self.seed}"]
        return ", ".join(filter(None, words))


def plan(config: SweepConfig) -> list[Run]:
    """All runs, seed by seed, so that a partial sweep is fair too.

    Args:
      config: the sweep.

    Returns:
      The runs in order.

    Raises:
      ExperimentError: if two of them are the same.
    """
    runs = list(_runs(config))
    seen: dict[str, Run] = {}
    for run in runs:
        twin = seen.setdefault(run.digest, run)
        if twin is not run:
            raise ExperimentError(
                f"{config.source}: these are the same run: {twin.label}; {run.label}"
            )
    return runs


def _runs(config: SweepConfig) -> Iterator[Run]:
    for seed in config.seeds:
        for setting in config.settings:
            for optimizer in config.optimizers:
                if optimizer not in setting.optimizers:
                    continue
                flags = config.fixed | setting.flags
                flags = {"optimizer": optimizer, "seed": seed} | flags
                if config.task is not None:
                    flags = {"task": config.task} | flags
                words = (flag_words(flag, value) for flag, value in flags.items())
                yield Run(setting, optimizer, seed, config.command, tuple(words))
