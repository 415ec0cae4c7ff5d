"""What a run is: frozen dataclasses, checked once, that the command line fills."""

import dataclasses
import json
import math
from typing import Any, Literal

from experiments.errors import ExperimentError


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """What is trained, for how long: shared by every optimiser of a comparison."""

    dataset: str = "digits"
    """Data set, by name."""
    model: str = "vgg_small"
    """Network, by name, from optax_ia.models."""
    epochs: int = 40
    """Passes over the training data."""
    batch_size: int = 64
    """Examples per step."""
    average_from: float = 161 / 300
    """Fraction of the epochs after which averaging begins (P0: epoch 161 of 300)."""
    patience: int = 10
    """Evaluations without improvement that gadam_auto waits for (P0: 10)."""
    clip_norm: float | None = None
    """Clip gradients to this global norm; P0 does not clip."""
    schedule: Literal["paper", "step"] = "paper"
    """paper: P0's, eq. 12 without and eq. 13 with averaging. step: P4's step decay."""
    decay_every: int = 25
    """Epochs between two steps of the step decay (P4: 25 of 250)."""
    decay_factor: float = 0.5
    """What each of them multiplies the rate by (P4: 0.5)."""
    cutout: int = 0
    """Side of the square that is cut out of each training image; 0 cuts none."""
    data_dir: str | None = None
    """Where the data set lies, for one that is not embedded."""
    crop: int | None = None
    """Side of random crops, and of the middle for evaluation (P1: 28 of CIFAR's 32)."""
    worker_count: int = 0
    """Processes that read images which do not fit in memory; 0: threads of this one."""
    width: int | None = None
    """Channels of the first stage, of networks that have a choice; None: their own."""
    precision: Literal["float32", "bf16"] = "float32"
    """What the network computes in; parameters and statistics stay float32."""
    accumulate: int = 1
    """Small batches that each batch is cut into, to save memory; one update for all."""
    remat: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes, in training."""
    batch_stats: Literal["global", "replica"] = "global"
    """What BatchNorm normalises with: the whole batch's statistics, or those of each
    replica's part (with --accumulate, of each small batch)."""
    replicas: int | None = None
    """Equal parts for --batch-stats replica; None: one for each device."""

    @property
    def averaging_epoch(self) -> int:
        """The first epoch, counted from 1, whose last iterate is averaged."""
        # The tolerance keeps 161/300 * 300 from being rounded up to 162.
        return max(1, math.ceil(self.average_from * self.epochs - 1e-9))


@dataclasses.dataclass(frozen=True)
class RunConfig(TaskConfig):
    """One run, completely: everything its results depend on."""

    optimizer: str = "sgd"
    """Registry name."""
    seed: int = 0
    """Of initialisation, data order and augmentation."""
    learning_rate: float = 0.1
    """Initial learning rate."""
    weight_decay: float | None = None
    """Weight decay in the optimiser's own sense; None leaves the registry's."""
    damping: float | None = None
    """Damping, of K-FAC; None leaves the registry's."""

    def to_json(self) -> str:
        """The configuration on one line, with sorted keys."""
        return one_line(self, later=_LATER)


def one_line(config: Any, later: tuple[str, ...]) -> str:
    """A configuration as JSON on one line, with sorted keys.

    Args:
      config: a frozen dataclass.
      later: fields that records from before them do not name, which are left out at
        their default.

    Returns:
      The line.
    """
    fields = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        if field.name in later and fields[field.name] == field.default:
            del fields[field.name]
    return json.dumps(fields, sort_keys=True)


_LATER = (
    "damping",
    "schedule",
    "decay_every",
    "decay_factor",
    "cutout",
    "data_dir",
    "crop",
    "worker_count",
    "width",
    "precision",
    "accumulate",
    "remat",
    "label_smoothing",
    "batch_stats",
    "replicas",
)
"""Fields that came after the first records."""


@dataclasses.dataclass(frozen=True)
class Rates:
    """Learning rate and weight decay of one base optimiser."""

    learning_rate: float
    """Initial learning rate."""
    weight_decay: float | None
    """Weight decay, in the optimiser's own sense; None leaves the registry's."""


@dataclasses.dataclass(frozen=True)
class DampedRates(Rates):
    """The same with a damping."""

    damping: float
    """Damping, above 0."""


def fields_of(config: Any, base: type) -> dict[str, Any]:
    """The part of a configuration that a class above it has, as keyword arguments.

    Args:
      config: the configuration.
      base: one of the classes it inherits from.

    Returns:
      Name to value.
    """
    return {
        field.name: getattr(config, field.name) for field in dataclasses.fields(base)
    }


def check_task(config: TaskConfig) -> None:
    """Checks every number of a task.

    Args:
      config: the task.

    Raises:
      ExperimentError: naming the argument, its bound and the value received.
    """
    for name in ("epochs", "batch_size", "patience"):
        _check(name, getattr(config, name), "at least 1", lambda value: value >= 1)
    _check(
        "average_from",
        config.average_from,
        "between 0 and 1",
        lambda value: 0 <= value <= 1,
    )
    if config.clip_norm is not None:
        _check("clip_norm", config.clip_norm, "above 0", _positive)
    _check("decay_every", config.decay_every, "at least 1", lambda value: value >= 1)
    _check("decay_factor", config.decay_factor, "above 0", _positive)
    _check("cutout", config.cutout, "0 or more", lambda value: value >= 0)
    if config.crop is not None:
        _check("crop", config.crop, "at least 1", lambda value: value >= 1)
    _check("worker_count", config.worker_count, "0 or more", lambda value: value >= 0)
    if config.width is not None:
        _check("width", config.width, "at least 1", lambda value: value >= 1)
    _check_computation(config)


def _check_computation(config: TaskConfig) -> None:
    _check("accumulate", config.accumulate, "at least 1", lambda value: value >= 1)
    _check(
        "label_smoothing",
        config.label_smoothing,
        "0 or more and below 1",
        lambda value: 0 <= value < 1,
    )
    if config.replicas is not None:
        if config.batch_stats != "replica":
            raise ExperimentError("--replicas needs --batch-stats replica")
        _check("replicas", config.replicas, "at least 1", lambda value: value >= 1)
    parts = config.accumulate * (config.replicas or 1)
    if config.batch_size % parts:
        names = "--accumulate times --replicas"
        if config.replicas is None:
            names = "--accumulate"
        raise ExperimentError(
            f"--batch-size must be a multiple of {parts} ({names}), got "
            f"{config.batch_size}"
        )


def check_rates(
    prefix: str,
    learning_rate: float,
    weight_decay: float | None,
    damping: float | None = None,
) -> None:
    """Checks a learning rate, a weight decay and a damping.

    Args:
      prefix: what stands before the arguments' names, such as ``"sgd."``.
      learning_rate: must be above 0 and finite.
      weight_decay: must be 0 or more and finite, or None.
      damping: must be above 0 and finite, or None.

    Raises:
      ExperimentError: naming the argument, its bound and the value received.
    """
    _check(f"{prefix}learning_rate", learning_rate, "above 0 and finite", _positive)
    if weight_decay is not None:
        _check(
            f"{prefix}weight_decay",
            weight_decay,
            "0 or more and finite",
            lambda value: 0 <= value < math.inf,
        )
    if damping is not None:
        _check(f"{prefix}damping", damping, "above 0 and finite", _positive)


def check_checkpoint_every(steps: int) -> None:
    """Checks the steps between two checkpoints.

    Args:
      steps: must be at least 1.

    Raises:
      ExperimentError: naming the argument, its bound and the value received.
    """
    _check("checkpoint_every", steps, "at least 1", lambda value: value >= 1)


def check_seeds(seeds: tuple[int, ...]) -> None:
    """Checks that seeds are given, different, and not negative.

    Args:
      seeds: one per run.

    Raises:
      ExperimentError: saying what is wrong.
    """
    if not seeds:
        raise ExperimentError("--seeds needs at least one seed, such as 0")
    for seed in seeds:
        _check("seeds", seed, "0 or more", lambda value: value >= 0)
    if len(set(seeds)) < len(seeds):
        raise ExperimentError(f"--seeds must differ, got {' '.join(map(str, seeds))}")


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _check(name: str, value: Any, bound: str, holds) -> None:
    if not holds(value):
        flag = "--" + name.replace("_", "-")
        raise ExperimentError(f"{flag} must be {bound}, got {value}")
