"""What a loop's own file supplies: a task, and all that changes while it trains."""

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import flax.struct
import jax

from experiments.loops._rows import Row


class Training(flax.struct.PyTreeNode):
    """All that changes while training; donated to each step, saved whole.

    Attributes:
      state: parameters, batch statistics, optimiser: an ``optax_ia.flax.TrainState``,
        or a structure of several.
      carry: what is handed from batch to batch, such as the hidden state of a recurrent
        network; ``{}`` if nothing is.
      totals: float32 sums over the epoch so far, ``"loss"`` among them; zeroed at its
        end. With ``"skipped"`` among them, which counts updates left out
        (``add_metrics``), means are over the others.
    """

    state: Any
    carry: Any
    totals: dict[str, jax.Array]


class Task(Protocol):
    """One run, completely: ``fit`` asks it for everything.

    Subclass it: what a task leaves out of ``begin_epoch``, ``wants_stop`` and the score
    is as here.

    Attributes:
      label: the run's name where progress is shown, such as ``"gadam, seed 0"``.
      epochs: how many.
      score_name: the entry of an epoch's row that decides which checkpoint is best.
      score_mode: whether the largest or the smallest is.
    """

    label: str
    epochs: int
    score_name: str
    score_mode: Literal["min", "max"] = "max"

    def epoch_steps(self, epoch: int) -> int:
        """Number of steps of an epoch, counted from 0; a pure function of it."""
        ...

    def init(self) -> Training:
        """The start, with totals of zero."""
        ...

    def batches(self) -> Iterator[Any]:
        """The batches of all epochs in order, one a step: a ``grain.DatasetIterator``.

        It has ``get_state`` and ``set_state``, which checkpoints save and restore.
        """
        ...

    def step(self, training: Training, batch: Any, step: int) -> Training:
        """One update, which adds its metrics to the totals.

        Args:
          training: donated: not to be used afterwards.
          batch: from :meth:`batches`.
          step: updates made before this one.

        Returns:
          What follows from it.
        """
        ...

    def begin_epoch(self, training: Training, epoch: int) -> Training:
        """Changes what an epoch starts with, such as a carried state; here nothing.

        Args:
          training: as the epoch before left it.
          epoch: counted from 0.

        Returns:
          It, changed.
        """
        del epoch
        return training

    def end_epoch(
        self, training: Training, means: dict[str, float], epoch: int, step: int
    ) -> tuple[Training, Row]:
        """Evaluates, tells the optimiser if it listens, makes the epoch's row.

        Args:
          training: at the end of the epoch.
          means: the totals over the number of steps.
          epoch: epochs done, this one included: counted from 1.
          step: updates made.

        Returns:
          The training, which may have heard of the score, and the row of
          ``metrics.jsonl``. What is not finite in it becomes None.
        """
        ...

    def wants_stop(self, training: Training) -> bool:
        """Whether the run ends before its last epoch; asked between epochs."""
        del training
        return False
