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

SUPPLIED = ("value", "value_fn", "grad_fn", "full_gradient")
"""The extra arguments that a timed step can be given, without a network behind them."""


def _nothing() -> Any:
    return dataclasses.field(default_factory=dict, hash=False)


@dataclasses.dataclass(frozen=True)
class Phase:
    """Steps of one cost.

    Attributes:
      name: what they are called; empty if all steps of an entry cost the same.
      idle: trees of state, each the size of the parameters, left alone by such steps.
      averaging: whether they collect into an average.
      given: integers given to the entry as arrays, so that one program serves all its
        phases: Lookahead's period, the step of a switch.
    """

    name: str = ""
    idle: float = 0
    averaging: bool = False
    given: Mapping[str, int] = _nothing()

    def arguments(self) -> dict[str, jax.Array]:
        """What the jitted step gets beside gradients, state and parameters."""
        return {
            name: jnp.asarray(value, jnp.int32) for name, value in self.given.items()
        }

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
      needs: the extra arguments of its ``update``.
      time_bars: largest allowed ratio of step times to the base's, by phase.
    """

    name: str
    make: Callable[..., optax.GradientTransformation]
    base: str = REFERENCE
    phases: tuple[Phase, ...] = (Phase(),)
    wrap: Callable[[Any], Any] = lambda params: params
    needs: tuple[str, ...] = ()
    time_bars: Mapping[str, float] = _nothing()


_OFF, _ON = "not collecting", "collecting"
_FAST, _SYNC = "off sync", "at sync"
_ADAPTIVE, _SGD = "adaptive", "SGD"

_BARS = {
    "padam": {"": 1.40},
    "padamw": {"": 1.40},
    "swats": {_ADAPTIVE: 1.30, _SGD: 1.30},
    "adam_clip": {"": 1.30},
    "adabound": {"": 1.30},
    "adamp": {"nothing projected": 1.80, "all projected": 1.80},
    "ranger": {_FAST: 1.25},
    # its own work, the two gradients aside, may cost 1.2 of the update it wraps
    "sam_sgd": {"": 2.20},
}


def _phases_of(record: registry.OptimizerRecord) -> tuple[Phase, ...]:
    """The kinds of steps that an entry's arguments imply."""
    takes = inspect.signature(record.factory).parameters
    period = next((name for name in ("sync_period", "k") if name in takes), None)
    # an average has two trees; collecting writes one and reads the other
    averages = 2 if record.averages else 0
    if period:
        phases = (
            Phase(_FAST, idle=1 + averages, given={period: _NEVER}),
            Phase(_SYNC, idle=averages, given={period: 1}),
        )
        if averages:
            phases += (Phase(_ON, idle=1.5, averaging=True, given={period: _NEVER}),)
        return phases
    if averages:
        return Phase(_OFF, idle=2), Phase(_ON, idle=0.5, averaging=True)
    if "switch_at" in takes:
        return (
            Phase(_ADAPTIVE, idle=1, given={"switch_at": _NEVER}),
            Phase(_SGD, given={"switch_at": 1}),
        )
    if "delta" in takes:
        return (
            Phase("nothing projected", given={"delta": 0}),
            Phase("all projected", given={"delta": 2**20}),
        )
    if "snapshot_every" in takes:
        return (
            Phase("between snapshots", given={"snapshot_every": _NEVER}),
            Phase("at a snapshot", given={"snapshot_every": 1}),
        )
    return (Phase(),)


def _from_record(record: registry.OptimizerRecord) -> Entry:
    """Times an entry of the registry in the phases that its arguments imply."""
    takes = inspect.signature(record.factory).parameters
    fixed = {"start": None} if record.averages and "start" in takes else {}
    if record.name in _BARS:
        bars = _BARS[record.name]
    elif "sync_period" in takes:
        bars = {_FAST: 1.10} | ({_ON: 1.35} if record.averages else {})
    elif record.averages:
        bars = {_OFF: 1.07, _ON: 1.35}
    else:
        bars = {}
    return Entry(
        record.name,
        functools.partial(record.make, **fixed),
        base=record.base or REFERENCE,
        phases=_phases_of(record),
        needs=record.needs,
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
    """Everything whose needs can be supplied here, the reference first."""
    records = (registry.get_record(name) for name in optax_ia.list_optimizers())
    own = [_from_record(record) for record in records if not _beyond(record)]
    reference, *more = _MORE
    return {entry.name: entry for entry in (reference, *own, *more)}


def _beyond(record: registry.OptimizerRecord) -> list[str]:
    """What an entry needs that cannot be supplied without a network."""
    return [name for name in record.needs if name not in SUPPLIED]


def skipped(patterns: Sequence[str]) -> dict[str, str]:
    """Entries of the registry that are asked for but not timed, with the reasons."""
    records = (registry.get_record(name) for name in optax_ia.list_optimizers())
    return {
        record.name: f"needs {', '.join(_beyond(record))}"
        for record in records
        if _beyond(record) and _matches(record.name, patterns)
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
