"""The configuration of a sweep: a TOML file, checked before anything runs.

======================  ============================================================
``command``             ``"train"``, the one there is
``task``                what ``train --task`` takes; left out, its own default
``name``                of the folder; left out, the file's name
``optimizers``          registry names, or ``["all"]`` as for ``compare``
``seeds``               whole numbers
``[fixed]``             flags that all runs have
``[grid]``              a list of values for each flag: all combinations are run
``[[settings]]``        flags that go together, with a ``name``; ``optimizers`` in it
                        keeps it to some of them
``score``, ``mode``     what to compare, such as ``"loss"``, and ``"min"`` or
                        ``"max"``; left out, what the results' columns say
======================  ============================================================

A flag is written as on the command line without its dashes, ``learning_rate`` or
``learning-rate``; a dotted one, ``--sgd.learning-rate``, may also be a table. True and
false become ``--flag`` and ``--no-flag``, a list its words, and None is ``"None"``.

``devices`` and ``shard`` are flags like others, for runs that have several devices;
``sweep --workers N`` and ``sweep --devices 0,1`` give each run one GPU instead.
"""

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from experiments.configs.settings import check_seeds
from experiments.errors import ExperimentError, unknown
from experiments.optimizers import check_optimizer, list_affordable
from experiments.sweep._flags import (
    Flags,
    check_apart,
    check_differ,
    read_flags,
    shown,
)

COMMANDS = ("train",)
KEYS = (
    "command",
    "task",
    "name",
    "optimizers",
    "seeds",
    "fixed",
    "grid",
    "settings",
    "score",
    "mode",
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One point of grid and settings.

    Attributes:
      label: what tells it from the others, such as ``"learning_rate=0.1"``.
      flags: the flags that it sets, beside the fixed ones.
      optimizers: those it is run with.
    """

    label: str
    flags: Flags
    optimizers: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """A sweep, checked.

    Attributes:
      source: the file.
      name: of its folder.
      command: what a run calls.
      task: its task, None for the command's default.
      optimizers: registry names.
      seeds: one run each.
      fixed: flags of all runs.
      settings: at least one.
      score: what is compared, None to take it from the columns.
      mode: whether less or more of it is better, None for what its name says.
    """

    source: Path
    name: str
    command: str
    task: str | None
    optimizers: tuple[str, ...]
    seeds: tuple[int, ...]
    fixed: Flags
    settings: tuple[Setting, ...]
    score: str | None = None
    mode: Literal["min", "max"] | None = None


def read(path: Path) -> SweepConfig:
    """Reads a configuration.

    Args:
      path: a TOML file.

    Returns:
      The sweep.

    Raises:
      ExperimentError: naming the file and what is wrong in it.
    """
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ExperimentError(f"cannot read {path} ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path} is not TOML: {error}") from error
    try:
        return _checked(path, table)
    except ExperimentError as error:
        raise ExperimentError(f"{path}: {error}") from None


def _checked(path: Path, table: dict[str, Any]) -> SweepConfig:
    for key in table:
        if key not in KEYS:
            raise unknown("key", key, KEYS)
    command = _text(table, "command") or "train"
    if command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    name = _text(table, "name") or path.stem
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
        raise ExperimentError(
            f"name must be letters, digits, '.', '_' and '-', got {name!r}"
        )
    mode = _text(table, "mode")
    if mode not in (None, "min", "max"):
        raise unknown("mode", mode, ("min", "max"))
    optimizers = _optimizers(table, "optimizers")
    seeds = tuple(_list(table, "seeds"))
    for seed in seeds:
        if type(seed) is not int:
            raise ExperimentError(f"seeds must be whole numbers, got {seed!r}")
    try:
        check_seeds(seeds)
    except ExperimentError as error:
        raise ExperimentError(str(error).removeprefix("--")) from None
    fixed = read_flags(table.get("fixed", {}), "[fixed]")
    grid = read_flags(table.get("grid", {}), "[grid]")
    for flag, values in grid.items():
        if not isinstance(values, list):
            raise ExperimentError(
                f"[grid] {flag} must be a list of values, got {values!r}; what does "
                "not vary belongs into [fixed]"
            )
        check_differ(values, f"[grid] {flag}")
    check_apart(fixed, grid, "[fixed]", "[grid]")
    named = _named(table.get("settings"), optimizers)
    for row in named:
        where = f"[[settings]] {row.label}"
        check_apart(fixed, row.flags, "[fixed]", where)
        check_apart(grid, row.flags, "[grid]", where)
    return SweepConfig(
        source=path,
        name=name,
        command=command,
        task=_text(table, "task"),
        optimizers=optimizers,
        seeds=seeds,
        fixed=fixed,
        settings=tuple(_product(named, grid, optimizers)),
        score=_text(table, "score"),
        mode=mode,
    )


def _product(
    named: list[Setting], grid: Flags, optimizers: tuple[str, ...]
) -> Iterator[Setting]:
    """Every named setting with every point of the grid; the last flag runs fastest."""
    for row in named or [Setting("", {}, optimizers)]:
        for values in itertools.product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            words = [f"{flag}={shown(value)}" for flag, value in point.items()]
            label = ", ".join([row.label] * bool(row.label) + words)
            yield Setting(label, row.flags | point, row.optimizers)


def _named(rows: Any, optimizers: tuple[str, ...]) -> list[Setting]:
    """The list of named settings."""
    if rows is None:
        return []
    if not isinstance(rows, list) or not rows:
        raise ExperimentError(
            "settings must be a list of tables with a name, each written [[settings]]"
        )
    found: list[Setting] = []
    for number, row in enumerate(rows, 1):
        where = f"[[settings]] number {number}"
        if not isinstance(row, dict):
            raise ExperimentError(f"{where} must be a table, got {row!r}")
        rest = dict(row)
        label = rest.pop("name", None)
        if not isinstance(label, str) or not label.strip():
            raise ExperimentError(f"{where} needs a name, got {label!r}")
        if label in [setting.label for setting in found]:
            raise ExperimentError(f"{where}: there is another named {label!r}")
        where = f"[[settings]] {label}"
        own = optimizers
        if "optimizers" in rest:
            own = _optimizers(rest, "optimizers", f"{where}: ")
            for name in own:
                if name not in optimizers:
                    raise ExperimentError(
                        f"{where}: {name} is not one of the sweep's optimizers"
                    )
            del rest["optimizers"]
        found.append(Setting(label, read_flags(rest, where), own))
    return found


def _optimizers(table: dict[str, Any], key: str, where: str = "") -> tuple[str, ...]:
    names = _list(table, key, where)
    if "all" in names:
        names = list_affordable()
    for name in names:
        try:
            check_optimizer(name)
        except ExperimentError as error:
            raise ExperimentError(f"{where}{error}") from None
    check_differ(names, f"{where}{key}")
    return tuple(names)


def _list(table: dict[str, Any], key: str, where: str = "") -> list[Any]:
    if key not in table:
        raise ExperimentError(
            f"{where}{key} is missing: a list such as {_EXAMPLE[key]}"
        )
    value = table[key]
    if not isinstance(value, list):
        raise ExperimentError(
            f"{where}{key} must be a list such as {_EXAMPLE[key]}, got {value!r}"
        )
    if not value:
        raise ExperimentError(f"{where}{key} is an empty list")
    return value


_EXAMPLE = {"optimizers": '["sgd", "gadam"]', "seeds": "[0, 1, 2]"}


def _text(table: dict[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise ExperimentError(f"{key} must be text, got {value!r}")
    return value
