"""What a step of a recurrent language model reads: windows, carried states, devices.

Columns of text are rows of a batch. Cut over devices, or into groups one after another,
every column stays where it is with the state that it carries from window to window.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.text import TextCorpus, Window, columns_of, window_at
from experiments.loops._accumulate import cut
from experiments.parallel import Placement
from optax_ia import models

Carry = Any


class Read(NamedTuple):
    """What a step is given.

    Attributes:
      window: what is read.
      carry: the states that the window before left.
      share: what the loss is multiplied by; 1 in training. In a mean over windows of
        unequal length it is the window's share of all positions, times their number.
    """

    window: Window
    carry: Carry
    share: jax.typing.ArrayLike


@functools.cache
def apply_of(
    model: nn.Module, placement: Placement | None = None
) -> Callable[..., models.LanguageOutput]:
    """A model's ``apply`` on :class:`Read`: one object for each model and placement.

    Args:
      model: the network.
      placement: the devices; None for one. The carry comes out cut as the columns are.

    Returns:
      The function.
    """

    def apply(variables: Any, read: Read, **kwargs: Any) -> models.LanguageOutput:
        outputs: Any = model.apply(
            gathered(variables, placement),
            read.window.tokens,
            read.carry,
            length=read.window.length,
            **kwargs,
        )
        return outputs._replace(carry=by_columns(outputs.carry, placement))

    return apply


def gathered(params: Any, placement: Placement | None) -> Any:
    """Inside a compiled function: brings parameters that are cut together, once.

    Else the compiler would leave them cut and send states between the devices instead,
    at every position of a window.

    Args:
      params: of a network.
      placement: the devices; None for one.

    Returns:
      The same values.
    """
    if placement is None:
        return params
    return jax.lax.with_sharding_constraint(params, placement.replicated)


def by_columns(tree: Any, placement: Placement | None) -> Any:
    """Inside a compiled function: keeps arrays cut along their first axis.

    Args:
      tree: arrays with a row for each column.
      placement: the devices; None for one.

    Returns:
      The same values.
    """
    if placement is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, placement.by_rows)


def mask(window: Window) -> jax.Array:
    """1 where a position counts, else 0; float32, the shape of the tokens."""
    counts = jnp.arange(window.tokens.shape[1]) < window.length
    return jnp.broadcast_to(counts, window.tokens.shape).astype(jnp.float32)


def zero_carry(model: nn.Module, columns: int, placement: Placement | None) -> Carry:
    """The states before the first window.

    Args:
      model: the network.
      columns: how many.
      placement: the devices, over which the columns are cut; None for one.

    Returns:
      Zeros.
    """
    carry: Carry = model.initial_carry(columns)
    if placement is None:
        return carry
    return placement.whole(jax.tree.map(np.asarray, carry))


def share_of(value: float, placement: Placement | None) -> jax.Array:
    """The :attr:`Read.share` of a window, where the window is.

    Args:
      value: 1 in training.
      placement: the devices; None for one.

    Returns:
      float32 scalar.
    """
    share = np.asarray(value, np.float32)
    return jnp.asarray(share) if placement is None else placement.whole(share)


def groups_of(
    window: Window, count: int = 1, placement: Placement | None = None
) -> list[Window]:
    """Cuts a window into groups of columns, and each of them over the devices.

    Args:
      window: in this host's memory, all columns of it.
      count: of the groups; must divide the columns.
      placement: the devices; None leaves the groups on the host.

    Returns:
      The groups in order.
    """
    parts = [
        Window(tokens, targets, window.length)
        for tokens, targets in cut((window.tokens, window.targets), count)
    ]
    return parts if placement is None else [placement.whole(part) for part in parts]


class FullPass:
    """All windows of the training text, for the mean gradient that SVRG takes.

    The carry of every window is computed with the parameters that :attr:`params` was
    set to; the windows have the usual length, dropout is as in training.
    """

    def __init__(
        self,
        windows: list[Window],
        model: nn.Module,
        placement: Placement | None = None,
    ):
        self._windows = windows
        self._model = model
        self._placement = placement
        positions = sum(int(window.length) for window in windows)
        self._scale = len(windows) / positions
        self.params: Any = None

    def __call__(self) -> Iterable[Read]:
        """The windows in order."""
        placement = self._placement
        apply = apply_of(self._model, placement)
        carry = zero_carry(self._model, len(self._windows[0].tokens), placement)
        for window in self._windows:
            (part,) = groups_of(window, placement=placement)
            share = share_of(self._scale * int(window.length), placement)
            yield Read(part, carry, share)
            carry = _carry_after(apply, self.params, part, carry)


@functools.partial(jax.jit, static_argnames="apply")
def _carry_after(
    apply: Callable[..., models.LanguageOutput],
    params: Any,
    window: Window,
    carry: Carry,
) -> Carry:
    return apply({"params": params}, Read(window, carry, 1.0), train=False).carry


@functools.cache
def full_pass(
    corpus: TextCorpus,
    columns: int,
    length: int,
    model: nn.Module,
    placement: Placement | None = None,
) -> FullPass:
    """All windows of the training text, one object for all seeds.

    Args:
      corpus: the text.
      columns: that it is read in.
      length: of a window.
      model: the network.
      placement: the devices; None for one.

    Returns:
      The windows.
    """
    text = columns_of(corpus.train, columns)
    last = text.shape[1] - 1
    windows = [
        window_at(text, begin, min(length, last - begin), length)
        for begin in range(0, last, length)
    ]
    return FullPass(windows, model, placement)
