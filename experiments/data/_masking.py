"""Sequences for masked language modelling: packed once, masked anew in every epoch.

Packing is RoBERTa's FULL-SENTENCES: a sequence takes whole sentences, across the ends
of documents, as long as they fit; a separator stands between two documents. Of the
tokens 15 % are chosen; of these 80 % become the mask, 10 % another token, and 10 % stay
as they are. What is chosen follows from (seed, epoch, sequence) alone; in evaluation
from the sequence alone, so that every epoch and every optimiser is asked the same.

References: Devlin et al., `BERT <https://arxiv.org/abs/1810.04805>`_, 2018, section
3.1; Liu et al., `RoBERTa <https://arxiv.org/abs/1907.11692>`_, 2019, sections 4.1
(dynamic masking) and 4.2 (FULL-SENTENCES).
"""

from collections.abc import Iterable

import numpy as np

from experiments.data._batches import Batches, Put, check_share
from experiments.data._bpe import BEGIN, END, MASK, PAD, SPECIAL_TOKENS
from experiments.data._order import epoch_order
from experiments.errors import ExperimentError

MASKED_SHARE = 0.15
_MASK_SHARE, _RANDOM_SHARE = 0.8, 0.1
_SMALLEST_LENGTH = 8
_EVALUATION = [2**64 - 1, 2**64 - 1]
"""The key of evaluation's masks, which no seed of a run has."""


MaskedBatch = dict[str, np.ndarray]
"""A batch, as the network and its loss take it.

- tokens: int32 ``(batch, length)``, what is masked replaced already.
- positions: int32 ``(batch, chosen)``, where the chosen tokens are; 0 where a sequence
  has fewer.
- labels: int32 ``(batch, chosen)``, the tokens that were there.
- weights: float32 ``(batch, chosen)``, 0 for filling and else 1.
"""


def pack_sentences(
    documents: Iterable[Iterable[np.ndarray]], max_length: int
) -> np.ndarray:
    """Packs sentences into sequences of one length.

    Every sequence begins with ``<s>``, ends with ``</s>`` and is filled up with
    ``<pad>``. A sentence that is longer than a sequence is cut.

    Args:
      documents: of each document its sentences, arrays of tokens.
      max_length: of a sequence, with its first and last token.

    Returns:
      int32 ``(sequences, max_length)``.

    Raises:
      ExperimentError: if sequences are to be too short, or there is no token.
    """
    if max_length < _SMALLEST_LENGTH:
        raise ExperimentError(
            f"--max-length must be at least {_SMALLEST_LENGTH}, got {max_length}"
        )
    room = max_length - 2
    rows: list[np.ndarray] = []
    parts: list[np.ndarray] = []
    used = 0

    def finish() -> None:
        nonlocal used
        row = np.full(max_length, PAD, np.int32)
        content = np.concatenate(parts)
        if content[-1] == END:  # a separator is not needed before the last token
            content = content[:-1]
        row[: len(content) + 2] = [BEGIN, *content, END]
        rows.append(row)
        parts.clear()
        used = 0

    for document in documents:
        for sentence in document:
            for first in range(0, len(sentence), room):
                piece = sentence[first : first + room]
                if used and used + len(piece) > room:
                    finish()
                parts.append(piece)
                used += len(piece)
        if used == room:
            finish()
        elif used:
            parts.append(np.array([END], np.int32))
            used += 1
    if used:
        finish()
    if not rows:
        raise ExperimentError("the text to be packed has no token")
    return np.stack(rows)


def most_masked(max_length: int) -> int:
    """The largest number of tokens that are chosen in a sequence."""
    return int(MASKED_SHARE * (max_length - 2)) + 1


def mask_sequences(
    tokens: np.ndarray, uniform: np.ndarray, vocab_size: int
) -> MaskedBatch:
    """Chooses tokens of each sequence, none of them special, and masks them.

    15 % of them, rounded up or down at random so that the mean is exact.

    Args:
      tokens: int32 ``(batch, length)``.
      uniform: float64 ``(batch, 3, length + 1)``, random numbers from 0 to 1, on which
        alone it depends: what is chosen, what is done with it, the token in its stead.
      vocab_size: number of tokens; the one that stands in for another is drawn from
        all but the special ones.

    Returns:
      The batch.
    """
    special = len(SPECIAL_TOKENS)
    ordinary = tokens >= special
    counts = MASKED_SHARE * ordinary.sum(1) + uniform[:, 0, -1]
    # the ordinary tokens with the smallest numbers
    ranked = np.argsort(np.where(ordinary, uniform[:, 0, :-1], 2.0), axis=1)
    positions = ranked[:, : most_masked(tokens.shape[1])].astype(np.int32)
    chosen = np.arange(positions.shape[1])[None] < counts.astype(np.int32)[:, None]
    positions = np.where(chosen, positions, 0)
    labels = np.take_along_axis(tokens, positions, 1)
    what = np.take_along_axis(uniform[:, 1], positions, 1)
    other = np.take_along_axis(uniform[:, 2], positions, 1) * (vocab_size - special)
    replaced = np.where(what < _MASK_SHARE, MASK, special + other.astype(np.int32))
    kept = what >= _MASK_SHARE + _RANDOM_SHARE
    masked = tokens.copy()
    rows, columns = np.nonzero(chosen)
    masked[rows, positions[rows, columns]] = np.where(kept, labels, replaced)[chosen]
    return {
        "tokens": masked,
        "positions": positions,
        "labels": np.where(chosen, labels, 0),
        "weights": chosen.astype(np.float32),
    }


def _masked(
    sequences: np.ndarray, chosen: np.ndarray, key: list[int], vocab_size: int
) -> MaskedBatch:
    """Masks sequences, each by an independent stream of random numbers of its own."""
    shape = (3, sequences.shape[1] + 1)
    numbers = np.array(key, np.uint64)
    uniform = [
        np.random.Generator(np.random.Philox(key=numbers, counter=index << 192)).random(
            shape
        )
        for index in chosen.tolist()
    ]
    return mask_sequences(sequences[chosen], np.stack(uniform), vocab_size)


class _Reader:
    """From the number of a step to its batch."""

    def __init__(
        self, sequences: np.ndarray, batch_size: int, seed: int, vocab_size: int
    ):
        self._sequences, self._vocab_size = sequences, vocab_size
        self._batch_size, self._seed = batch_size, seed
        self.share = np.arange(batch_size)

    def __call__(self, step: int) -> MaskedBatch:
        size = len(self._sequences)
        epoch, number = divmod(step, size // self._batch_size)
        order = epoch_order(size, seed=self._seed, epoch=epoch)
        first = number * self._batch_size
        chosen = order[first : first + self._batch_size][self.share]
        key = [self._seed, epoch]
        return _masked(self._sequences, chosen, key, self._vocab_size)


def masked_batches(
    sequences: np.ndarray,
    batch_size: int,
    *,
    vocab_size: int,
    seed: int,
    epochs: int,
    process_index: int = 0,
    process_count: int = 1,
    parts: int = 1,
    threads: int = 1,
    put: Put | None = None,
) -> Batches:
    """The training batches of all epochs, one after another.

    The sequences left over at the end of an epoch are dropped; since the order differs
    between epochs, they are others each time.

    Args:
      sequences: int32 ``(sequences, length)``, packed.
      batch_size: sequences of a global batch, that of all hosts.
      vocab_size: number of tokens.
      seed: the run's seed.
      epochs: how many.
      process_index: this host's number.
      process_count: number of hosts, which share each batch evenly.
      parts: small batches that each batch will be cut into; the hosts share each of
        them, so that it is the same for any number of hosts.
      threads: that read ahead; 0 reads when asked.
      put: moves this host's share of a batch to the devices, ahead of its use.

    Returns:
      An iterator of :class:`MaskedBatch`, whose state can be saved.

    Raises:
      ExperimentError: if a number is out of bounds.
    """
    check_share(batch_size, process_index, process_count)
    if batch_size % (parts * process_count):
        raise ExperimentError(
            f"--batch-size must be a multiple of {parts * process_count} (--accumulate "
            f"times hosts), got {batch_size}"
        )
    if batch_size > len(sequences):
        raise ExperimentError(
            f"--batch-size must be at most {len(sequences)} (the training sequences), "
            f"got {batch_size}"
        )
    reader = _Reader(sequences, batch_size, seed, vocab_size)
    rows = np.arange(batch_size).reshape(parts, process_count, -1)
    reader.share = rows[:, process_index].ravel()
    count = epochs * (len(sequences) // batch_size)
    return Batches(reader, count, threads=threads, put=put)


def evaluation_batches(
    sequences: np.ndarray, batch_size: int, *, vocab_size: int, multiple_of: int = 1
) -> list[MaskedBatch]:
    """Every sequence once, always masked the same, in batches of one size.

    Args:
      sequences: int32 ``(sequences, length)``, packed.
      batch_size: sequences a batch; the last one is filled up with padding, which
        weighs nothing.
      vocab_size: number of tokens.
      multiple_of: of what the sequences of a batch are a multiple, such as the number
        of devices that share it.

    Returns:
      The batches.
    """
    size = -(-min(batch_size, len(sequences)) // multiple_of) * multiple_of
    batches = []
    for first in range(0, len(sequences), size):
        chosen = np.arange(first, min(first + size, len(sequences)))
        batch = _masked(sequences, chosen, _EVALUATION, vocab_size)
        missing = size - len(chosen)
        for name, array in batch.items():
            fill = PAD if name == "tokens" else 0
            widths = ((0, missing), (0, 0))
            batch[name] = np.pad(array, widths, constant_values=fill)
        batches.append(batch)
    return batches
