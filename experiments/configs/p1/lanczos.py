"""Sharp and flat directions by LanczosOPT, on logistic regression: P1, section 4.

Paper: Granziol, Wan, Albanie, Roberts, Explaining the Adaptive Generalisation Gap,
2021, section 4, equation 9, figures 2 and 3, appendix C.1.

Problem: multinomial logistic regression without a penalty on 897 training images of
scikit-learn's digits, judged by the 900 others; 650 parameters. The paper has 1000
training and 10000 test images of MNIST and 7850 parameters: that is ``--dataset mnist``
where TensorFlow Datasets has prepared it. It could not be had here: what follows is of
the digits. From zero, over all training images, in float64, 300 updates. The paper's
are k = 50 Lanczos steps, alpha = 0.01 and eta of 1, 3 and 10. Its text names neither
the dampings of its figures nor the number of updates: those are ours. The dampings span
steps like gradient descent's (delta = 1) to flat directions a hundred times as fast as
alpha (1e-4).

What the paper reports, in words: generalisation suffers as the damping falls; for each
damping, slower sharp directions harm the test more than the training error; at larger
dampings the harm is greater in both; at extremely low damping, training hardly suffers.

What came out (``experiments/results/p1/lanczos.csv``), errors after the last update in
percent, training / test; R_est-curv at the first update for eta = 1:

======  ==========  ===========  ============  =============
delta   R_est-curv  eta = 1      eta = 3       eta = 10
======  ==========  ===========  ============  =============
1       4.3         6.6 / 8.7    5.9 / 8.4     6.9 / 9.2
0.1     34          2.3 / 4.7    4.2 / 7.6     12.5 / 14.7
0.01    330         0.0 / 5.3    2.2 / 8.8     11.8 / 15.0
0.001   3.3e3       0.0 / 5.6    1.3 / 10.8    12.7 / 19.7
0.0003  1.1e4       0.0 / 7.1    0.7 / 11.1    6.8 / 18.3
0.0001  3.3e4       0.0 / 9.1    0.0 / 10.3    2.0 / 10.9
======  ==========  ===========  ============  =============

Gradient descent: 6.6 / 9.3. The standard error of a test error of 5 % is 0.7 points.

- As in the paper, the test error rises as the damping falls below 0.1, from 4.7 to
  9.1 % at eta = 1, while the training error falls from 2.3 % to nothing. Between 0.1
  and 0.001 the differences are within the noise of one test set. A damping of 1 is no
  better: with alpha = 0.01 it is gradient descent and has not arrived.
- With eta = 3 the test error suffers more than the training error at every damping (at
  1, where both gain a little, it gains less), as in the paper; with eta = 10 at three
  of six (1, 0.001, 0.0003), and about as much as it at the others.
- Larger dampings do not suffer more than smaller ones: the harm is greatest from 0.1
  to 0.0003 and nothing at 1, where even the sharpest eigenvalue, 3.3, is hardly above
  the damping. At 1e-4 training hardly suffers, as in the paper.
- A reservation that the paper does not make: along a sharp direction a step takes
  alpha / eta of the distance, so that after 300 updates eta = 1 has gone 95 % of the
  way, eta = 3 63 % and eta = 10 26 %. At eta = 10 the training error itself is 7 to
  13 % from 0.1 to 0.0003: part of what those columns show is that the runs have not
  arrived.

One run each, nothing random but the vectors that Lanczos starts from. At 0.0003 and
below rounding decides the last digits: the same program compiled in another way moved
errors there by up to 0.7 points, and left all others as they are.

Hours: 0.02 on two cores; about 0.25 with images of MNIST's size. Commands::

  python -m experiments lanczos
  python -m experiments lanczos --dataset mnist --data-dir DIR
"""

import dataclasses
import math
from pathlib import Path
from typing import Literal

from experiments.configs.settings import check_rates
from experiments.errors import ExperimentError

RECORD = Path(__file__).parents[2] / "results" / "p1" / "lanczos.csv"


@dataclasses.dataclass(frozen=True)
class LanczosConfig:
    """What the errors depend on."""

    dataset: Literal["digits", "mnist", "fashion_mnist"] = "digits"
    """Images to classify; those that are not embedded must have been prepared."""
    examples: int = 1000
    """Training images, drawn from the training split by the seed (P1: 1000); a split
    that has no more, as that of the digits, is taken whole."""
    learning_rate: float = 0.01
    """Alpha, of LanczosOPT and of gradient descent."""
    dampings: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """Delta, a row of the heat maps each."""
    sharp_scales: tuple[float, ...] = (1.0, 3.0, 10.0)
    """Eta, what the eigenvalues are multiplied by; a column each."""
    num_steps: int = 50
    """Lanczos steps of an update, k."""
    updates: int = 300
    """Of each run, over all the training data."""
    seed: int = 0
    """Of the vectors that Lanczos starts from, and of the drawn training images."""


def check(config: LanczosConfig) -> None:
    """Checks what the command line gave.

    Args:
      config: the comparison.

    Raises:
      ExperimentError: naming the argument, its bound and the value received.
    """
    check_rates("", config.learning_rate, None)
    least_of = {"examples": 1, "num_steps": 1, "updates": 1, "seed": 0}
    for name, least in least_of.items():
        value = getattr(config, name)
        if value < least:
            option = name.replace("_", "-")
            raise ExperimentError(f"--{option} must be {least} or more, got {value}")
    for name in ("dampings", "sharp_scales"):
        values = getattr(config, name)
        rising = list(values) == sorted(set(values))
        if not values or not rising or not 0 < values[0] <= values[-1] < math.inf:
            option = name.replace("_", "-")
            raise ExperimentError(
                f"--{option} must increase above 0, got "
                + " ".join(f"{value:g}" for value in values)
            )
