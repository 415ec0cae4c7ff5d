"""Reading a text in columns: windows against a loop over positions."""

import numpy as np
import pytest

from experiments.data._pipeline import Batches
from experiments.data.text import Bptt, WindowReader, columns_of, passage_of

TEXT = np.arange(100, 353, dtype=np.int32)  # every token tells its place


def reader():
    return WindowReader(columns_of(TEXT, 4), Bptt(8, 2.0), seed=3, epochs=3)


def test_columns_are_consecutive_pieces():
    columns = columns_of(TEXT, 4)
    assert columns.shape == (4, 63)  # 253 tokens: one is left over
    for row in range(4):
        for place in range(63):
            assert columns[row, place] == 100 + 63 * row + place


def test_an_epoch_reads_every_position_once_and_in_order():
    windows = reader()
    step = 0
    for epoch in range(3):
        place = 0
        while place < 62:
            window = windows(step)
            length = int(window.length)
            assert windows.length(step) == length
            assert window.tokens.shape == window.targets.shape == (4, 12)
            assert window.tokens.dtype == window.targets.dtype == np.int32
            for row in range(4):
                for t in range(length):
                    assert window.tokens[row, t] == 100 + 63 * row + place + t
                    assert window.targets[row, t] == 100 + 63 * row + place + t + 1
            assert not window.tokens[:, length:].any()
            place, step = place + length, step + 1
        assert place == 62
        assert windows.ends[epoch] == step
    assert len(windows) == step


def test_lengths_are_a_function_of_seed_and_epoch():
    bptt = Bptt(8, 2.0)
    first = bptt.lengths(5000, seed=1, epoch=2)
    np.testing.assert_array_equal(first, bptt.lengths(5000, seed=1, epoch=2))
    for seed, epoch in ((1, 3), (2, 2)):
        other = bptt.lengths(5000, seed=seed, epoch=epoch)
        assert first[:50].tolist() != other[:50].tolist()


def test_lengths_are_distributed_as_published():
    bptt = Bptt()
    lengths = np.concatenate(
        [bptt.lengths(100_000, seed=0, epoch=epoch)[:-1] for epoch in range(10)]
    )
    halves = lengths < 52
    assert abs(halves.mean() - 0.05) < 0.006  # 14,700 draws: a deviation is 0.0018
    # int() takes half a position off the mean, the cut at 80 a little more
    assert abs(lengths[~halves].mean() - 69.5) < 0.3
    assert abs(lengths[halves].mean() - 34.5) < 0.7
    assert abs(lengths[~halves].std() - 5) < 0.25
    assert lengths.max() == bptt.size == 80
    assert lengths.min() >= 5


@pytest.mark.parametrize("length", [5, 7])
def test_none_but_the_last_window_is_too_short(length):
    lengths = Bptt(length, 6.0).lengths(10_000, seed=0, epoch=0)
    assert lengths[:-1].min() == 5
    assert lengths.sum() == 10_000


def test_all_alike_without_deviation():
    lengths = Bptt(8, 0.0).lengths(62, seed=0, epoch=0)
    assert lengths.tolist() == [8] * 7 + [6]
    assert Bptt(8, 0.0).size == 8
    assert Bptt(8, 0.0).lengths(64, seed=0, epoch=0).tolist() == [8] * 8


def test_the_iterator_goes_on_where_its_state_says():
    windows = reader()
    iterator = Batches(windows, len(windows), threads=0)
    seen = [next(iterator) for _ in range(9)]
    state = iterator.get_state()
    expected = list(iterator)
    assert len(seen) + len(expected) == len(windows)
    again = Batches(reader(), len(windows), threads=2)
    again.set_state(state)
    found = list(again)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("columns", "size"), [(1, 7), (3, 7), (4, 63), (5, 80)])
def test_a_passage_has_every_token_but_the_first_as_a_target_once(columns, size):
    passage = passage_of(TEXT, columns, size)
    windows, rows, width = passage.tokens.shape
    assert (rows, width) == (columns, size)
    pairs = []
    for row in range(rows):
        before = None
        for window in range(windows):
            for t in range(width):
                if passage.weights[window, row, t] == 0:
                    continue
                assert passage.weights[window, row, t] == 1
                pair = passage.tokens[window, row, t], passage.targets[window, row, t]
                # the state that is carried on is that of the token before
                assert before is None or pair[0] == before
                before = pair[1]
                pairs.append(pair)
    assert pairs == list(zip(TEXT[:-1].tolist(), TEXT[1:].tolist(), strict=True))


def test_more_columns_than_targets():
    passage = passage_of(TEXT[:4], 10, 5)
    assert passage.tokens.shape == (1, 3, 5)
    assert passage.weights.sum() == 3
