"""The places of the grid: which method, at which rate, with which damping."""

import dataclasses

from experiments.configs.p1.damping import DampingConfig

METHODS = {"adam": "Adam", "adamw": "AdamW", "kfac": "K-FAC", "sgd": "SGD"}

REFERENCE = "sgd"
"""The method without a damping, that the others are held against."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One place of the grid.

    Attributes:
      method: a registry name.
      learning_rate: at the start.
      damping: Adam's ``eps``, K-FAC's ``damping``; None for SGD, which has none.
      weight_decay: decoupled; 0 for all but AdamW.
    """

    method: str
    learning_rate: float
    damping: float | None
    weight_decay: float

    @property
    def label(self) -> str:
        """For the progress display."""
        damping = "" if self.damping is None else f" δ {self.damping:g}"
        return f"{METHODS[self.method]} α {self.learning_rate:g}{damping}"


def methods(config: DampingConfig) -> tuple[str, ...]:
    """The methods whose damping is varied, by registry name.

    Args:
      config: the comparison.

    Returns:
      Their names, without the reference's.
    """
    return ("adam", "adamw") if config.optimizer == "adam" else (config.optimizer,)


def cells(config: DampingConfig) -> list[Cell]:
    """The grid, method by method and rate by rate, and last the reference.

    Args:
      config: the comparison.

    Returns:
      The cells.
    """
    found = [
        Cell(method, rate, damping, config.weight_decay if method == "adamw" else 0.0)
        for method in methods(config)
        for rate in config.learning_rates
        for damping in config.dampings_at(rate)
    ]
    if config.sgd_rate is not None:
        found.append(Cell(REFERENCE, config.sgd_rate, None, 0.0))
    return found
