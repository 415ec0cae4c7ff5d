"""A text read in parallel columns, window by window, with the state carried on.

The text is cut into as many pieces as a batch has rows; a window is the same few
positions of all pieces, and the next window goes on where it ended. So a network that
hands its state from window to window reads every piece from beginning to end.

The lengths of the training windows vary, or else the same positions would stand at a
window's edge, where gradients are cut, in every epoch (Merity et al. 2017, section 3).
They are drawn as in its authors' code, anew in every epoch, as a pure function of seed
and epoch; all windows are filled up to one size, so that one compiled step serves all.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

_LENGTHS = 1
"""Sets the stream of the lengths apart from the other uses of (seed, epoch)."""


class Window(NamedTuple):
    """A few positions of every column.

    Attributes:
      tokens: what is read, int32 ``(columns, size)``; zeros after ``length``.
      targets: what follows each of them, int32 ``(columns, size)``.
      length: the number of positions that count, int32 ``()``.
    """

    tokens: np.ndarray
    targets: np.ndarray
    length: np.ndarray


@dataclasses.dataclass(frozen=True)
class Bptt:
    """How training windows are drawn.

    Attributes:
      length: their usual length.
      deviation: their standard deviation; 0 makes all of the usual length.
      halved: how often half the usual length is the mean instead.
      shortest: none but an epoch's last is shorter.
    """

    length: int = 70
    deviation: float = 5.0
    halved: float = 0.05
    shortest: int = 5

    @property
    def size(self) -> int:
        """The longest: two deviations over the usual length; longer draws are cut."""
        return self.length + int(np.ceil(2 * self.deviation))

    def lengths(self, positions: int, *, seed: int, epoch: int) -> np.ndarray:
        """The lengths of an epoch's windows.

        Args:
          positions: how many there are to read, the sum of the lengths.
          seed: the run's seed.
          epoch: counted from 0.

        Returns:
          int32 ``(windows,)``; the last is what the others leave.
        """
        if self.deviation == 0:
            count = -(-positions // self.length)
            drawn = np.full(count, self.length)
        else:
            drawn = self._draw(
                positions, np.random.default_rng([seed, epoch, _LENGTHS])
            )
        ends = np.minimum(np.cumsum(drawn), positions)
        count = int(np.searchsorted(ends, positions)) + 1
        return np.diff(ends[:count], prepend=0).astype(np.int32)

    def _draw(self, positions: int, rng: np.random.Generator) -> np.ndarray:
        """Lengths that are at least ``positions`` together."""
        drawn = np.zeros(0, np.int64)
        while drawn.sum() < positions:
            # More at a time than most epochs need; the stream is the same for all.
            count = 16 + 2 * positions // self.length
            halves = rng.random(count) < self.halved
            means = np.where(halves, self.length / 2, self.length)
            lengths = rng.normal(means, self.deviation).astype(np.int64)
            more = np.clip(lengths, min(self.shortest, self.size), self.size)
            drawn = np.concatenate([drawn, more])
        return drawn


def columns_of(text: np.ndarray, count: int) -> np.ndarray:
    """Cuts a text into pieces of one length; what is left over at its end is dropped.

    Args:
      text: int32 ``(tokens,)``.
      count: number of pieces.

    Returns:
      int32 ``(count, tokens // count)``.
    """
    length = len(text) // count
    return text[: count * length].reshape(count, length)


def window_at(columns: np.ndarray, begin: int, length: int, size: int) -> Window:
    """The window of all columns that begins at a position.

    Args:
      columns: as :func:`columns_of` gives them.
      begin: the first position read; the last one is ``begin + length - 1``.
      length: number of positions, all but the last of a column at most.
      size: what it is filled up to.

    Returns:
      The window.
    """
    tokens = np.zeros((len(columns), size), np.int32)
    targets = np.zeros_like(tokens)
    tokens[:, :length] = columns[:, begin : begin + length]
    targets[:, :length] = columns[:, begin + 1 : begin + length + 1]
    return Window(tokens, targets, np.array(length, np.int32))


@functools.lru_cache(maxsize=8)
def _lengths(bptt: Bptt, positions: int, seed: int, epoch: int) -> np.ndarray:
    return bptt.lengths(positions, seed=seed, epoch=epoch)


@dataclasses.dataclass(frozen=True, eq=False)
class WindowReader:
    """The windows of all epochs by number: what Grain maps over the steps of a run.

    Attributes:
      columns: this host's columns, int32 ``(columns, positions + 1)``.
      bptt: how the windows are drawn; the same on all hosts.
      seed: the run's seed.
      epochs: how many.
    """

    columns: np.ndarray
    bptt: Bptt
    seed: int
    epochs: int

    def lengths(self, epoch: int) -> np.ndarray:
        """The lengths of an epoch's windows, int32."""
        return _lengths(self.bptt, self.columns.shape[1] - 1, self.seed, epoch)

    @functools.cached_property
    def ends(self) -> np.ndarray:
        """The number of windows up to the end of each epoch, int64 ``(epochs,)``."""
        counts = [len(self.lengths(epoch)) for epoch in range(self.epochs)]
        return np.cumsum(counts)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def length(self, step: int) -> int:
        """The length of the window of a step, of all epochs."""
        epoch, number = self._place(step)
        return int(self.lengths(epoch)[number])

    def _place(self, step: int) -> tuple[int, int]:
        epoch = int(np.searchsorted(self.ends, step, side="right"))
        return epoch, step - (int(self.ends[epoch - 1]) if epoch else 0)

    def __call__(self, step: int) -> Window:
        """The window of a step, counted from 0 over all epochs."""
        epoch, number = self._place(step)
        lengths = self.lengths(epoch)
        begin = int(lengths[:number].sum())
        return window_at(self.columns, begin, int(lengths[number]), self.bptt.size)


class Passage(NamedTuple):
    """A split for evaluation: all its windows, one after another.

    Attributes:
      tokens: int32 ``(windows, columns, size)``.
      targets: the same shape.
      weights: 1 where a target counts and 0 where the array is filled up, float32.
    """

    tokens: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


def passage_of(text: np.ndarray, columns: int, size: int) -> Passage:
    """Lays out a text so that every token but the first is a target exactly once.

    The columns are read in parallel, each from a state of zeros: one column reads all
    of it with one state, more are faster.

    Args:
      text: int32 ``(tokens,)``, at least two.
      columns: number of pieces.
      size: positions of a window.

    Returns:
      The windows.
    """
    count = len(text) - 1
    columns = min(columns, count)
    length = -(-count // columns)  # of a column, rounded up
    windows = -(-length // size)

    def laid_out(values: np.ndarray) -> np.ndarray:
        filled = np.zeros(columns * length, values.dtype)
        filled[:count] = values
        rows = np.zeros((columns, windows * size), values.dtype)
        rows[:, :length] = filled.reshape(columns, length)
        return rows.reshape(columns, windows, size).swapaxes(0, 1)

    ones = np.ones(count, np.float32)
    return Passage(laid_out(text[:-1]), laid_out(text[1:]), laid_out(ones))
