"""Paths of every method on two functions of the plane, as P2's figures 5 and 7.

Paper: Syrek, The Optimisation of Gradient Descent; section 4, equations 20 and 21,
figures 5 and 7: descent paths of eight methods on the Beale and the Schubert function,
100 iterations, four learning rates each. Here: every method of the registry.

P2 prints neither its start points nor its rates. Both are chosen here. The starts are
those of a coarse grid from which most of what its text says of SGD and Adam holds. The
rates of a family run from slow to the edge of divergence, and methods of one family
share them, so that their pictures can be compared. P2's "local minimum" of the Beale
function is no minimum: the function has one, and a second valley that falls for ever to
the upper left (see ``optax_ia.landscape.beale``); "the second valley" below.

No decay, float64, no noise: the gradient is exact. SVRG is then gradient descent, and a
tail average has nothing to average away. ``sgd`` runs without momentum, as P2 writes
it; ``swa`` shows momentum 0.9. Averages collect every iterate of the second half;
``adamw_ema`` every one, with decay 0.9. Parameters are one vector, so what acts on
matrices does nothing: AdamP and SGDP do not project, Ranger does not centralise.

What P2 says and what is seen here, for its methods, is in ``PAPER``, and stands beside
the pictures. In short: SGD and Adam do as P2 says; AMSGrad does if the maximum is taken
over the raw second moment; RAdam, Yogi and SVRG do in part; Ranger reaches no global
minimum.

SWATS (P3): at its printed tolerance, 1e-9, none of the eight runs switches, nor does
any in 2000 steps. At 1e-3 (``swats_tol_1e-3``) five of eight do: on Beale after steps 2
and 38 at rates 0.03 and 0.3, on Schubert after step 2 at rates 0.01, 0.03 and 0.1. A
switch after two steps takes the rate of two steps: at rates 0.01 and 0.03 it leads away
from the global minimum that Adam finds, at 0.1 it leads to it.

Expected: the outcomes in ``experiments/results/p2/trajectories.csv``.
Hours: 0.01 on two cores. Command::

  python -m experiments trajectories
"""

import inspect
from pathlib import Path
from typing import Any, NamedTuple

from experiments.errors import unknown
from optax_ia import registry

STEPS = 100

RECORD = Path(__file__).parents[2] / "results" / "p2" / "trajectories.csv"

STARTS = {"beale": (0.3, 1.4), "schubert": (-0.15, -1.69)}

NEAR = 0.3
"""Distance from a global minimum within which a run has found it."""


class Rates(NamedTuple):
    """Four learning rates for each function."""

    beale: tuple[float, ...]
    schubert: tuple[float, ...]


DESCENT = Rates((5e-4, 3e-3, 0.025, 0.035), (1e-3, 3e-3, 0.01, 0.03))
MOMENTUM = Rates((3e-4, 1e-3, 3e-3, 0.01), (3e-4, 1e-3, 3e-3, 0.01))
SHARPNESS = Rates((3e-4, 1e-3, 3e-3, 7e-3), (3e-4, 1e-3, 3e-3, 0.01))
ADAPTIVE = Rates((0.03, 0.1, 0.3, 1.0), (0.01, 0.03, 0.1, 0.3))
PARTIAL = Rates((3e-3, 0.01, 0.03, 0.1), (3e-3, 0.01, 0.03, 0.1))
RECTIFIED = Rates((3e-3, 0.01, 0.02, 0.04), (3e-3, 0.01, 0.02, 0.03))
ROOT_MEAN_SQUARE = Rates((0.01, 0.03, 0.1, 0.3), (3e-3, 0.01, 0.03, 0.1))
ACCUMULATED = Rates((0.1, 0.3, 1.0, 3.0), (0.03, 0.1, 0.3, 1.0))
SEARCH = Rates((0.01, 0.1, 1.0, 10.0), (0.01, 0.1, 1.0, 10.0))

RATES = {
    "sgd": DESCENT,
    "svrg_sgd": DESCENT,
    "asgd": DESCENT,
    "nt_asgd": DESCENT,
    "swa": MOMENTUM,
    "sgdp": MOMENTUM,
    "sam_sgd": SHARPNESS,
    "padam": PARTIAL,
    "padamw": PARTIAL,
    "gadamx": PARTIAL,
    "radam": RECTIFIED,
    "ranger": RECTIFIED,
    "rmsprop": ROOT_MEAN_SQUARE,
    "adagrad": ACCUMULATED,
    "sls": SEARCH,
    "adam": ADAPTIVE,
    "adamw": ADAPTIVE,
    "yogi": ADAPTIVE,
}
"""By name; a method that is not here takes its base's, else its family's."""

SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.0},
    "adamw_ema": {"decay": 0.9},
}
"""Arguments other than the registry's, by name."""

VARIANTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "swats_tol_1e-3": ("swats", {"tol": 1e-3}, "SWATS with a tolerance of 1e-3."),
    "amsgrad_raw": (
        "padam",
        {"partial": 0.5, "correction": "sqrt"},
        "AMSGrad with its maximum over the raw second moment.",
    ),
}
"""Methods with other arguments, shown too: registry name, arguments, one line."""

VARIANT_RATES = {"amsgrad_raw": ADAPTIVE}

NOT_APPLICABLE: dict[str, str] = {}
"""Methods that cannot run on two parameters without data, with the reason.

What needs an extra argument that a function cannot give, or raises on a vector of two,
is found out and listed without being named here.
"""

PAPER: dict[str, tuple[str, str]] = {
    "sgd": (
        "On Beale, large rates reach the optimum and small ones stall; on Schubert "
        "every rate ends in a local minimum beside the start.",
        "The same: on Beale the two larger rates reach the minimum, 0.003 ends in the "
        "second valley and 0.0005 is slow; on Schubert all four end in one local "
        "minimum.",
    ),
    "adam": (
        "On Beale all but the largest rates favour the local minimum, and the largest "
        "rebound from it to the global one; on Schubert small rates find the global "
        "minimum and larger ones are trapped.",
        "The same: on Beale only 1.0 finds the minimum, the others the second valley; "
        "on Schubert 0.01 and 0.03 find it, 0.1 and 0.3 end in local minima.",
    ),
    "amsgrad": (
        "Appears identical to Adam.",
        "Not the same: Optax takes the maximum over the bias-corrected second moment, "
        "which keeps the large first one, so the steps are shorter. With the maximum "
        "over the raw one (amsgrad_raw) the paths are Adam's to within 0.02.",
    ),
    "radam": (
        "Smooth paths; on Beale all towards the nearest, local, minimum; on Schubert "
        "all to the global one.",
        "In part: on Beale all four go slowly towards the second valley; on Schubert "
        "none finds the global minimum, three go to the nearest local one and 0.03 to "
        "the next. The first five steps are not adapted, so the rates must be small "
        "where the function is steep.",
    ),
    "yogi": (
        "On Beale it zigzags to the global minimum; on Schubert all but the smallest "
        "rates end in a local one.",
        "In part: paths almost those of Adam, without the zigzag. On Beale only the "
        "largest rate finds the minimum; on Schubert the two smaller ones do.",
    ),
    "svrg_sgd": (
        "Needs very small rates; on Beale all of them reach the global minimum; on "
        "Schubert it falls into steep valleys.",
        "Not to be seen: without noise it is gradient descent, and does at each rate "
        "what sgd does. On Schubert that is the local minimum, as P2 says.",
    ),
    "lookahead_adamw": (
        "Straighter and shorter paths than Adam's.",
        "The same for the slow weights: from one synchronisation to the next their "
        "path is shorter than Adam's at all eight rates. Drawn are the fast weights, "
        "whose path with its steps back is longer than Adam's at seven of them.",
    ),
    "ranger": (
        "Robust: on Beale all rates reach the global minimum, on Schubert the "
        "nearest, a local one; needs lower rates than Lookahead.",
        "In part: the rates are lower and on Schubert all four go to one local "
        "minimum; on Beale none reaches the minimum in 100 steps. A vector is not "
        "centralised.",
    ),
}
"""Of P2's methods: what the paper says, and what the default run shows."""


def method_names() -> list[str]:
    """Every registry entry, and the variants.

    Returns:
      Names, the registry's first.
    """
    return [*registry.list_optimizers(), *VARIANTS]


def summary_of(method: str) -> str:
    """One line on a method.

    Args:
      method: one of :func:`method_names`.

    Returns:
      The registry's line, or the variant's.
    """
    if method in VARIANTS:
        return VARIANTS[method][2]
    return registry.get_record(method).summary


def rates_of(method: str, function: str) -> tuple[float, ...]:
    """The learning rates of a method.

    Args:
      method: one of :func:`method_names`.
      function: ``beale`` or ``schubert``.

    Returns:
      Four of them; for a method that nobody has chosen rates for its base's or, by the
      size of its default rate, those of momentum or of Adam.

    Raises:
      ExperimentError: if there is no such function.
    """
    if function not in STARTS:
        raise unknown("function", function, STARTS)
    if method in VARIANT_RATES:
        return getattr(VARIANT_RATES[method], function)
    name = VARIANTS[method][0] if method in VARIANTS else method
    record = registry.get_record(name)
    for known in (name, record.base):
        if known in RATES:
            return getattr(RATES[known], function)
    parameters = inspect.signature(record.factory).parameters
    default = record.defaults.get("learning_rate", parameters["learning_rate"].default)
    steep = isinstance(default, int | float) and default > 0.02
    return getattr(MOMENTUM if steep else ADAPTIVE, function)
