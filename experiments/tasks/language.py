"""``train`` and ``compare`` for recurrent language models."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments import parallel
from experiments.cli import parse
from experiments.configs.language import LanguageRun, LanguageTask
from experiments.configs.p0.language import PRESETS, LanguageCompare
from experiments.configs.settings import (
    check_checkpoint_every,
    check_rates,
    check_seeds,
    fields_of,
)
from experiments.data.text import TextCorpus
from experiments.loops import language
from experiments.optimizers import given_rates, named_optimizers, tuned_rates
from experiments.report import language as report
from experiments.run_folder import RunFolder
from experiments.tasks.running import (
    TrainOptions,
    TrainSettings,
    command_line,
    compare_command,
    train_command,
)

TASK = "language"

COLUMNS = (
    "optimizer",
    "seed",
    "dataset",
    "text_hash",
    "model",
    "epochs",
    "steps",
    "learning_rate",
    "weight_decay",
    "num_averaged",
    *(
        f"{kind}{split}_perplexity"
        for kind in ("", "average_")
        for split in language.SPLITS
    ),
    "seconds",
    "compile_seconds",
    "steps_per_second",
    "resumed_from_step",
    "commit",
    "versions",
    "config",
)
"""Those of ``results.csv``."""

_PRESET_HELP = (
    "small: pydocs, minutes on two cores. paper: P0's tables 6 and 12, Penn Treebank. "
    "table_13: NT-ASGD and scheduled Adam. smoke: seconds, a check."
)
_Preset = Annotated[
    Literal["small", "paper", "table_13", "smoke"], tyro.conf.arg(help=_PRESET_HELP)
]


@dataclasses.dataclass(frozen=True)
class TrainConfig(TrainSettings, LanguageTask):
    """One optimiser, one seed."""

    optimizer: str = "gadam"
    """Registry name."""
    seed: int = 0
    """Of initialisation, windows and dropout."""
    learning_rate: float | None = None
    """Initial learning rate; by default the tuned one, else the registry's."""
    weight_decay: float | None = None
    """Weight decay; by default the tuned one, else the registry's."""
    damping: float | None = None
    """Damping of K-FAC; by default the registry's."""
    checkpoint_every: int = 200
    """Steps between checkpoints, which need not fall on the end of an epoch."""


@dataclasses.dataclass(frozen=True)
class TrainArguments(TrainOptions, TrainConfig):
    """Train one language model with checkpoints; --resume goes on exactly."""

    preset: _Preset = "small"


@dataclasses.dataclass(frozen=True)
class CompareArguments(LanguageCompare):
    """Train language models with several optimisers and seeds; write a report."""

    preset: _Preset = "small"
    out: Path | None = None
    """Run folder; by default a new one under runs/compare-language."""
    resume: bool = False
    """Go on with a run folder: that of --out, or the newest of this task."""


def _parse(kind: Any, base: type, arguments: Sequence[str], command: str) -> Any:
    """Fills ``kind``; what is not given comes from the preset.

    Args:
      kind: the class of the arguments.
      base: the class of what a preset holds of them.
      arguments: what stands after the command.
      command: its name.
    """
    words = command_line(command, TASK)
    # The help shows what is taken unless another preset is named.
    default = kind(**fields_of(PRESETS["small"], base))
    parsed = parse(kind, arguments, command=words, default=default)
    if parsed.preset == "small":
        return parsed
    default = kind(**fields_of(PRESETS[parsed.preset], base))
    return parse(kind, arguments, command=words, default=default)


def resolve_run(config: TrainConfig, preset: str) -> LanguageRun:
    """Checks the arguments and fills in the tuned rate and decay.

    Args:
      config: the arguments.
      preset: whose rates.

    Returns:
      The run.

    Raises:
      ExperimentError: if something is wrong.
    """
    check_seeds((config.seed,))
    check_checkpoint_every(config.checkpoint_every)
    return LanguageRun(
        **fields_of(config, LanguageTask),
        optimizer=config.optimizer,
        seed=config.seed,
        **given_rates(config, PRESETS[preset].rates()),
    )


def train_main(arguments: Sequence[str]) -> int:
    """Runs ``train --task language``.

    Args:
      arguments: those of :class:`TrainArguments`.

    Returns:
      The exit status: 130 if interrupted, else 0.
    """
    parsed = _parse(TrainArguments, LanguageTask, arguments, "train")
    config = TrainConfig(**fields_of(parsed, TrainConfig))
    run = resolve_run(config, parsed.preset)
    placement = parallel.begin(parsed)
    corpus = language.load(run)
    language.check_run(run, placement, skip=config.on_nan == "skip")
    return train_command(
        arguments,
        parsed,
        config,
        lambda folder: functools.partial(_run, run, corpus, placement=placement),
        task=TASK,
        columns=COLUMNS,
        label=f"{run.optimizer}, seed {run.seed}",
        epochs=run.epochs,
        show=report.write_and_show,
    )


def resolve(config: LanguageCompare) -> LanguageCompare:
    """Checks a comparison and replaces ``all`` by the names it stands for.

    Args:
      config: the comparison.

    Returns:
      The same with every optimiser named, once.

    Raises:
      ExperimentError: if something in it is wrong.
    """
    check_seeds(config.seeds)
    for base, rates in config.rates().items():
        check_rates(f"{base}.", **dataclasses.asdict(rates))
    return dataclasses.replace(config, optimizers=named_optimizers(config.optimizers))


def plan(config: LanguageCompare) -> list[LanguageRun]:
    """Every run of a comparison, seed by seed, so that a partial one is fair too.

    Args:
      config: the comparison, resolved.

    Returns:
      The runs in order.
    """
    task = fields_of(config, LanguageTask)
    return [
        LanguageRun(
            **task, optimizer=name, seed=seed, **tuned_rates(name, config.rates())
        )
        for seed in config.seeds
        for name in config.optimizers
    ]


def compare_main(arguments: Sequence[str]) -> int:
    """Runs ``compare --task language``.

    Args:
      arguments: those of :class:`CompareArguments`.

    Returns:
      The exit status: 130 if interrupted, else 0.
    """
    parsed = _parse(CompareArguments, LanguageCompare, arguments, "compare")
    config = resolve(LanguageCompare(**fields_of(parsed, LanguageCompare)))
    corpus, planned = language.load(config), plan(config)
    for run in planned:
        language.check_run(run)
    folder = RunFolder.prepare(
        parsed.out, "compare", config, resume=parsed.resume, task=TASK, columns=COLUMNS
    )
    runs = [
        (run.optimizer, run.seed, run.epochs, functools.partial(_run, run, corpus))
        for run in planned
    ]
    return compare_command(arguments, folder, runs, show=report.write_and_show)


def _run(run: LanguageRun, corpus: TextCorpus, **hooks: Any) -> language.Row:
    return language.run(run, corpus, **hooks)
