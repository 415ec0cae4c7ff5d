"""Watching the loss without waiting for it.

The step after which the sum of losses is no longer finite is found on the device, by a
program of a few numbers behind each update. The host looks at the answer where it waits
anyway: at the end of an epoch and before a checkpoint. So no checkpoint is ever written
after such a step, and the step is named exactly.

Where such updates are left out instead, a run that does nothing else any more is lost.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from experiments.checkpoints import Checkpoints
from experiments.errors import ExperimentError
from experiments.loops._rows import Row
from experiments.loops._skip import MOST_IN_A_ROW, in_a_row
from optax_ia.flax import TrainState

OnNan = Literal["stop", "skip", "record"]


class NotFiniteError(ExperimentError):
    """The loss of a run is not finite."""


@jax.jit
def _see(bad: jax.Array, kept: Any, totals: Any, step: jax.Array) -> tuple[Any, Any]:
    """The first bad step, and the totals before it."""
    finite = jnp.isfinite(totals["loss"]) & (bad < 0)
    kept = {name: jnp.where(finite, totals[name], kept[name]) for name in totals}
    return jnp.where(finite | (bad >= 0), bad, step), kept


class Watch:
    """Follows the totals of a run.

    Args:
      on_nan: what is done about a loss that is not finite.
      totals: of the epoch so far, where the run goes on.

    Raises:
      ExperimentError: if updates are to be left out, and the task cannot.
    """

    def __init__(self, on_nan: OnNan, totals: dict[str, jax.Array]):
        if on_nan == "skip" and "skipped" not in totals:
            raise ExperimentError("--on-nan must be stop for this task, got skip")
        self._on_nan = on_nan
        self._bad = jnp.full((), -1, jnp.int32)
        self._kept = jax.tree.map(jnp.zeros_like, totals)
        self._row: Row | None = None

    def see(self, totals: dict[str, jax.Array], step: int) -> None:
        """Notes on the device whether the totals are finite.

        Args:
          totals: after a step.
          step: its number, counted from 1.
        """
        if self._on_nan == "stop":
            self._bad, self._kept = _see(self._bad, self._kept, totals, step)

    def end_epoch(self, row: Row) -> None:
        """Keeps what was measured after an epoch that went well.

        Args:
          row: its row.
        """
        self._row = row

    def check(
        self,
        training: Any,
        step: int,
        *,
        epoch: int,
        done: int,
        checkpoints: Checkpoints | None,
    ) -> None:
        """Waits for the device, and raises if the run is lost.

        Args:
          training: as it is now.
          step: updates made.
          epoch: that of the last of them, counted from 1.
          done: how many of them are of that epoch.
          checkpoints: to name the one to look at.

        Raises:
          NotFiniteError: naming the step, what was finite last, and the checkpoint.
        """
        if self._on_nan == "skip":
            skipped, network = in_a_row(training.state)
            if skipped > MOST_IN_A_ROW:
                first = step - skipped + 1
                what = (
                    f"loss or gradient is not finite at step {first} and at the "
                    f"{skipped - 1} steps after it, up to epoch {epoch}"
                )
                if not isinstance(training.state, TrainState):
                    # A step may hold several updates of one of its networks.
                    what = (
                        f"loss or gradient is not finite at the latest {skipped} "
                        f"updates of the {network}, up to step {step} in epoch {epoch}"
                    )
                self._lost(what, [], checkpoints)
        elif self._on_nan == "stop" and (bad := int(self._bad)) >= 0:
            before = bad - 1 - (step - done)
            kept = jax.device_get(self._kept) if before else {}
            names = sorted(kept, key=lambda name: (name != "loss", name))
            means = [f"{name} {float(kept[name]) / before:.4g}" for name in names]
            self._lost(
                f"the loss is not finite at step {bad}, in epoch {epoch}",
                means,
                checkpoints,
            )

    def _lost(
        self, what: str, means: list[str], checkpoints: Checkpoints | None
    ) -> None:
        parts = [what]
        if means:
            told = ", ".join(means)
            parts.append(f"means of the steps of this epoch before it: {told}")
        if self._row is not None:
            values = ", ".join(
                f"{name} {value:.4g}"
                for name, value in self._row.items()
                if isinstance(value, float)
            )
            parts.append(f"after epoch {self._row['epoch']}: {values}")
        if not means and self._row is None:
            parts.append("nothing was finite before it")
        if checkpoints is not None:
            parts.append(checkpoints.advice())
        raise NotFiniteError("; ".join(parts))
