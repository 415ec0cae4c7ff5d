"""Does the quality of the weights tell how a network generalises? P4, figure 2a.

Paper: Hosseini, Tuli, Plataniotis, Exploiting Explainable Metrics for Augmented SGD,
2022; section 3, figure 2, appendix D.

Data: scikit-learn's digits, 897 training images, shifted at random. Networks:
``resnet_tiny``, two residual blocks for 8x8 images, in three widths. Every optimiser of
P4's table 1 with every width and seed, 20 epochs of 14 steps of 64 images, half the
rate after every tenth of the run, rates of ``configs/p4/digits``. The paper has four
ResNets, 250 epochs, on CIFAR. Q comes from the last iterate alone: neither data nor
labels enter it. The gap is the accuracy on the training images, as they are, minus that
on the test images.

What the paper reports: correlations of Q with test accuracy and gap, Pearson's (PLCC)
and Spearman's (ROCC), written into its figure and not into its text; Q is higher for
optimisers that generalise better.

What came out (``experiments/results/p4/quality.csv``), over the 82 of 90 runs in which
some layer has a rank:

=====================  =====================  =====
Q against              PLCC                   ROCC
=====================  =====================  =====
test accuracy          +0.01 [-0.20, +0.23]   +0.11
gap of accuracies      -0.07 [-0.29, +0.14]   -0.05
gap of losses          +0.02 [-0.20, +0.23]   +0.00
=====================  =====================  =====

- Q says nothing here, of accuracy or of either gap, over all runs or over one width:
  the one interval of twelve that leaves out 0, barely, is that of the loss gap at
  width 24, -0.38 [-0.65, -0.03].
- Why it says nothing is to be seen in the maps of the layers: kernels of 8 to 48
  channels trained for 20 epochs are mostly noise to EVBMF. Of seven layers one to six
  have a rank, and many ranks are 1, which has the largest quality by definition; so Q
  counts how many layers have just begun to learn. The paper's kernels have 64 to 512
  channels and 250 epochs. Whether larger networks show what it reports was not tried.
- P4's theorem 1, that the stable rank of every layer grows from epoch to epoch, does
  not show: it did not fall in 273 of 409 cases (67 %) with RMSGD, in 116 of 176 (66 %)
  with SGD. RMSGD gives more layers a rank: 1 to 4 of seven, 3.1 on average, SGD 0 to 3,
  1.2 on average.

Hours: 0.15 on two cores that others used as well.
Commands::

  python -m experiments quality
  python -m experiments quality --preset smoke   # seconds
"""

import dataclasses
from pathlib import Path

from experiments.configs.p4 import digits
from experiments.configs.settings import TaskConfig, check_seeds
from experiments.errors import ExperimentError

RECORD = Path(__file__).parents[2] / "results" / "p4" / "quality.csv"


@dataclasses.dataclass(frozen=True)
class QualityConfig:
    """A grid of small networks: optimisers, widths, seeds."""

    optimizers: tuple[str, ...] = digits.OPTIMIZERS
    """Registry names, each with its rate of P4's comparison or of the registry."""
    widths: tuple[int, ...] = (8, 16, 24)
    """Channels of the network's first stage."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run per optimiser, width and seed."""
    dataset: str = "digits"
    """Data set, by name."""
    model: str = "resnet_tiny"
    """Network with a choice of width, by name, from optax_ia.models."""
    epochs: int = 20
    """Passes over the training data."""
    batch_size: int = 64
    """Examples per step."""
    decay_every: int = 2
    """Epochs between two steps of the step decay, for all but RMSGD (P4: 25 of 250)."""
    cutout: int = 0
    """Side of the square that is cut out of each training image; 0 cuts none."""

    def task(self, width: int) -> TaskConfig:
        """The part that the training loop takes.

        Args:
          width: of the network.

        Returns:
          The task.
        """
        return TaskConfig(
            dataset=self.dataset,
            model=self.model,
            epochs=self.epochs,
            batch_size=self.batch_size,
            schedule="step",
            decay_every=self.decay_every,
            cutout=self.cutout,
            width=width,
        )


PRESETS = {
    "small": QualityConfig(),
    "smoke": QualityConfig(
        optimizers=("rmsgd", "sgd"), widths=(4, 8), seeds=(0,), epochs=2
    ),
}


def check(config: QualityConfig) -> None:
    """Checks what the command line gave, but for the task.

    Args:
      config: the grid.

    Raises:
      ExperimentError: naming the argument, its bound and the value received.
    """
    check_seeds(config.seeds)
    for name in ("optimizers", "widths"):
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            given = " ".join(map(str, values))
            raise ExperimentError(f"--{name} must be given and differ, got {given!r}")
