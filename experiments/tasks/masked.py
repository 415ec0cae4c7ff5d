"""``train`` and ``compare`` for masked language modelling."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments import parallel
from experiments.cli import parse
from experiments.configs.p2.masked import (
    PRESETS,
    RATES,
    MaskedCompare,
    MaskedConfig,
    MaskedRun,
)
from experiments.configs.settings import (
    check_checkpoint_every,
    check_rates,
    check_seeds,
    fields_of,
)
from experiments.data._bpe import save_bpe
from experiments.data._masked_text import MaskedText
from experiments.loops import masked
from experiments.optimizers import given_rates, named_optimizers, tuned_rates
from experiments.report import masked as report
from experiments.run_folder import RunFolder
from experiments.tasks.running import (
    Run,
    TrainOptions,
    TrainSettings,
    compare_command,
    train_command,
)

TASK = "masked"

_SCORES = tuple(
    f"{prefix}{split}_{score}"
    for split in ("validation", "test")
    for prefix in ("", "average_")
    for score in ("perplexity", "loss", "accuracy")
)
COLUMNS = (
    "optimizer",
    "seed",
    "dataset",
    "model",
    "parameters",
    "epochs",
    "steps",
    "learning_rate",
    "weight_decay",
    "num_averaged",
    *_SCORES,
    "text_hash",
    "bpe_hash",
    "seconds",
    "compile_seconds",
    "steps_per_second",
    "resumed_from_step",
    "commit",
    "versions",
    "config",
)


@dataclasses.dataclass(frozen=True)
class TrainConfig(TrainSettings, MaskedConfig):
    """One optimiser, one seed."""

    optimizer: str = "ranger"
    """Registry name."""
    seed: int = 0
    """Of initialisation, order, masks and dropout."""
    learning_rate: float | None = None
    """Highest learning rate; by default the tuned one, else the registry's."""
    weight_decay: float | None = None
    """Weight decay; by default the tuned one, else the registry's."""
    damping: float | None = None
    """Damping of K-FAC; by default the tuned one."""


@dataclasses.dataclass(frozen=True)
class TrainArguments(TrainOptions, TrainConfig):
    """Train RoBERTa on masked tokens with checkpoints; --resume goes on exactly."""


@dataclasses.dataclass(frozen=True)
class CompareArguments(MaskedCompare):
    """Train RoBERTa with several optimisers; write a report beside P2's figure 21."""

    preset: Annotated[
        Literal["small", "paper", "smoke"],
        tyro.conf.arg(
            help="small: minutes on two cores. paper: WikiText-103 and 80 million "
            "parameters, an accelerator's. smoke: seconds, a check."
        ),
    ] = "small"
    out: Path | None = None
    """Run folder; by default a new one under runs/compare-masked."""
    resume: bool = False
    """Go on with a run folder: that of --out, or the newest under runs/compare-masked.
    """


def resolve_run(config: TrainConfig) -> MaskedRun:
    """Checks the arguments and fills in the tuned rate and decay.

    Args:
      config: the arguments.

    Returns:
      The run.

    Raises:
      ExperimentError: if something is wrong.
    """
    check_seeds((config.seed,))
    check_checkpoint_every(config.checkpoint_every)
    return MaskedRun(
        **fields_of(config, MaskedConfig),
        optimizer=config.optimizer,
        seed=config.seed,
        **given_rates(config, RATES),
    )


def plan(config: MaskedCompare) -> list[MaskedRun]:
    """Checks a comparison and lists its runs, seed by seed.

    Args:
      config: the comparison.

    Returns:
      The runs in order.

    Raises:
      ExperimentError: if something is wrong.
    """
    check_seeds(config.seeds)
    names = named_optimizers(config.optimizers)
    for name, rates in config.rates.items():
        check_rates(f"rates.{name}.", **dataclasses.asdict(rates))
    runs = []
    for seed in config.seeds:
        for name in names:
            runs.append(
                MaskedRun(
                    **fields_of(config, MaskedConfig),
                    optimizer=name,
                    seed=seed,
                    **tuned_rates(name, config.rates),
                )
            )
    return runs


def _save_tokenizer(data: MaskedText, folder: RunFolder) -> None:
    save_bpe(data.tokenizer, folder.path / "tokenizer.json")


def _run(run: MaskedRun, data: MaskedText, **hooks: Any) -> masked.Row:
    return masked.run(run, data, **hooks)


def train_main(arguments: Sequence[str]) -> int:
    """Runs ``train --task masked``.

    Args:
      arguments: those of :class:`TrainArguments`.

    Returns:
      The exit status: 130 if interrupted, else 0.
    """
    parsed = parse(TrainArguments, arguments, command="train --task masked")
    config = TrainConfig(**fields_of(parsed, TrainConfig))
    run = resolve_run(config)
    placement = parallel.begin(parsed)
    data = masked.load(run)
    masked.check_run(run, placement, skip=config.on_nan == "skip")

    def begin(folder: RunFolder) -> Run:
        if parallel.is_leader():
            _save_tokenizer(data, folder)
        return functools.partial(_run, run, data, placement=placement)

    return train_command(
        arguments,
        parsed,
        config,
        begin,
        task=TASK,
        columns=COLUMNS,
        label=f"{run.optimizer}, seed {run.seed}",
        epochs=run.epochs,
        show=report.write_and_show,
    )


def compare_main(arguments: Sequence[str]) -> int:
    """Runs ``compare --task masked``.

    Args:
      arguments: those of :class:`CompareArguments`.

    Returns:
      The exit status: 130 if interrupted, else 0.
    """
    words = "compare --task masked"
    parsed = parse(CompareArguments, arguments, command=words)
    if parsed.preset != "small":  # what is not given comes from the preset
        default = CompareArguments(**fields_of(PRESETS[parsed.preset], MaskedCompare))
        parsed = parse(CompareArguments, arguments, command=words, default=default)
    config = MaskedCompare(**fields_of(parsed, MaskedCompare))
    runs = plan(config)
    data = masked.load(config)
    for run in runs:
        masked.check_run(run)
    folder = RunFolder.prepare(
        parsed.out, "compare", config, resume=parsed.resume, task=TASK, columns=COLUMNS
    )
    _save_tokenizer(data, folder)
    entries = [
        (run.optimizer, run.seed, run.epochs, functools.partial(_run, run, data))
        for run in runs
    ]
    return compare_command(arguments, folder, entries, show=report.write_and_show)
