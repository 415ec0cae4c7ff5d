"""K-FAC and Shampoo beside SGD, Adam and Ranger on digits: P2, figure 19.

Paper: Syrek, The Optimisation of Gradient Descent, sections 4.5 and 6.1.1, figures 17
to 19: test accuracy on CIFAR-100 after 40 epochs, and how long a run takes.

Data and network are those of P0's comparison (``configs/p0/digits``): scikit-learn's
digits, ``vgg_small`` with batch normalisation, 40 epochs of 14 steps of 64 images, the
rate falling by P0 eq. 12. The paper has ResNet-18, EfficientNet-B0, Inception-V3 and
VGG-11; it names neither schedule nor decay. K-FAC's batch normalisation gets the
gradient over the damping, everything else Kronecker factors, taken in at every step and
decomposed every 10. Shampoo is the one for use, with RMSprop's step size, blocks of 128
and roots every 10 steps, not the paper's equation 36.

What the paper reports (``REPORTED`` below): Ranger and K-FAC ahead of Adam by 4 points
and of SGD by 14, Shampoo behind SGD and more than twice as slow as all others, because
of its singular value decompositions.

What came out (``experiments/results/p2/second_order.csv``), mean and deviation of five
seeds in percent; epochs, and seconds of training, to 5 and 2 % mean validation error:

=======  ==============  ==========  ============  =============  ==============
method   test accuracy   validation  steps/second  to 5 %         to 2 %
=======  ==============  ==========  ============  =============  ==============
SGD      98.27 +- 0.40   97.64       277           13: 0.66 s     never
Adam     98.67 +- 0.16   97.51       273           7: 0.36 s      never
Ranger   99.16 +- 0.24   98.18       256           6: 0.33 s      24: 1.31 s
K-FAC    98.58 +- 0.34   98.36       98            5: 0.71 s      29: 4.1 s
Shampoo  98.89 +- 0.22   98.31       203           5: 0.34 s      30: 2.1 s
=======  ==============  ==========  ============  =============  ==============

- By epochs K-FAC is ahead at the start: after one epoch errors of 14 %, where Shampoo
  and Adam have 25, Ranger 46, SGD 50. At epoch 10 Ranger is ahead.
- By seconds K-FAC is not: a step takes 2.8 times SGD's, and at 10, 5, 3 and 2 % another
  is there before it. The network is small, the factors (up to 288 wide) are not.
- Not as in the paper, Shampoo is no worse than the others, and a run takes 1.4 times
  SGD's time, for its roots come from eigendecompositions every tenth step.
- The final accuracies do not rank them: one test digit is 0.22 points, the deviations
  are 0.2 to 0.4. Ranger's lead over SGD, 0.9 points, is the only one of the ten
  differences above 0.7; on validation K-FAC is first. The paper's 14 points between
  SGD and the rest are not seen on digits.

Rates: the best by three seeds on validation, without decay
(``experiments/results/p2/second_order_tuning.csv``); SGD's rate and decay are P0's, the
best of twelve points. Accuracy in percent:

=======  =====  =====  =====  =====  =====
rate     0.001  0.003  0.01   0.03   0.1
=======  =====  =====  =====  =====  =====
Adam     97.48  97.26  98.22  97.85
Shampoo  97.33  97.63  98.00  97.85
Ranger          96.00  97.04  97.93  97.78
=======  =====  =====  =====  =====  =====

K-FAC, by damping:

=====  =====  =====  =====  =====
rate   0.003  0.01   0.03   0.1
=====  =====  =====  =====  =====
0.03   97.63  97.56  87.26  10.07
0.1    97.48  98.22  98.00  63.41
0.3    97.26  97.78  98.22  96.59
1      96.52  97.48  97.11  98.15
=====  =====  =====  =====  =====

K-FAC's best points lie where the damping is ten times the rate, over a factor of thirty
in rates; sixteen points are four times those of the others. Neighbours are within the
noise of three seeds.

Hours: 0.04 on two cores, the grid 0.2. The times above are of LAPACK with one thread:
with two, on cores that others use as well, its threads wait for one another, and K-FAC
made 10 steps per second. Commands::

  OPENBLAS_NUM_THREADS=1 python -m experiments compare --preset second_order
  OPENBLAS_NUM_THREADS=1 python -m experiments tune --preset second_order --out FILE
"""

from pathlib import Path
from typing import Any

from experiments.configs.settings import DampedRates, Rates

OPTIMIZERS = ("sgd", "adam", "ranger", "kfac", "shampoo")

# Section 6.1.1 and figure 19, ResNet-18: test accuracy on CIFAR-100 in percent.
REPORTED = {
    "sgd": "59.20",
    "adam": "69.12",
    "ranger": "73.02",
    "kfac": "72.96",
    "shampoo": "57.03",
}

RECORD = Path(__file__).parents[2] / "results" / "p2" / "second_order.csv"
TUNING_RECORD = RECORD.with_name("second_order_tuning.csv")

GRID: dict[str, Any] = {
    "adam_rates": (1e-3, 3e-3, 1e-2, 3e-2),
    "ranger_rates": (3e-3, 1e-2, 3e-2, 1e-1),
    "kfac_rates": (3e-3, 1e-2, 3e-2, 1e-1),
    "kfac_dampings": (3e-2, 1e-1, 3e-1, 1.0),
    "shampoo_rates": (1e-3, 3e-3, 1e-2, 3e-2),
}
"""What ``tune --preset second_order`` tries, on validation."""

# The best of them.
ADAM = Rates(learning_rate=1e-2, weight_decay=0.0)
RANGER = Rates(learning_rate=3e-2, weight_decay=0.0)
KFAC = DampedRates(learning_rate=1e-2, weight_decay=0.0, damping=0.1)
SHAMPOO = Rates(learning_rate=1e-2, weight_decay=0.0)
