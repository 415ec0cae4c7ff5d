"""Checkpoints by Orbax: written in the background, whole or absent.

A checkpoint holds all that a run goes on from: the training (model, optimiser with its
averages and triggers, what is carried between batches, the sums of the epoch), the
state of the iterator over batches, and the scores of the epochs so far. The newest ones
are kept, and that of the best epoch.

What can be damaged after it was written is recognised by checksums, and then the
checkpoint before it is taken. What was being written when the process died is left out,
and removed when the folder is opened next.

Nothing in a checkpoint depends on how many processes or devices wrote it, so that other
numbers of them can go on from it.
"""

import gc
import json
import operator
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from experiments._checkpoint_reading import read_checkpoint
from experiments._checksums import checksum_of_json, checksums_in_json
from experiments._quiet_storage import NO_SPACE, QuietStorage, reason_of
from experiments.errors import ExperimentError


class Checkpoints:
    """Saves every so many steps, inside epochs too, and after the best epoch.

    Attributes:
      every: steps between checkpoints.
      scores: the step and the score of each epoch so far.
      best: the step whose score is best, which is always saved; None before the first.
    """

    def __init__(
        self, folder: Path, *, every: int, keep: int = 2, read_only: bool = False
    ):
        """Opens a folder of checkpoints, made if it is missing.

        Args:
          folder: where they are.
          every: steps between checkpoints.
          keep: how many of the newest to keep.
          read_only: to look at them alone.

        Raises:
          ExperimentError: if the folder cannot be used.
        """
        self.every = every
        self.scores: list[tuple[int, float]] = []
        self.best: int | None = None
        self._folder = folder.resolve()
        self._read_only = read_only
        self._quiet = QuietStorage()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(keep), _Best(self)]
            ),
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            # else what waits for a folder that cannot be made waits for minutes
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        )
        try:
            if not read_only:
                self._folder.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self._folder, options=options)
            self._opened = os.stat(self._folder)
        except OSError as error:
            self._quiet.end()
            raise self._failed("opened", error) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        failed = kind is not None
        try:
            self._manager.close()  # waits for what is being written
        except Exception as error:
            failed = True
            if kind is None:  # else what stopped the run is said, not what came of it
                raise self._failed("written", error) from error
        finally:
            self._quiet.end(failed=failed)

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint, None if there is none."""
        return self._manager.latest_step()

    def advice(self) -> str:
        """Which checkpoint to look at, in words."""
        self._wait()
        if self.latest is None:
            return f"there is no checkpoint yet in {self._folder}"
        return f"look at the checkpoint {self._folder / str(self.latest)}"

    def restore(self, training: Any, batches: Iterator[Any] | None) -> tuple[Any, int]:
        """The newest checkpoint that is whole, or what was given if there is none.

        One that cannot be read is left out, which is said on the error stream, and
        removed once an earlier one has been read.

        Args:
          training: a fresh one, which tells structure, shapes, dtypes and shardings.
          batches: the iterator, which goes to where it was; None leaves it out.

        Returns:
          The training, and the number of updates it has behind it.

        Raises:
          ExperimentError: if there are checkpoints and none can be read, or the
            position in the batches is none that can be saved.
        """
        if batches is not None:
            _position(batches)
        steps = sorted(self._manager.all_steps(), reverse=True)
        failed: dict[int, str] = {}
        for step in steps:
            try:
                found = self._read(step, training, batches)
            except Exception as error:  # storage raises what its parts raise
                failed[step] = reason_of(error)
                del error
                gc.collect()  # reads given up, which complain as they go
                continue
            for bad, reason in failed.items():
                print(
                    f"warning: the checkpoint of step {bad} in {self._folder} cannot "
                    f"be read ({reason}); going on from step {step}",
                    file=sys.stderr,
                )
                if not self._read_only:  # its step will be saved again
                    self._delete(bad)
            return found, step
        if failed:
            reasons = "; ".join(f"step {step}: {why}" for step, why in failed.items())
            raise ExperimentError(
                f"none of the checkpoints in {self._folder} can be read ({reasons}); "
                "to start anew, choose another folder with --out"
            )
        return training, 0

    def _read(self, step: int, training: Any, batches: Iterator[Any] | None) -> Any:
        found, record = read_checkpoint(self._folder / str(step), training)
        if batches is not None:
            batches.set_state(  # pyright: ignore[reportAttributeAccessIssue]
                record["position"]
            )
        self.scores = [(at, score) for at, score in record["scores"]]
        self.best = record["best"]
        return found

    def _delete(self, step: int) -> None:
        try:
            self._manager.delete(step)
        except OSError as error:
            raise self._failed("removed", error) from error

    def due(self, step: int) -> bool:
        """Whether ``step`` is one to save at."""
        return step % self.every == 0

    def end_epoch(
        self,
        step: int,
        training: Any,
        batches: Iterator[Any],
        score: float | None,
        mode: str,
    ) -> None:
        """Notes an epoch's score; saves if it is the best, or the step is due.

        Args:
          step: updates made.
          training: after them.
          batches: the iterator over batches.
          score: of the epoch; None if it is not finite.
          mode: "max" or "min": which scores are better.
        """
        better = operator.gt if mode == "max" else operator.lt
        if score is not None:
            if all(better(score, other) for _, other in self.scores):
                self.best = step
            self.scores.append((step, score))
        if self.best == step or self.due(step):
            self.save(step, training, batches)

    def save(self, step: int, training: Any, batches: Iterator[Any]) -> None:
        """Starts saving.

        Args:
          step: updates made.
          training: after them; may be donated as soon as this returns.
          batches: the iterator over batches.

        Raises:
          ExperimentError: if this or the save before it fails, for want of space.
        """
        if self._is_gone():  # Orbax would make it again
            raise self._failed("written", FileNotFoundError())
        if jax.default_backend() == "cpu":
            # Elsewhere Orbax has its copy when it returns; here it would read the
            # buffers that the next step is donated.
            training = _copy(training)
        record = {
            "scores": self.scores,
            "best": self.best,
            "arrays": checksums_in_json(training),
            "position": _position(batches),
        }
        record["checksum"] = checksum_of_json(record)
        items = ocp.args.Composite(
            training=ocp.args.StandardSave(training),
            record=ocp.args.JsonSave(record),
        )
        try:
            self._manager.save(step, args=items)
        except Exception as error:
            raise self._failed("written", error) from error

    def save_last(self, step: int, training: Any, batches: Iterator[Any]) -> None:
        """Saves the end of a run, unless it is saved already, and waits for it.

        Args:
          step: updates made.
          training: after them.
          batches: the iterator over batches.

        Raises:
          ExperimentError: if that fails.
        """
        if step != self.latest:
            self.save(step, training, batches)
        self._wait()

    def _wait(self) -> None:
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._failed("written", error) from error

    def _is_gone(self) -> bool:
        """Whether the folder is not the one that was opened."""
        try:
            return not os.path.samestat(os.stat(self._folder), self._opened)
        except OSError:
            return True

    def _failed(self, done: str, error: Exception) -> ExperimentError:
        if done == "written" and self._is_gone():
            return ExperimentError(
                f"{self._folder} was removed or moved during the run; put it back and "
                "go on with --resume, or begin anew"
            )
        reason = reason_of(error)
        once = "there is room" if reason == NO_SPACE else "it can be"
        return ExperimentError(
            f"a checkpoint in {self._folder} could not be {done} ({reason}); those "
            f"before it are unharmed: go on with --resume once {once}"
        )


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


def _position(batches: Iterator[Any]) -> Any:
    """Where an iterator is; JSON, and the same in every process."""
    state = batches.get_state()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        kept = json.loads(json.dumps(state)) == state
    except (TypeError, ValueError):
        kept = False
    if not kept:
        raise ExperimentError(
            f"the state of {type(batches).__name__} must be what JSON can hold, for a "
            f"checkpoint to keep it, got {state!r}"
        )
    return state


class _Best(policies.PreservationPolicy):
    """Keeps the checkpoint of the best epoch."""

    def __init__(self, checkpoints: Checkpoints):
        self._checkpoints = checkpoints

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        del context
        return [info.step == self._checkpoints.best for info in checkpoints]
