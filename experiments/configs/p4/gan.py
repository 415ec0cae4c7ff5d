"""A Wasserstein GAN on digits, with optimisers by name: P4, appendix E.5.

Paper: Hosseini, Tuli, Plataniotis, Exploiting Explainable Metrics for Augmented SGD,
2022, appendix E.5: the GAN of Arjovsky et al. (2017) with eight optimisers, rates by a
grid over 100 epochs, everything else at its default.
"""

import dataclasses
import json
import math
from typing import Literal

from experiments.configs._checks import check

RATES = {"rmsprop": 5e-4}
"""Rates on digits; others take the paper's, or else the registry's."""

# Appendix E.5.1: the rate that the paper's grid selected (SGD and RMSGD with momentum).
PAPER_RATES = {
    "rmsgd": 0.5,
    "sgd": 0.1,
    "sam": 0.5,
    "adabelief": 3e-4,
    "radam": 3e-4,
    "adam": 3e-4,
    "rmsprop": 3e-4,
    "adabound": 3e-4,
}


@dataclasses.dataclass(frozen=True)
class GanConfig:
    """What is trained, for how long."""

    dataset: str = "digits"
    """Images, by name: square, of at most 64 pixels a side."""
    features: int = 32
    """Channels of the two networks' outer layers."""
    extra_layers: int = 1
    """3x3 convolutions in each network beside those that halve or double."""
    latent: int = 16
    """Numbers that an image is made of."""
    epochs: int = 30
    """Epochs, after each of which samples are drawn and scores taken."""
    epoch_steps: int | None = 100
    """Steps of the generator in an epoch; None: a pass of the critic over the data."""
    batch_size: int = 64
    """Images per step (WGAN: 64)."""
    critic_steps: int = 5
    """Steps of the critic before each of the generator (WGAN: 5)."""
    constraint: Literal["clip", "penalty"] = "clip"
    """clip: the critic's weights (WGAN). penalty: its slope (WGAN-GP)."""
    clip: float = 0.01
    """Bound of the critic's weights (WGAN: 0.01)."""
    penalty: float = 10.0
    """Weight of the gradient penalty (WGAN-GP: 10)."""
    average_from: float = 0.5
    """Fraction of the steps after which averaging begins."""
    average_every: int = 10
    """Steps of the generator between two iterates of an average."""
    patience: int = 10
    """Evaluations without improvement that gadam_auto waits for (P0: 10)."""


@dataclasses.dataclass(frozen=True)
class GanRun(GanConfig):
    """One run, completely: everything its results depend on."""

    optimizer: str = "rmsprop"
    """The generator's, a registry name (WGAN: rmsprop)."""
    critic_optimizer: str = "rmsprop"
    """The critic's."""
    seed: int = 0
    """Of initialisation, order, latent numbers and penalty."""
    learning_rate: float = 5e-4
    """The generator's, constant."""
    critic_learning_rate: float = 5e-4
    """The critic's, constant."""

    def to_json(self) -> str:
        """The configuration on one line, with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def check_gan(config: GanConfig) -> None:
    """Checks every number of a task.

    Args:
      config: the task.

    Raises:
      ExperimentError: naming the argument, its bound and the value received.
    """
    names = ("features", "latent", "epochs", "critic_steps", "average_every")
    for name in (*names, "patience"):
        check(name, getattr(config, name), "at least 1", lambda value: value >= 1)
    if config.epoch_steps is not None:
        steps = config.epoch_steps
        check("epoch_steps", steps, "at least 1", lambda value: value >= 1)
    least = "at least 2"
    check("batch_size", config.batch_size, least, lambda value: value >= 2)
    extra = config.extra_layers
    check("extra_layers", extra, "0 or more", lambda value: value >= 0)
    for name in ("clip", "penalty"):
        bound = "above 0 and finite"
        check(name, getattr(config, name), bound, lambda value: 0 < value < math.inf)
    share = config.average_from
    check("average_from", share, "between 0 and 1", lambda value: 0 <= value <= 1)
