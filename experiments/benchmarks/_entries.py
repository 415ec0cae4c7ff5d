"""What is timed: the registry's entries in each of their phases, and Optax's peers."""

import dataclasses
import fnmatch
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

import optax_ia
from experiments.errors import ExperimentError
from optax_ia import registry

REFERENCE = "optax.adamw"
"""What every ratio is taken to."""

_NEVER = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Phase:
    """Steps of one cost.

    Attributes:
      name: what they are called; empty if all steps of an entry cost the same.
      idle: trees of state, each the size of the parameters, left alone by such steps.
      averaging: whether they collect into an average.
      sync_period: given to Lookahead as an array, so that one program serves all
        phases; None for an entry without it.
    """

    name: str = ""
    idle: int = 0
    averaging: bool = False
    sync_period: int | None = None

    def arguments(self) -> dict[str, jax.Array]:
        """What the jitted step gets beside gradients, state and parameters."""
        if self.sync_period is None:
            return {}
        return {"sync_period": jnp.asarray(self.sync_period, jnp.int32)}

    def prepare(self, state: optax.OptState) -> optax.OptState:
        """The state that such steps start from."""
        return optax_ia.start_averaging(state) if self.averaging else state


@dataclasses.dataclass(frozen=True)
class Entry:
    """One optimiser to time.

    Attributes:
      name: its row.
      make: makes it; takes what :meth:`Phase.arguments` gives.
      base: the entry that its overhead is measured against.
      phases: its kinds of steps.
      wrap: makes its params from plain ones.
      time_bars: largest allowed ratio of step times to the base's, by phase.
    """

    name: str
    make: Callable[..., optax.GradientTransformation]
    base: str = REFERENCE
    phases: tuple[Phase, ...] = (Phase(),)
    wrap: Callable[[Any], Any] = lambda params: params
    time_bars: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)


_OFF, _ON = "not collecting", "collecting"
_FAST, _SYNC = "off sync", "at sync"


def _from_record(record: registry.OptimizerRecord) -> Entry:
    """Times an entry of the registry in the phases that its arguments imply."""
    takes = inspect.signature(record.factory).parameters
    fixed = {"start": None} if record.averages and "start" in takes else {}
    phases, bars = (Phase(),), {}
    if "sync_period" in takes:
        averages = int(record.averages)
        phases = (
            Phase(_FAST, idle=1 + averages, sync_period=_NEVER),
            Phase(_SYNC, idle=averages, sync_period=1),
        )
        bars = {_FAST: 1.10}
        if record.averages:
            phases += (Phase(_ON, idle=1, averaging=True, sync_period=_NEVER),)
            bars[_ON] = 1.35
    elif record.averages:
        phases = (Phase(_OFF, idle=1), Phase(_ON, averaging=True))
        bars = {_OFF: 1.07, _ON: 1.35}
    elif record.name in ("padam", "padamw"):
        bars = {"": 1.40}
    return Entry(
        record.name,
        functools.partial(record.make, **fixed),
        base=record.base or REFERENCE,
        phases=phases,
        time_bars=bars,
    )


def _optax_lookahead() -> optax.GradientTransformation:
    # keeps its slow weights among the parameters, hence the odd type
    return optax.lookahead(optax.adamw(1e-3), 5, 0.5)  # pyright: ignore[reportReturnType]


def _lookahead_params(params: Any) -> optax.LookaheadParams:
    return optax.LookaheadParams(params, jax.tree.map(jnp.copy, params))


_MORE = (
    Entry(REFERENCE, functools.partial(optax.adamw, 1e-3)),
    Entry(
        "padam, amsgrad=False",
        functools.partial(optax_ia.padam, amsgrad=False),
        time_bars={"": 1.10},
    ),
    Entry("optax.lookahead", _optax_lookahead, base="adamw", wrap=_lookahead_params),
)


def all_entries() -> dict[str, Entry]:
    """Everything that gradients alone are enough for, the reference first."""
    records = (registry.get_record(name) for name in optax_ia.list_optimizers())
    own = [_from_record(record) for record in records if not record.needs]
    reference, *more = _MORE
    return {entry.name: entry for entry in (reference, *own, *more)}


def skipped(patterns: Sequence[str]) -> dict[str, str]:
    """Entries of the registry that are asked for but not timed, with the reasons."""
    records = (registry.get_record(name) for name in optax_ia.list_optimizers())
    return {
        record.name: f"needs {', '.join(record.needs)}"
        for record in records
        if record.needs and _matches(record.name, patterns)
    }


def select(patterns: Sequence[str]) -> list[Entry]:
    """The entries to report.

    Args:
      patterns: shell patterns of names.

    Returns:
      The matching entries.

    Raises:
      ExperimentError: if a pattern matches nothing; the message lists the names.
    """
    entries = all_entries()
    for pattern in patterns:
        if not fnmatch.filter([*entries, *skipped(["*"])], pattern):
            known = ", ".join(repr(name) for name in entries)
            raise ExperimentError(
                f"no entry matches {pattern!r}; patterns are matched against {known}"
            )
    return [entry for entry in entries.values() if _matches(entry.name, patterns)]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
