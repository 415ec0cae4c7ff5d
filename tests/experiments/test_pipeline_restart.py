"""Batches of a run read ahead: their place after a restart, threads and workers."""

import subprocess
import sys
import textwrap

import grain
import orbax.checkpoint as ocp
import pytest

from experiments.errors import ExperimentError
from tests.experiments.numbered import assert_same, batches, records


@pytest.mark.parametrize("taken", [0, 4, 9])
def test_restored_in_the_middle_of_an_epoch(taken, tmp_path):
    first = batches()
    for _ in range(taken):
        next(first)
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(0, args=grain.checkpoint.CheckpointSave(first))
        manager.wait_until_finished()
        second = batches()
        next(second)  # wherever it was
        manager.restore(0, args=grain.checkpoint.CheckpointRestore(second))
    assert second.get_state() == {"step": taken}
    rest = list(second)
    assert len(rest) == 9 - taken
    if rest:
        assert_same(first, rest)


def test_restored_with_other_hosts_and_readers():
    alone = batches(put=lambda batch: batch)
    for _ in range(5):
        next(alone)
    host = batches(process_index=1, process_count=2, prefetch=1)
    host.set_state(alone.get_state())
    images, labels = next(alone)
    assert_same([(images[3:], labels[3:])], [next(host)])


def test_put_is_called_on_every_batch_in_order():
    found = list(batches(put=lambda batch: batch[1] + 100))
    assert_same([(labels + 100,) for _, labels in batches()], [(f,) for f in found])


def test_closed_iterator_ends_its_threads():
    iterator = batches()
    next(iterator)
    iterator.close()
    with pytest.raises(ValueError, match="closed"):
        next(iterator)


def test_position_out_of_the_run():
    with pytest.raises(ExperimentError, match="between 0 and 9, .* got 10"):
        batches().set_state({"step": 10})


def test_worker_processes_change_nothing():
    alone = batches()
    for _ in range(2):
        next(alone)
    reader = batches(worker_count=2)
    reader.set_state(alone.get_state())
    assert_same([next(alone) for _ in range(3)], [next(reader) for _ in range(3)])
    assert reader.get_state() == alone.get_state()
    reader.close()


@pytest.mark.slow
def test_error_in_a_worker_is_as_without():
    reader = batches(records(image_shape=(2, 2, 1)), worker_count=1)
    with pytest.raises(ExperimentError, match=r"numbered: record \d+ gives"):
        next(reader)
    reader.close()


@pytest.mark.slow
def test_nothing_shared_with_workers_is_left_behind():
    """What is left is said to be leaked when the program ends."""
    code = """
        from tests.experiments.numbered import batches

        if __name__ == "__main__":
            reader = batches(worker_count=2)
            kept = list(reader)
            reader.close()
            print(len(kept))
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert (ended.stdout, ended.stderr) == ("9\n", "")
