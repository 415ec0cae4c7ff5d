"""SVRG and SGD on a strongly convex finite sum: P2, section 4.3.1.

Paper: Syrek, The Optimisation of Gradient Descent, section 4.3.1, equation 27, which
has SVRG take its snapshot's gradient over a large batch; Johnson and Zhang,
Accelerating Stochastic Gradient Descent using Predictive Variance Reduction, 2013,
which takes it over all the data, proves that the gap to the minimum then falls
linearly at a constant rate, and shows it for logistic regression. P2 shows SVRG on
non-convex problems only.

Problem: multinomial logistic regression on the 897 training images of scikit-learn's
digits, penalty 0.015 |w|^2, in float64, so that the gap can be followed down to
rounding. Its minimum is found by Newton's method; the Hessian's eigenvalues there lie
between 0.03 and 2.26. Batches of 8 without replacement in an epoch of 112 steps, every
method from zero and at rate 0.06, the decaying one at 0.06 / (1 + 0.06 * 0.03 t). Cost
is counted in gradients of single examples: two per example of a step of SVRG, and
those of its snapshots; each run has 240 passes.

Expected: SVRG with the full gradient falls linearly to rounding; SGD at the same rate
stalls, and with a decaying rate falls slower than any geometric sequence; SVRG with a
quarter of the data stalls too, below SGD.

What came out (``experiments/results/p2/variance_reduction.csv``), five seeds, median
and range of the gap over the last tenth of the epochs:

====================================  ===========================
SGD, the same rate                    5.9e-3 [5.3e-3, 7.2e-3]
SGD, decaying rate                    1.4e-6 [1.1e-6, 2.1e-6]
SVRG, full gradient, every 112 steps  rounding, after 210 passes
SVRG, 25 % of the data, 112 steps     1.7e-2 [1.5e-2, 2.2e-2]
SVRG, 25 % of the data, 7 steps       2.6e-3 [1.9e-3, 2.7e-3]
====================================  ===========================

So SGD and SVRG with the full gradient are as expected. The gap of SVRG is multiplied
by 0.624 from one snapshot to the next. For 112 steps of gradient descent it is 0.623,
and (1 - 0.06 * 0.03)^(2 * 112) = 0.668 along the smallest eigenvalue: each step does as
much as one along the full gradient, and an epoch takes 3 passes instead of 112. From
pass 21 on SVRG is ahead of the decaying SGD. The paper's theorem says nothing here:
with single examples it needs a rate below 1 / (4 L) = 0.0054, with L = 46 bounding the
smoothness of any example's loss.

The large batch is not as expected. With a snapshot per epoch it stalls three times
above SGD: the error of the snapshot's gradient stays the same for all the steps until
the next and adds up, where the errors of SGD's batches, drawn anew, partly cancel. It
is below SGD only if the snapshots come often enough or are larger. In thousandths, the
gap ends with a quarter of the data every 112, 56, 28, 14, 7 steps at 17, 11, 7.1, 4.1,
2.6, and with half of it at 5.8, 3.4, 2.3, 1.4, 0.69; SGD's at 5.9. At 7 steps and a
quarter an epoch takes 6 passes.

Hours: 0.01 on two cores. Command::

  python -m experiments variance_reduction
"""

import dataclasses
from pathlib import Path

from experiments.configs.settings import check_rates, check_seeds
from experiments.errors import ExperimentError

RECORD = Path(__file__).parents[2] / "results" / "p2" / "variance_reduction.csv"


@dataclasses.dataclass(frozen=True)
class VarianceReductionConfig:
    """What the gaps depend on."""

    l2: float = 0.03
    """Lambda of the penalty, lambda / 2 times the squared norm of all weights."""
    learning_rate: float = 0.06
    """Of every method; the decaying one begins with it."""
    batch_size: int = 8
    """Examples per step."""
    passes: float = 240.0
    """What each run may cost, in gradients of single examples per training example."""
    large_batch: float = 0.25
    """Share of the data that a snapshot's gradient is taken over, where not all."""
    often: int = 16
    """Snapshots per epoch of the method that takes more than one."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of the order of the data and of the large batches; a run of each method."""


def check(config: VarianceReductionConfig, examples: int) -> None:
    """Checks what the command line gave.

    Args:
      config: the comparison.
      examples: in the training data.

    Raises:
      ExperimentError: naming the argument, its bound and the value received.
    """
    check_seeds(config.seeds)
    check_rates("", config.learning_rate, None)
    steps = examples // max(config.batch_size, 1)
    for name, holds, bound in (
        ("l2", 0 < config.l2 < float("inf"), "above 0 and finite"),
        ("passes", 0 < config.passes < float("inf"), "above 0 and finite"),
        ("batch_size", 1 <= config.batch_size <= examples, f"1 to {examples}"),
        ("large_batch", 0 < config.large_batch <= 1, "above 0 and at most 1"),
        ("often", 1 <= config.often <= steps, f"1 to {steps}, the steps of an epoch"),
    ):
        if not holds:
            option = name.replace("_", "-")
            raise ExperimentError(
                f"--{option} must be {bound}, got {getattr(config, name)}"
            )
