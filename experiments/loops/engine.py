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
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp

import optax_ia
from experiments.checkpoints import Checkpoints
from experiments.loops._finite import NotFiniteError as NotFiniteError
from experiments.loops._finite import OnNan as OnNan
from experiments.loops._finite import Watch
from experiments.loops._rows import Row as Row
from experiments.loops._rows import norms_and_diagnostics as norms_and_diagnostics
from experiments.loops._rows import without_nan as without_nan
from experiments.loops._skip import add_metrics as add_metrics
from experiments.loops._skip import skipping as skipping
from experiments.loops._task import Task as Task
from experiments.loops._task import Training as Training


@dataclasses.dataclass(frozen=True)
class Fit:
    """What :func:`fit` tells beside the training itself.

    Attributes:
      step: updates made, those before a resumption included.
      epoch: epochs done.
      first_step: updates that the checkpoint had, from which the run went on.
      compile_seconds: the first step, which compiles.
      steps_per_second: of the others, without evaluation; None if there were none.
      began: when, as ``time.perf_counter`` has it.
      stopped: by what: the end of the last epoch, or the task.
    """

    step: int
    epoch: int
    first_step: int
    compile_seconds: float
    steps_per_second: float | None
    began: float
    stopped: Literal["end", "trigger"]


def result_row(config: Any, fitted: Fit, opt_state: Any, **own: Any) -> Row:
    """The row of a finished run for ``results.csv``, without commit and versions.

    Args:
      config: the run, with optimizer, seed, dataset, learning rate and ``to_json``.
      fitted: what :func:`fit` told.
      opt_state: at the end, of the optimiser whose average counts.
      **own: what the task adds, its scores among it.

    Returns:
      The row; what is not finite in it is None. Its seconds end now.
    """
    rate = fitted.steps_per_second
    averaged = optax_ia.diagnostics(opt_state).get("num_averaged", 0)
    return without_nan(
        {
            "optimizer": config.optimizer,
            "seed": config.seed,
            "dataset": config.dataset,
            "epochs": fitted.epoch,
            "steps": fitted.step,
            "learning_rate": config.learning_rate,
            "num_averaged": int(averaged),
            **own,
            "seconds": round(time.perf_counter() - fitted.began, 3),
            "compile_seconds": round(fitted.compile_seconds, 3),
            "steps_per_second": None if rate is None else round(rate, 2),
            "resumed_from_step": fitted.first_step,
            "config": config.to_json(),
        }
    )


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
    preempted: Callable[[int], bool] | None = None,
) -> tuple[Training, Fit]:
    """Trains a task to its end.

    Args:
      task: what to train.
      on_epoch: given the row of each epoch, as it ends.
      checkpoints: where to save, and to go on from if something was saved there.
      on_nan: what a loss that is not finite does: "stop" raises; "record" goes on,
        where divergence is a result like others; "skip" is for a task that leaves such
        updates out (:func:`skipping`), and raises once they are all that is left.
      on_start: called once with the step and the number of whole epochs from which the
        run goes on, before anything is computed.
      preempted: asked after every step, with the number of updates made; once it is
        true, everything is saved.

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
    saver = _Saver(checkpoints, batches, watch, preempted)
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
            if done < steps:
                saver.after_step(training, step, epoch + 1, done)
        jax.block_until_ready(training.totals)
        training_seconds += time.perf_counter() - epoch_began
        epoch, done = epoch + 1, 0
        watch.check(training, step, epoch=epoch, done=steps, checkpoints=checkpoints)
        training, row = _end_epoch(task, training, steps, epoch, step)
        watch.end_epoch(row)
        # The row first: a checkpoint at this step promises that it was written.
        on_epoch(row)
        saver.after_epoch(training, step, row.get(task.score_name), task.score_mode)
    saver.at_end(training, step)
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
        began=began,
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


@dataclasses.dataclass
class _Saver:
    """When to save, and when to leave."""

    checkpoints: Checkpoints | None
    batches: Iterator[Any]
    watch: Watch
    preempted: Callable[[int], bool] | None

    def after_step(self, training: Training, step: int, epoch: int, done: int) -> None:
        if self.checkpoints is None:
            return
        leaving = self.preempted is not None and self.preempted(step)
        if leaving or self.checkpoints.due(step):
            self.watch.check(
                training, step, epoch=epoch, done=done, checkpoints=self.checkpoints
            )
            if leaving:
                self._leave(training, step)
            self.checkpoints.save(step, training, self.batches)

    def after_epoch(
        self, training: Training, step: int, score: float | None, mode: str
    ) -> None:
        if self.checkpoints is None:
            return
        self.checkpoints.end_epoch(step, training, self.batches, score, mode)
        if self.preempted is not None and self.preempted(step):
            self._leave(training, step)

    def at_end(self, training: Training, step: int) -> None:
        if self.checkpoints is not None:
            self.checkpoints.save_last(step, training, self.batches)

    def _leave(self, training: Training, step: int) -> None:
        self.at_end(training, step)
        raise Preempted(step)


def _end_epoch(
    task: Task, training: Training, steps: int, epoch: int, step: int
) -> tuple[Training, Row]:
    totals = jax.device_get(training.totals)
    skipped = {name: int(totals[name]) for name in totals if name == "skipped"}
    taken = steps - skipped.get("skipped", 0)
    means = {
        name: float(total) / taken if taken else math.nan
        for name, total in totals.items()
        if name not in skipped
    }
    training, row = task.end_epoch(training, means, epoch, step)
    zeros = jax.tree.map(jnp.zeros_like, training.totals)
    return training.replace(totals=zeros), without_nan(row) | skipped
