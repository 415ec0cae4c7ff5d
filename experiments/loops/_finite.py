"""Watching the loss without waiting for it.

The step after which the sum of losses is no longer finite is found on the device, by a
program of a few numbers behind each update. The host looks at the answer where it waits
anyway: at the end of an epoch and before a checkpoint. So no checkpoint is ever written
after such a step, and the step is named exactly.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from experiments.checkpoints import Checkpoints
from experiments.errors import ExperimentError
from experiments.loops._rows import Row

OnNan = Literal["stop", "record"]


@jax.jit
def _see(bad: jax.Array, kept: Any, totals: Any, step: jax.Array) -> tuple[Any, Any]:
    """The first bad step, and the totals before it."""
    finite = jnp.isfinite(totals["loss"]) & (bad < 0)
    kept = {name: jnp.where(finite, totals[name], kept[name]) for name in totals}
    return jnp.where(finite | (bad >= 0), bad, step), kept


class Watch:
    """Follows the totals of a run.

    Args:
      on_nan: "record" watches nothing.
      totals: of the epoch so far, where the run goes on.
    """

    def __init__(self, on_nan: OnNan, totals: dict[str, jax.Array]):
        self._active = on_nan != "record"
        self._bad = jnp.full((), -1, jnp.int32)
        self._kept = jax.tree.map(jnp.zeros_like, totals)
        self._row: Row | None = None

    def see(self, totals: dict[str, jax.Array], step: int) -> None:
        """Notes on the device whether the totals are finite.

        Args:
          totals: after a step.
          step: its number, counted from 1.
        """
        if self._active:
            self._bad, self._kept = _see(self._bad, self._kept, totals, step)

    def end_epoch(self, row: Row) -> None:
        """Keeps what was measured after an epoch that went well.

        Args:
          row: its row.
        """
        self._row = row

    def check(
        self, epoch: int, steps_before: int, checkpoints: Checkpoints | None
    ) -> None:
        """Waits for the device, and raises if a loss was not finite.

        Args:
          epoch: that of the steps seen, counted from 1.
          steps_before: updates made before that epoch.
          checkpoints: to name the one to look at.

        Raises:
          ExperimentError: naming the step, what was finite last, and the checkpoint.
        """
        if not self._active or (bad := int(self._bad)) < 0:
            return
        parts = [f"the loss is not finite at step {bad}, in epoch {epoch}"]
        if finite := bad - 1 - steps_before:
            means = ", ".join(
                f"{name} {float(total) / finite:.4g}"
                for name, total in self._kept.items()
            )
            parts.append(f"means over the steps of this epoch before it: {means}")
        if self._row is not None:
            values = ", ".join(
                f"{name} {value:.4g}"
                for name, value in self._row.items()
                if isinstance(value, float)
            )
            parts.append(f"after epoch {self._row['epoch']}: {values}")
        if checkpoints is not None:
            parts.append(checkpoints.advice())
        raise ExperimentError("; ".join(parts))
