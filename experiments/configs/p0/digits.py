"""Handwritten digits with the optimisers of P0, table 2, in four minutes on two cores.

Paper: Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
Methods, 2021; section 5.1, table 2, appendix B.2.

Data: scikit-learn's 1797 digits of 8x8 pixels, embedded, not a task of the paper's.
Network: ``vgg_small``, a VGG of 4 convolutions with batch normalisation, 17,754
parameters (the paper: VGG-16, 15 million). 40 epochs of 14 steps of 64 images (the
paper: 300 epochs of 390 steps of 128).

What is the paper's: the six optimisers; the schedules, eq. 12 without and eq. 13 with
averaging, final rate 0.01 of the first, half of it while averaging; averaging once an
epoch from the same fraction of the run on (epoch 161 of 300); batch statistics of the
average estimated anew; base optimisers tuned, the averaged ones taking over their
base's rate and decay (B.2); random crops (no mirroring, which would change digits).

What the paper reports, test accuracy in percent, mean and deviation of three runs:

=========  ================  =================
VGG-16     CIFAR-10          CIFAR-100
=========  ================  =================
SGD        94.14 +- 0.37     74.15 +- 0.06
SWA        94.69 +- 0.36     74.57 +- 0.27
Adam(W)    93.90 +- 0.11     73.26 +- 0.30
Padam(W)   94.13 +- 0.06     74.56 +- 0.19
Gadam      94.62 +- 0.15     75.73 +- 0.29
GadamX     94.88 +- 0.03     76.85 +- 0.08
=========  ================  =================

Expected here: every optimiser between 98.2 and 99.1 %, the averages within a few
tenths of the last iterates and their curves on validation smoother. One test digit is
0.22 points, the deviation over seeds 0.3 to 0.5 points: the ceiling is reached, and
nothing in the table tells the optimisers apart. This checks that everything works
together. It is not a ranking, and reading it as one would be a mistake. The rows of
such a run are in ``experiments/results/p0/digits.csv``.

Rates and decays: the best of 33 points by three seeds on validation
(``experiments/results/p0/digits_tuning.csv``). None lies at the end of its range of
rates; neighbouring points are within the noise of three seeds.

Hours: 0.05 on two cores. Commands::

  python -m experiments compare
  python -m experiments tune       # what chose the rates below; on validation only
"""

import dataclasses
from pathlib import Path

from experiments.configs.p2 import second_order
from experiments.configs.p4 import digits as p4
from experiments.configs.settings import DampedRates, Rates, TaskConfig

OPTIMIZERS = ("sgd", "swa", "adamw", "padamw", "gadam", "gadamx")

# Table 2, VGG-16: (CIFAR-10, CIFAR-100) test accuracy in percent.
REPORTED = {
    "sgd": ("94.14 ± 0.37", "74.15 ± 0.06"),
    "swa": ("94.69 ± 0.36", "74.57 ± 0.27"),
    "adamw": ("93.90 ± 0.11", "73.26 ± 0.30"),
    "padamw": ("94.13 ± 0.06", "74.56 ± 0.19"),
    "gadam": ("94.62 ± 0.15", "75.73 ± 0.29"),
    "gadamx": ("94.88 ± 0.03", "76.85 ± 0.08"),
}

RECORD = Path(__file__).parents[2] / "results" / "p0" / "digits.csv"
TUNING_RECORD = RECORD.with_name("digits_tuning.csv")


@dataclasses.dataclass(frozen=True)
class CompareConfig(TaskConfig):
    """Several optimisers, several seeds, one table."""

    optimizers: tuple[str, ...] = OPTIMIZERS
    """Registry names, or `all` but those with Hessian products; untuned: its rates."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One run per optimiser and seed."""
    sgd: Rates = Rates(learning_rate=0.1, weight_decay=1e-4)
    """For sgd and swa; chosen by tune. The decay is L2."""
    adamw: Rates = Rates(learning_rate=0.01, weight_decay=0.05)
    """For adamw and the gadam family; chosen by tune. Decay times the rate."""
    padamw: Rates = Rates(learning_rate=0.1, weight_decay=5e-3)
    """For padamw and gadamx; chosen by tune. Decay times the rate."""
    adam: Rates = second_order.ADAM
    """For adam and swats; chosen by tune."""
    ranger: Rates = second_order.RANGER
    """For ranger; chosen by tune."""
    kfac: DampedRates = second_order.KFAC
    """For kfac; chosen by tune."""
    shampoo: Rates = second_order.SHAMPOO
    """For shampoo; chosen by tune."""
    others: dict[str, Rates] = dataclasses.field(
        default_factory=lambda: {
            name: rates for name, rates in p4.RATES.items() if name not in _OWN
        }
    )
    """For the others of P4's table 1; chosen by tune, with its step decay."""

    @property
    def tuned(self) -> dict[str, Rates]:
        """The tuned rates by name of the base optimiser."""
        return {name: getattr(self, name) for name in _OWN} | self.others


_OWN = ("sgd", "adamw", "padamw", "adam", "ranger", "kfac", "shampoo")
"""Optimisers whose rates are a field of the comparison."""


@dataclasses.dataclass(frozen=True)
class TuneConfig(TaskConfig):
    """The grid: every rate with every decay, or every damping."""

    seeds: tuple[int, ...] = (100, 101, 102)
    """Seeds of the grid, none of them a seed of the comparison."""
    sgd_rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    """Learning rates of sgd."""
    adamw_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2)
    """Learning rates of adamw."""
    padamw_rates: tuple[float, ...] = (0.03, 0.1, 0.3)
    """Learning rates of padamw."""
    decays: tuple[float, ...] = (1e-4, 5e-4, 1e-3)
    """P0's range. As they are for sgd (L2); for the decoupled decays, which the
    learning rate multiplies, they are rate times decay, as P0 B.2 has it."""
    adam_rates: tuple[float, ...] = ()
    """Learning rates of adam, without decay."""
    ranger_rates: tuple[float, ...] = ()
    """Learning rates of ranger, without decay."""
    kfac_rates: tuple[float, ...] = ()
    """Learning rates of kfac, without decay."""
    kfac_dampings: tuple[float, ...] = ()
    """Dampings of kfac."""
    shampoo_rates: tuple[float, ...] = ()
    """Learning rates of shampoo, without decay."""
    others: tuple[tuple[str, float], ...] = ()
    """More optimisers, each with a learning rate: `adamp 0.001 adamp 0.01`."""
    others_decay: float = p4.DECAY
    """The decay of these, each in its own sense."""

    def grid(self) -> list[tuple[str, Rates]]:
        """Every base optimiser with every rate and decay in its own sense."""
        points = [
            ("sgd", Rates(rate, decay))
            for rate in self.sgd_rates
            for decay in self.decays
        ]
        for name, rates in (("adamw", self.adamw_rates), ("padamw", self.padamw_rates)):
            points += [
                # rounded, so that a decay reads as 0.05 and not as 0.05000000000000001
                (name, Rates(rate, float(f"{decay / rate:.6g}")))
                for rate in rates
                for decay in self.decays
            ]
        for name in ("adam", "ranger", "shampoo"):
            rates = getattr(self, f"{name}_rates")
            points += [(name, Rates(rate, 0.0)) for rate in rates]
        points += [
            ("kfac", DampedRates(rate, 0.0, damping))
            for rate in self.kfac_rates
            for damping in self.kfac_dampings
        ]
        points += [(name, Rates(rate, self.others_decay)) for name, rate in self.others]
        return points


PRESETS = {
    "small": CompareConfig(),
    "second_order": CompareConfig(optimizers=second_order.OPTIMIZERS),
    "rmsgd": CompareConfig(
        optimizers=p4.OPTIMIZERS,
        sgd=p4.RATES["sgd"],
        adam=p4.RATES["adam"],
        **p4.TASK,
    ),
    "smoke": CompareConfig(
        model="vgg_tiny", epochs=2, seeds=(0, 1), optimizers=("sgd", "gadamx")
    ),
}
TUNE_PRESETS = {
    "small": TuneConfig(),
    "second_order": TuneConfig(
        sgd_rates=(),
        adamw_rates=(),
        padamw_rates=(),
        **second_order.GRID,
    ),
    "rmsgd": TuneConfig(
        sgd_rates=(), adamw_rates=(), padamw_rates=(), others=p4.GRID, **p4.TASK
    ),
}
