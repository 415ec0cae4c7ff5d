"""Handwritten digits drawn with and without replacement: P2, fig. 6.

Paper: Syrek, The Optimisation of Gradient Descent, section 4.1 and figure 6: training
loss and test performance of a shallow convolutional network on CIFAR-10 under SGD,
with a clear gain in test accuracy where the data are drawn without replacement. It
prints no numbers, and neither network nor rate.

Data: scikit-learn's 1797 digits of 8x8 pixels, embedded, not a task of the paper's.
Network: ``vgg_tiny``, a VGG of two convolutions of 4 and 8 channels with batch
normalisation, in place of the paper's. 40 epochs of 14 steps of 64 images, plain SGD at
a constant rate, no decay, no augmentation: the draw is the only noise. With replacement
an epoch has as many steps and misses about 37 % of the images. The two runs of a pair
start from the same parameters. The training loss is that of all training images, each
once, after the epoch, so it is the same quantity for both draws.

What came out here (``experiments/results/p2/sampling.csv``), 20 pairs, without minus
with replacement and its 95 % bootstrap interval:

==============================  ================  ==========================
training loss, last epoch       0.0060 - 0.0069   -0.0009 [-0.0013, -0.0005]
log10 of it, mean over epochs   -1.51 - (-1.46)   -0.048 [-0.072, -0.024]
test accuracy (%), last epoch   95.92 - 96.22     -0.30 [-0.86, +0.27]
test accuracy (%), mean         93.45 - 93.55     -0.10 [-0.41, +0.19]
==============================  ================  ==========================

So the training loss is lower without replacement, by about a tenth, which shows; in
test accuracy no difference shows, and the paper's clear gain is not seen on digits.

Rate: the best of four by three seeds on validation, without replacement
(``experiments/results/p2/sampling_tuning.csv``): 93.4 % at 0.03, 95.1 at 0.1, 96.1 at
0.3, 94.3 at 1.

Hours: 0.03 on two cores. Commands::

  python -m experiments sampling
  python -m experiments sampling --tune --out FILE   # on validation only
"""

import dataclasses
from pathlib import Path

from experiments.configs.settings import TaskConfig

RECORD = Path(__file__).parents[2] / "results" / "p2" / "sampling.csv"
TUNING_RECORD = RECORD.with_name("sampling_tuning.csv")


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """SGD on the same network and seeds, with either way of drawing the data."""

    dataset: str = "digits"
    """Data set, by name."""
    model: str = "vgg_tiny"
    """Network, by name, from optax_ia.models."""
    epochs: int = 40
    """Each of as many steps as a pass over the training data has."""
    batch_size: int = 64
    """Examples per step."""
    seeds: tuple[int, ...] = tuple(range(20))
    """One pair of runs per seed."""
    learning_rate: float = 0.3
    """Of plain SGD, constant; chosen by --tune."""

    @property
    def task(self) -> TaskConfig:
        """The part that the training loop takes."""
        return TaskConfig(
            dataset=self.dataset,
            model=self.model,
            epochs=self.epochs,
            batch_size=self.batch_size,
        )


@dataclasses.dataclass(frozen=True)
class TuneConfig:
    """The grid, on validation, without replacement."""

    seeds: tuple[int, ...] = (100, 101, 102)
    """Seeds of the grid, none of them a seed of the comparison."""
    rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    """Learning rates."""


PRESETS = {
    "small": SamplingConfig(),
    "smoke": SamplingConfig(epochs=2, batch_size=128, seeds=(0, 1, 2)),
}
