"""Adam's damping, sharpness and generalisation on digits: P1, section 5.2.

Paper: Granziol, Wan, Albanie, Roberts, Explaining the Adaptive Generalisation Gap,
2021, table 2 (left), figures 5 and 7, appendix C.2.

Data: 897 training images of scikit-learn's digits, shifted at random, 450 for
validation, 450 for the test. Network: ``vgg_tiny``, two convolutions with batch
normalisation, 30 epochs of 14 steps. The paper has VGG-16 on CIFAR-100 for 300 epochs,
without batch normalisation in table 2 and figure 5; ours has none without. The paper's
are the schedule and AdamW's decay, 0.25. The rates are ours: 0.01, at which Adam trains
with the usual damping, and 0.1, too large for that. Spectral norms are of the training
loss's Hessian at the last weights, 20 Lanczos steps.

What the paper reports (``REPORTED`` below): at a fixed rate the spectral norm falls as
the damping grows, always, from 53 to 10 at the smaller one; the validation accuracy
grows by one or two points and then falls again; larger dampings allow larger rates.

What came out (``experiments/results/p1/damping.csv``): spectral norm / test error in
percent, means of three seeds:

======  ============  ============  ============  ============
delta   Adam, 0.01    Adam, 0.1     AdamW, 0.01   AdamW, 0.1
======  ============  ============  ============  ============
1e-8    35.9 / 6.5    7.1 / 23.8    102 / 6.1     435 / 18.4
1e-4    37.4 / 6.1    7.3 / 21.4    103 / 5.5     549 / 18.4
1e-3    37.1 / 5.9    8.9 / 24.8    105 / 6.1     434 / 17.2
1e-2    41.4 / 6.8    11.1 / 20.7   112 / 6.3     256 / 11.2
1e-1    47.3 / 10.2   16.9 / 6.8    132 / 10.2    445 / 6.9
======  ============  ============  ============  ============

- As in the paper, a large damping lets a large rate train: at 0.1 the error falls from
  24 and 18 % to 7 %. At 0.01 dampings up to 1e-2 make no difference within the
  deviations of 0.5 to 2 points, and 0.1 is over-damped. No damping is seen to improve
  on the best cell of the usual one.
- Not as in the paper, the spectral norm does not fall with the damping: it grows in 7
  of 8 steps for Adam and in 6 of 8 for AdamW, some within the noise. Nor does it go
  with the error: the rank correlation is -0.67 for Adam, +0.83 for AdamW. The same
  test errors, near 6 %, come with norms of 36 and of 102.
- A likely reason is batch normalisation, an explanation that was not tested: the loss
  does not depend on the scale of a convolution's weights, and its Hessian with respect
  to them goes as one over their square. Decay makes those weights small and the norm
  large; a large rate with a small damping makes them large and the norm small. So this
  table says nothing against the paper's, whose networks are without it.

Hours: 0.05 on two cores. Commands::

  python -m experiments damping
  python -m experiments damping --preset smoke   # seconds
"""

import dataclasses
import math
from pathlib import Path

from experiments.configs.settings import TaskConfig, check_rates, check_seeds
from experiments.errors import ExperimentError

# Table 2, left, Adam with VGG-16 on CIFAR-100: rate, damping, spectral norm at the
# end, validation accuracy in percent.
REPORTED = (
    (0.0004, 1e-7, 53.1, 62.9),
    (0.0004, 4e-4, 21.1, 64.5),
    (0.0004, 1e-3, 9.9, 63.5),
    (0.001, 1e-3, 20.8, 64.4),
    (0.001, 5e-3, 9.1, 66.2),
    (0.001, 8e-3, 2.4, 65.8),
)

RECORD = Path(__file__).parents[2] / "results" / "p1" / "damping.csv"


@dataclasses.dataclass(frozen=True)
class DampingConfig:
    """Adam and AdamW over learning rate and damping, over several seeds."""

    dataset: str = "digits"
    """Data set, by name."""
    model: str = "vgg_tiny"
    """Network, by name, from optax_ia.models."""
    epochs: int = 30
    """Passes over the training data."""
    batch_size: int = 64
    """Examples per step."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run per cell and seed."""
    learning_rates: tuple[float, ...] = (1e-2, 1e-1)
    """Rates at the start; P1's schedule lowers them."""
    dampings: tuple[float, ...] = (1e-8, 1e-4, 1e-3, 1e-2, 1e-1)
    """Delta, the eps of Adam."""
    weight_decay: float = 0.25
    """Decoupled decay of AdamW, as in P1; Adam has none."""
    num_steps: int = 20
    """Lanczos steps for the spectral norm."""

    @property
    def task(self) -> TaskConfig:
        """The part that the training loop takes."""
        return TaskConfig(
            dataset=self.dataset,
            model=self.model,
            epochs=self.epochs,
            batch_size=self.batch_size,
        )


PRESETS = {
    "small": DampingConfig(),
    "smoke": DampingConfig(
        epochs=2,
        batch_size=128,
        seeds=(0,),
        learning_rates=(1e-2,),
        dampings=(1e-8, 1e-2),
        num_steps=10,
    ),
}


def check(config: DampingConfig) -> None:
    """Checks what the command line gave, but for the task.

    Args:
      config: the comparison.

    Raises:
      ExperimentError: naming the argument, its bound and the value received.
    """
    check_seeds(config.seeds)
    check_rates("", 1.0, config.weight_decay)
    if config.num_steps < 1:
        raise ExperimentError(f"--num-steps must be 1 or more, got {config.num_steps}")
    for name in ("learning_rates", "dampings"):
        values = getattr(config, name)
        rising = list(values) == sorted(set(values))
        if not values or not rising or not 0 < values[0] <= values[-1] < math.inf:
            option = name.replace("_", "-")
            raise ExperimentError(
                f"--{option} must increase above 0, got "
                + " ".join(f"{value:g}" for value in values)
            )
