"""Checkpoints by Orbax: written in the background, whole or absent.

A checkpoint holds all that a run goes on from: the training (model, optimiser with its
averages and triggers, what is carried between batches, the sums of the epoch), the
state of the iterator over batches, and the scores of the epochs so far. The newest ones
are kept, and that of the best epoch.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies


class Checkpoints:
    """Saves every so many steps, inside epochs too, and after the best epoch.

    Attributes:
      every: steps between checkpoints.
      scores: the step and the score of each epoch so far.
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
        """
        self.every = every
        self.scores: list[tuple[int, float]] = []
        self._folder = folder.resolve()
        best = policies.BestN(
            get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(keep), best]
            ),
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self._manager.close()  # waits for what is being written

    @property
    def latest(self) -> int | None:
        """The step of the newest whole checkpoint, None if there is none."""
        return self._manager.latest_step()

    def advice(self) -> str:
        """Which checkpoint to look at, in words."""
        if self.latest is None:
            return f"there is no checkpoint yet in {self._folder}"
        return f"look at the checkpoint {self._folder / str(self.latest)}"

    def restore(self, training: Any, batches: Iterator[Any] | None) -> tuple[Any, int]:
        """The newest checkpoint, or what was given if there is none.

        Args:
          training: a fresh one, which tells structure, shapes, dtypes and shardings.
          batches: the iterator, which goes to where it was; None leaves it out.

        Returns:
          The training, and the number of updates it has behind it.
        """
        step = self.latest
        if step is None:
            return training, 0
        wanted = jax.tree.map(ocp.utils.to_shape_dtype_struct, training)
        items: dict[str, Any] = {
            "training": ocp.args.StandardRestore(wanted),
            "scores": ocp.args.JsonRestore(),
        }
        if batches is not None:
            items["batches"] = grain.checkpoint.CheckpointRestore(batches)
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        self.scores = [(at, score) for at, score in restored["scores"]["epochs"]]
        return restored["training"], step

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
        sign = 1 if mode == "max" else -1
        is_best = score is not None and all(
            sign * score > sign * other for _, other in self.scores
        )
        metrics = None
        if score is not None:
            self.scores.append((step, score))
            metrics = {"score": score, "rank": sign * score}
        if is_best or self.due(step):
            self.save(step, training, batches, metrics)

    def save(
        self,
        step: int,
        training: Any,
        batches: Iterator[Any],
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Starts saving.

        Args:
          step: updates made.
          training: after them; may be donated as soon as this returns.
          batches: the iterator over batches.
          metrics: the score, at the end of an epoch.
        """
        items = ocp.args.Composite(
            # A copy: the next step donates these while Orbax is still writing.
            training=ocp.args.StandardSave(_copy(training)),
            batches=grain.checkpoint.CheckpointSave(batches),
            scores=ocp.args.JsonSave({"epochs": self.scores}),
        )
        self._manager.save(step, args=items, metrics=metrics)

    def save_last(self, step: int, training: Any, batches: Iterator[Any]) -> None:
        """Saves the end of a run, unless it is saved already, and waits for it.

        Args:
          step: updates made.
          training: after them.
          batches: the iterator over batches.
        """
        if step != self.latest:
            self.save(step, training, batches)
        self._manager.wait_until_finished()


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


def _rank(metrics: Any) -> float:
    return metrics["rank"]
