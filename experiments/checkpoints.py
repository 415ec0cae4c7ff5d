"""Checkpoints by Orbax: written in the background, whole or absent."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from optax_ia.flax import TrainState


class Checkpoints:
    """Saves every so many steps, inside epochs too, with the sums of the epoch.

    Attributes:
      every: steps between checkpoints.
    """

    def __init__(self, folder: Path, *, every: int, keep: int = 2):
        """Opens a folder of checkpoints, made if it is missing.

        Args:
          folder: where they are.
          every: steps between checkpoints.
          keep: how many of the newest to keep.
        """
        self.every = every
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self._manager.close()  # waits for what is being written

    @property
    def latest(self) -> int | None:
        """The step of the newest whole checkpoint, None if there is none."""
        return self._manager.latest_step()

    def restore(
        self, state: TrainState, totals: dict[str, jax.Array]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """The newest checkpoint, or what was given if there is none.

        Args:
          state: a fresh state, which tells structure, shapes and dtypes.
          totals: the same for the sums.

        Returns:
          State and sums.
        """
        if self.latest is None:
            return state, totals
        wanted = jax.tree.map(ocp.utils.to_shape_dtype_struct, _tree(state, totals))
        restored = dict(
            self._manager.restore(self.latest, args=ocp.args.StandardRestore(wanted))
        )
        totals = restored.pop("totals")
        return state.replace(**restored), totals

    def maybe_save(
        self, step: int, state: TrainState, totals: dict[str, jax.Array]
    ) -> None:
        """Starts saving if ``step`` is a multiple of ``every``.

        Args:
          step: updates made.
          state: the state after them.
          totals: the sums of the epoch so far.
        """
        if step % self.every == 0:
            self._save(step, state, totals)

    def save_last(
        self, step: int, state: TrainState, totals: dict[str, jax.Array]
    ) -> None:
        """Saves the end of a run, unless it is saved already, and waits for it.

        Args:
          step: updates made.
          state: the state after them.
          totals: the sums of the epoch so far.
        """
        if step != self.latest:
            self._save(step, state, totals)
        self._manager.wait_until_finished()

    def _save(self, step: int, state: TrainState, totals: dict[str, jax.Array]) -> None:
        # A copy: the next step donates these buffers while Orbax is still writing.
        tree = jax.tree.map(np.array, _tree(state, totals))
        self._manager.save(step, args=ocp.args.StandardSave(tree))


def _tree(state: TrainState, totals: dict[str, jax.Array]) -> dict[str, Any]:
    return {
        "step": state.step,
        "params": state.params,
        "batch_stats": state.batch_stats,
        "opt_state": state.opt_state,
        "totals": totals,
    }
