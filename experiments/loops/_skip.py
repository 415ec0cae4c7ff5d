"""Leaving out updates whose loss or gradient is not finite, through Optax.

``optax.apply_if_finite`` holds back the optimiser. Batch statistics and sums saw the
same batch, and are held back here.
"""

import functools
from typing import Any, Self

import jax
import jax.numpy as jnp
import optax

from experiments.errors import ExperimentError
from optax_ia.flax import TrainState

MOST_IN_A_ROW = 10
"""So many updates are left out one after another; then the run is lost."""

_EVALUATE = ("grad_fn", "value_fn", "matvec")


class SkippingState(TrainState):
    """A state that an update without a finite gradient changes in its step alone."""

    def apply_gradients(self, *, grads: Any, **kwargs: Any) -> Self:
        """One update, or none; see ``TrainState.apply_gradients``."""
        after = super().apply_gradients(grads=grads, **kwargs)
        finite = optax.tree.get(after.opt_state, "last_finite")
        stats = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            after.batch_stats,
            self.batch_stats,
        )
        return after.replace(batch_stats=stats)


@functools.cache
def _wrapped(tx: Any) -> Any:
    # One object for each transformation: compiled steps are found again by it.
    return optax.apply_if_finite(tx, MOST_IN_A_ROW)


def check_skipping(needs: tuple[str, ...]) -> None:
    """Checks that the updates of an optimiser can be left out.

    Args:
      needs: the extra arguments that it needs.

    Raises:
      ExperimentError: if the optimiser takes gradients itself, which inside the
        condition are tens of times slower on this backend.
    """
    evaluates = [name for name in needs if name in _EVALUATE]
    if evaluates and jax.default_backend() == "cpu":
        raise ExperimentError(
            "--on-nan must be stop for an optimiser that evaluates the loss itself "
            f"(it needs {', '.join(evaluates)}), got skip"
        )


def skipping(state: TrainState, needs: tuple[str, ...] = ()) -> SkippingState:
    """A fresh state whose updates are left out where they are not finite.

    Args:
      state: at its start.
      needs: the extra arguments that its optimiser needs.

    Returns:
      The same with another optimiser around its own.

    Raises:
      ExperimentError: as :func:`check_skipping` says.
    """
    check_skipping(needs)
    return SkippingState.create(
        apply_fn=state.apply_fn,
        params=state.params,
        tx=_wrapped(state.tx),
        batch_stats=state.batch_stats,
    )


def add_metrics(
    totals: dict[str, jax.Array], metrics: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Adds a step's metrics to the totals of an epoch, inside a compiled program.

    Where the totals count ``"skipped"`` updates, a step whose loss or gradient is not
    finite adds nothing but to that count.

    Args:
      totals: so far.
      metrics: of the step; those without a total are left out.

    Returns:
      The new totals.
    """
    if "skipped" not in totals:
        return {name: total + metrics[name] for name, total in totals.items()}
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])
    added = {
        name: total + jnp.where(finite, metrics[name], 0.0)
        for name, total in totals.items()
        if name != "skipped"
    }
    return added | {"skipped": totals["skipped"] + (1.0 - finite)}


def in_a_row(state: Any) -> tuple[int, str]:
    """How many of the latest updates were left out, one after another.

    Args:
      state: a ``TrainState``, or a structure of several, of which the worst counts.

    Returns:
      The number, and the name of the first branch that it was found under, such as
      ``"critic"``.
    """
    found = optax.tree.get_all_with_path(state, "notfinite_count")
    counts = [
        (int(count), jax.tree_util.keystr(path[:1]).lstrip("."))
        for path, count in found
    ]
    return max(counts, default=(0, ""))
