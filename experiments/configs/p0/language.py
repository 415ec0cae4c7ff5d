"""A word-level AWD-LSTM with the optimisers of P0, tables 6 and 12, in minutes.

Paper: Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
Methods, 2021; section 5.4, tables 6, 12 and 13, appendix B.3. Network and training:
Merity, Keskar, Socher, Regularizing and Optimizing LSTM Language Models, 2017, and the
code that came with it. P3, section 4, trains the same networks on Penn Treebank and
WikiText-2, with 300 epochs and rates of its own.

Data: ``pydocs``, the interpreter's own documentation, 81,000 training tokens of 1,080
words (the paper: Penn Treebank, 930,000 of 10,000). Network: 2 layers, 64 and 32
features, 73,000 parameters (the paper: 3 layers, 24 million). 10 epochs of 120 windows
of 35 (the paper: 200 epochs of 663 of 70).

What is the paper's: the optimisers; L2 decay of 1.2e-6 for all, added to the clipped
gradient, since decoupled decay did not help (B.3); gradients clipped to 0.25; windows
whose lengths vary, with the rate in proportion; AR 2 and TAR 1; constant rates but for
Padam, which is divided by 10 after half and three quarters of the run; p = 0.2 for
Padam and GadamX; averaged optimisers at their base's rate. What is not: averaging
begins after 0.8 of the run instead of half of it. After ten epochs the iterates still
improve, and an average from the sixth on lies above the last iterate (Gadam on
validation, seed 100: 19.83 from 0.5 on, 19.03 from 0.7, 18.76 from 0.8; the last
iterate 18.84).

What the paper reports, perplexity on Penn Treebank, mean and deviation:

=========  ================  ================
Optimiser  validation        test
=========  ================  ================
ASGD       64.88 +- 0.07     61.98 +- 0.19
NT-ASGD    66.01             64.73
Adam       65.96 +- 0.08     63.16 +- 0.24
Padam      65.69 +- 0.07     62.15 +- 0.12
Gadam      61.35 +- 0.05     58.77 +- 0.08
GadamX     63.49 +- 0.19     60.45 +- 0.04
=========  ================  ================

Found here with two seeds, Python 3.11.7 (``experiments/results/p0/language.csv``), test
perplexity of the last iterate and of the average: SGD 29.1; ASGD 29.1, 28.2; Adam 26.7;
Padam 30.9; Gadam 26.7, 26.3; GadamX 28.4, 27.4. Every average is better than its
iterate, and Gadam's is the best, as in the paper. But the runs are short, none has
converged, and with other budgets the order may be another: padam is last because its
rate falls so soon.

Rates: the best of 14 points by one seed on validation
(``experiments/results/p0/language_tuning.csv``); none lies at the end of its range.

Hours: 0.04 on two cores for ``small``; ``paper`` needs a GPU and the files of Penn
Treebank. Commands::

  python -m experiments compare --task language
  python -m experiments compare --task language --preset paper --data-dir DIR
  python -m experiments train --task language --optimizer nt_asgd
  python -m experiments.tasks.language_tuning    # what chose the rates
"""

import dataclasses
from pathlib import Path
from typing import Any

from experiments.configs.language import LanguageTask
from experiments.configs.settings import Rates

OPTIMIZERS = ("sgd", "asgd", "adam", "padam", "gadam", "gadamx")

# Tables 12 and 13: (validation, test) perplexity on Penn Treebank after 200 epochs.
REPORTED = {
    "asgd": ("64.88 ± 0.07", "61.98 ± 0.19"),
    "nt_asgd": ("66.01", "64.73"),
    "adam": ("65.96 ± 0.08", "63.16 ± 0.24"),
    "padam": ("65.69 ± 0.07", "62.15 ± 0.12"),
    "gadam": ("61.35 ± 0.05", "58.77 ± 0.08"),
    "gadamx": ("63.49 ± 0.19", "60.45 ± 0.04"),
}

RECORD = Path(__file__).parents[2] / "results" / "p0" / "language.csv"
TUNING_RECORD = RECORD.with_name("language_tuning.csv")

DECAY = 1.2e-6
"""L2, as AWD-LSTM's code and P0 B.3 have it."""

SMALL: dict[str, Any] = {
    "model": "awd_lstm_2",
    "embedding_size": 32,
    "hidden_size": 64,
    "embedding_dropout": 0.0,
    "input_dropout": 0.1,
    "hidden_dropout": 0.1,
    "output_dropout": 0.1,
    "weight_dropout": 0.1,
    "epochs": 10,
    "average_from": 0.8,
    "batch_size": 20,
    "bptt": 35,
    "bptt_deviation": 3.0,
    "nonmonotone": 2,
    "patience": 3,
}
"""Network, dropout and length for minutes on two cores."""

PAPER: dict[str, Any] = {
    "dataset": "ptb",
    "model": "awd_lstm_3",
    "epochs": 200,
    "batch_size": 20,
    "bptt": 70,
    "average_every": 100,
}
"""P0's: Merity's three layers with their own dropouts."""


@dataclasses.dataclass(frozen=True)
class LanguageCompare(LanguageTask):
    """Several optimisers, several seeds, one table."""

    optimizers: tuple[str, ...] = OPTIMIZERS
    """Registry names, or `all` but those with Hessian products."""
    seeds: tuple[int, ...] = (0, 1)
    """One run per optimiser and seed."""
    sgd: Rates = Rates(learning_rate=20.0, weight_decay=DECAY)
    """For sgd, asgd, nt_asgd and swa; chosen by the search below."""
    adam: Rates = Rates(learning_rate=0.01, weight_decay=DECAY)
    """For adam and the gadam family; chosen by the search."""
    padam: Rates = Rates(learning_rate=2.0, weight_decay=DECAY)
    """For padam and gadamx; chosen by the search."""
    others: dict[str, Rates] = dataclasses.field(default_factory=dict)
    """For any other; without, the registry's rate."""

    def rates(self) -> dict[str, Rates]:
        """The tuned rates by name."""
        family = {
            "sgd": ("sgd", "asgd", "nt_asgd", "swa", "sam_sgd"),
            "adam": ("adam", "gadam", "gadam_auto", "gadam_lookahead", "swats"),
            "padam": ("padam", "gadamx"),
        }
        return {
            name: getattr(self, base)
            for base, names in family.items()
            for name in names
        } | self.others


@dataclasses.dataclass(frozen=True)
class LanguageTuning(LanguageTask):
    """The grid: every rate of the base optimisers."""

    seeds: tuple[int, ...] = (100,)
    """Seeds of the grid, none of them a seed of the comparison."""
    sgd_rates: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0)
    """Learning rates of sgd."""
    adam_rates: tuple[float, ...] = (3e-3, 1e-2, 2e-2, 3e-2)
    """Learning rates of adam (P0: 0.0003 to 0.01, for a network 300 times larger)."""
    padam_rates: tuple[float, ...] = (0.1, 0.3, 0.5, 1.0, 2.0, 4.0)
    """Learning rates of padam (P0: 1)."""
    weight_decay: float = DECAY
    """L2."""

    def grid(self) -> list[tuple[str, Rates]]:
        """Every base optimiser with every rate."""
        return [
            (name, Rates(rate, self.weight_decay))
            for name in ("sgd", "adam", "padam")
            for rate in getattr(self, f"{name}_rates")
        ]


SMOKE: dict[str, Any] = SMALL | {
    "embedding_size": 8,
    "hidden_size": 8,
    "epochs": 2,
    "batch_size": 200,
}
"""Seconds: a check that everything works together."""

TABLE_13: dict[str, Any] = PAPER | {"schedule": "step", "nonmonotone": 10}
"""NT-ASGD, and Adam with a schedule."""

_PAPER_RATES: dict[str, Any] = {
    "sgd": Rates(30.0, DECAY),
    "adam": Rates(1e-3, DECAY),
    "padam": Rates(1.0, DECAY),
}

PRESETS = {
    "small": LanguageCompare(**SMALL),
    "paper": LanguageCompare(
        **PAPER, **_PAPER_RATES, optimizers=OPTIMIZERS[1:], seeds=(0, 1, 2)
    ),
    "table_13": LanguageCompare(
        **TABLE_13, **_PAPER_RATES, optimizers=("nt_asgd", "adam"), seeds=(0, 1, 2)
    ),
    "smoke": LanguageCompare(**SMOKE, optimizers=("sgd", "gadam")),
}
