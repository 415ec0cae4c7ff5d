"""Compiling and timing jitted optimiser steps, interleaved in one process.

What distorts such timings is kept out: params and state are donated (a fresh output
costs page faults, and an untouched leaf a copy), gradients are an argument (a constant
would be folded), each timed block starts after an untimed step of the same program, and
every ratio is of blocks that ran within the same second.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_ia
from experiments.benchmarks._entries import Entry, Phase


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> "Spread":
        """Summarises measurements."""
        low, median, high = np.quantile(np.asarray(values), (0.25, 0.5, 0.75)).tolist()
        return cls(median, low, high)


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled step, and what the compiler says of its memory.

    Attributes:
      step: ``(grads, state, params, arguments, second, where)`` to the new state,
        parameters and ``where``; see :func:`second_pass`.
      compile_seconds: of tracing and compiling, one per round.
      state_bytes: size of the optimiser's state.
      temporary_bytes: scratch memory of a step; None if the backend does not tell.
      fresh_bytes: outputs not written in place of a donated input; None likewise.
    """

    step: Callable[..., tuple[Any, Any, Any]]
    compile_seconds: tuple[float, ...]
    state_bytes: int
    temporary_bytes: int | None
    fresh_bytes: int | None


def tree_bytes(tree: Any) -> int:
    """The size of all leaves; shapes are enough."""
    return sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)
    )


def second_pass(
    entry: Entry, params: Any, make: Callable[[Any], Any]
) -> tuple[Any, Any]:
    """A second gradient and the memory for its point, if an entry wants them.

    The gradient is there already, for it is no part of what is timed; its point is
    written to memory at each step, as a network would read it from there.

    Args:
      entry: the optimiser.
      params: the parameters.
      make: makes a tree like them.

    Returns:
      The gradient and the memory, None each where not wanted.
    """
    if "grad_fn" not in entry.needs:
        return None, None
    # SVRG's second point is its snapshot, which lies in memory
    where = None if "full_gradient" in entry.needs else make(params)
    return make(params), where


def _extra_args(
    entry: Entry, grads: Any, second: Any, points: list[Any]
) -> dict[str, Any]:
    """What an entry needs; ``points`` receives those of the second gradient."""

    def grad_fn(where):
        points.append(where)
        # As a network's, it can be had only after its point was written: else the
        # parameters might be updated first, and copied for the point's sake.
        return jax.tree.map(lambda g, w: g + 0 * w.ravel()[0], second, where)

    def value_fn(where):
        # every parameter is read, and the first trial is accepted
        return -1e30 + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(where))

    known = {
        "value": jnp.zeros([]),
        "value_fn": value_fn,
        "grad_fn": grad_fn,
        "full_gradient": grads,
    }
    return {name: known[name] for name in entry.needs}


def _compile(entry: Entry, params: Any) -> tuple[jax.stages.Compiled, Any, float]:
    """Traces and compiles an entry's step, with nothing cached from before."""

    def step(grads, state, params, arguments, second, where):
        tx = optax.with_extra_args_support(entry.make(**arguments))
        extra = _extra_args(entry, grads, second, points := [])
        updates, state = tx.update(grads, state, params, **extra)
        written = None if where is None else points[0]
        return state, optax.apply_updates(params, updates), written

    own = jax.eval_shape(entry.wrap, params)
    state = jax.eval_shape(lambda p: entry.make().init(entry.wrap(p)), params)
    arguments = entry.phases[0].arguments()
    jax.clear_caches()
    began = time.perf_counter()
    second = second_pass(entry, own, lambda tree: tree)
    # ``where`` is read by nothing: it is there to be written to
    jitted = jax.jit(step, donate_argnums=(1, 2, 5), keep_unused=True)
    lowered = jitted.lower(params, state, own, arguments, *second)
    compiled = lowered.compile()
    return compiled, state, time.perf_counter() - began


def compile_all(
    entries: Sequence[Entry],
    params: Any,
    *,
    rounds: int,
    done: Callable[[], None] = lambda: None,
) -> dict[str, Program]:
    """Compiles every entry once a round, in turn.

    Args:
      entries: what to compile.
      params: the tree; shapes are enough.
      rounds: how often.
      done: called after each compilation.

    Returns:
      The programs by entry.
    """
    _compile(entries[0], params)  # the first of a process also starts the compiler
    seconds: dict[str, list[float]] = {entry.name: [] for entry in entries}
    programs = {}
    for last in [False] * (rounds - 1) + [True]:
        for entry in entries:
            compiled, state, took = _compile(entry, params)
            seconds[entry.name].append(took)
            done()
            if last:
                memory = compiled.memory_analysis()
                programs[entry.name] = Program(
                    compiled,
                    tuple(seconds[entry.name]),
                    tree_bytes(state),
                    memory and memory.temp_size_in_bytes,
                    memory and memory.output_size_in_bytes - memory.alias_size_in_bytes,
                )
    return programs


class Run:
    """An entry's steps in one phase, on state and parameters of their own."""

    def __init__(self, entry: Entry, phase: Phase, program: Program, params: Any):
        """Makes the state.

        Args:
          entry: the optimiser.
          phase: its kind of steps.
          program: the entry, compiled.
          params: the parameters to start from; copied.
        """
        self.entry, self.phase, self.program = entry, phase, program
        self._arguments = phase.arguments()
        self._params = entry.wrap(jax.tree.map(jnp.copy, params))
        self._state = phase.prepare(entry.make().init(self._params))
        self._second, self._where = second_pass(
            entry, self._params, lambda tree: jax.tree.map(jnp.copy, tree)
        )

    def block(self, grads: Any, steps: int) -> float:
        """Seconds per step over a number of steps."""
        began = time.perf_counter()
        for _ in range(steps):
            self._state, self._params, self._where = self.program.step(
                grads,
                self._state,
                self._params,
                self._arguments,
                self._second,
                self._where,
            )
        jax.block_until_ready((self._state, self._params))
        return (time.perf_counter() - began) / steps

    def counts(self) -> dict[str, int]:
        """Iterates averaged and synchronisations done so far."""
        found = optax_ia.diagnostics(self._state)
        names = ("num_averaged", "sync_count")
        return {name: int(found[name]) for name in names if name in found}

    def moved_bytes(self, grads: Any) -> int:
        """What such a step must read or write, whatever the implementation.

        The gradients once, the parameters and what it uses of the state twice, the
        point of a second gradient once.
        """
        idle = round(self.phase.idle * tree_bytes(grads))
        used = tree_bytes(self._params) + tree_bytes(self._state) - idle
        return tree_bytes(grads) + 2 * used + tree_bytes((self._second, self._where))


def interleave(
    runs: Sequence[Run], grads: Any, *, repeats: int, block_seconds: float
) -> Iterator[list[float]]:
    """Times several runs in turn.

    Args:
      runs: what to time; the first sets the number of steps in a block.
      grads: the gradients of every step.
      repeats: number of rounds.
      block_seconds: how long a block of the first run should last at least.

    Yields:
      For each round, the seconds per step of each run.
    """
    for run in runs:
        run.block(grads, 1)
    steps = math.ceil(block_seconds / runs[0].block(grads, 1))
    steps = min(max(steps, 1), 100)
    for _ in range(repeats):
        seconds = []
        for run in runs:
            run.block(grads, 1)
            seconds.append(run.block(grads, steps))
        yield seconds
