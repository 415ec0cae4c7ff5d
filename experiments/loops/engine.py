"""What all training loops share: one loop over steps, epochs and checkpoints.

A loop's own file supplies a :class:`Task`: how a run starts, what a batch is, one
update, and what is measured after an epoch. :func:`fit` does the rest: it goes on from
the newest checkpoint, hands every batch to the step, takes means over epochs, notices a
loss that is not finite, saves, and stops when it is told to.

Nothing here draws random numbers. A task's batches and keys are functions of seed and
step, and all that changes is one tree, which is saved whole: so a run that goes on from
a checkpoint ends in the same bits as one that never stopped.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import flax.struct
import jax
import jax.numpy as jnp

from experiments.checkpoints import Checkpoints
from experiments.loops._finite import OnNan as OnNan
from experiments.loops._finite import Watch
from experiments.loops._rows import Row as Row
from experiments.loops._rows import norms_and_diagnostics as norms_and_diagnostics
from experiments.loops._rows import without_nan as without_nan


class Training(flax.struct.PyTreeNode):
    """All that changes while training; donated to each step, saved whole.

    Attributes:
      state: parameters, batch statistics, optimiser: an ``optax_ia.flax.TrainState``,
        or a structure of several.
      carry: what is handed from batch to batch, such as the hidden state of a recurrent
        network; ``{}`` if nothing is.
      totals: float32 sums over the epoch so far, ``"loss"`` among them; zeroed at its
        end.
    """

    state: Any
    carry: Any
    totals: dict[str, jax.Array]


class Task(Protocol):
    """One run, completely: :func:`fit` asks it for everything.

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


@dataclasses.dataclass(frozen=True)
class Fit:
    """What :func:`fit` tells beside the training itself.

    Attributes:
      step: updates made, those before a resumption included.
      epoch: epochs done.
      first_step: updates that the checkpoint had, from which the run went on.
      compile_seconds: the first step, which compiles.
      steps_per_second: of the others, without evaluation; None if there were none.
      seconds: all of it, evaluation and restoring included.
      stopped: by what: the end of the last epoch, or the task.
    """

    step: int
    epoch: int
    first_step: int
    compile_seconds: float
    steps_per_second: float | None
    seconds: float
    stopped: Literal["end", "trigger"]


class Preempted(Exception):
    """The run was told to stop, and everything up to ``step`` is saved."""

    def __init__(self, step: int):
        super().__init__(f"stopped after step {step}")
        self.step = step


def fit(
    task: Task,
    *,
    on_epoch: Callable[[Row], None],
    checkpoints: Checkpoints | None = None,
    on_nan: OnNan = "stop",
    on_start: Callable[[int, int], None] | None = None,
    preempted: Callable[[], bool] | None = None,
) -> tuple[Training, Fit]:
    """Trains a task to its end.

    Args:
      task: what to train.
      on_epoch: given the row of each epoch, as it ends.
      checkpoints: where to save, and to go on from if something was saved there.
      on_nan: what a loss that is not finite does: "stop" raises; "record" goes on,
        where divergence is a result like others.
      on_start: called once with the step and the number of whole epochs from which the
        run goes on, before anything is computed.
      preempted: asked after every step; once it is true, everything is saved.

    Returns:
      The training at its end, and what is known about the run.

    Raises:
      ExperimentError: if the loss is not finite, or a checkpoint can neither be read
        nor written.
      Preempted: if ``preempted`` was true and there are checkpoints, which hold all.
    """
    began = time.perf_counter()
    training, batches = task.init(), task.batches()
    step = 0
    if checkpoints is not None:
        training, step = checkpoints.restore(training, batches)
    first = step
    epoch, done = locate(task, step)
    if on_start is not None:
        on_start(step, epoch)
    watch = Watch(on_nan, training.totals)
    compile_seconds = training_seconds = 0.0
    stopped: Literal["end", "trigger"] = "end"
    while epoch < task.epochs:
        if task.wants_stop(training):
            stopped = "trigger"
            break
        if not done:
            training = task.begin_epoch(training, epoch)
        steps = task.epoch_steps(epoch)
        epoch_began = time.perf_counter()
        while done < steps:
            step_began = time.perf_counter()
            training = task.step(training, next(batches), step)
            watch.see(training.totals, step + 1)
            if step == first:
                jax.block_until_ready(training.totals)
                compile_seconds = time.perf_counter() - step_began
            step, done = step + 1, done + 1
            if checkpoints is not None and done < steps:
                if preempted is not None and preempted():
                    watch.check(epoch + 1, step - done, checkpoints)
                    checkpoints.save_last(step, training, batches)
                    raise Preempted(step)
                if checkpoints.due(step):
                    watch.check(epoch + 1, step - done, checkpoints)
                    checkpoints.save(step, training, batches)
        jax.block_until_ready(training.totals)
        training_seconds += time.perf_counter() - epoch_began
        watch.check(epoch + 1, step - done, checkpoints)
        epoch, done = epoch + 1, 0
        training, row = _end_epoch(task, training, steps, epoch, step)
        watch.end_epoch(row)
        # The row first: a checkpoint at this step promises that it was written.
        on_epoch(row)
        if checkpoints is not None:
            score = row.get(task.score_name)
            checkpoints.end_epoch(step, training, batches, score, task.score_mode)
            if preempted is not None and preempted():
                checkpoints.save_last(step, training, batches)
                raise Preempted(step)
    if checkpoints is not None:
        checkpoints.save_last(step, training, batches)
    if hasattr(batches, "close"):
        batches.close()  # pyright: ignore[reportAttributeAccessIssue]
    timed = step - first - 1
    return training, Fit(
        step=step,
        epoch=epoch,
        first_step=first,
        compile_seconds=compile_seconds,
        steps_per_second=(
            timed / (training_seconds - compile_seconds) if timed > 0 else None
        ),
        seconds=time.perf_counter() - began,
        stopped=stopped,
    )


def locate(task: Task, step: int) -> tuple[int, int]:
    """Where in a run a step is.

    Args:
      task: the run.
      step: updates made.

    Returns:
      The number of whole epochs before it, and that of the steps after them.
    """
    for epoch in range(task.epochs):
        steps = task.epoch_steps(epoch)
        if step < steps:
            return epoch, step
        step -= steps
    return task.epochs, step


def _end_epoch(
    task: Task, training: Training, steps: int, epoch: int, step: int
) -> tuple[Training, Row]:
    totals = jax.device_get(training.totals)
    means = {name: float(total) / steps for name, total in totals.items()}
    training, row = task.end_epoch(training, means, epoch, step)
    zeros = jax.tree.map(jnp.zeros_like, training.totals)
    return training.replace(totals=zeros), without_nan(row)
