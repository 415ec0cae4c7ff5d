"""The engine that all loops share, on a task that compiles in no time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia
from experiments.checkpoints import Checkpoints
from experiments.errors import ExperimentError
from experiments.loops.engine import Preempted, fit, locate
from tests.experiments.tiny import TRUE, Line, points

STEPS = 3 + 4 + 3 + 4


def train(task=None, **arguments):
    rows = []
    training, found = fit(task or Line(), on_epoch=rows.append, **arguments)
    return training, found, rows


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_epochs_of_their_own_lengths_give_rows_of_means():
    training, found, rows = train()
    assert [(row["epoch"], row["step"]) for row in rows] == [
        (1, 3),
        (2, 7),
        (3, 10),
        (4, 14),
    ]
    assert [row["count"] for row in rows] == [3, 104, 203, 304]  # set, then carried
    assert (found.step, found.epoch, found.first_step) == (14, 4, 0)
    assert found.stopped == "end"
    assert found.steps_per_second > 0
    # the first epoch by hand, by the plain rule of Adam
    weights, moments = np.zeros(3), np.zeros((2, 3))
    losses, norms, moves = [], [], []
    for step in range(3):
        inputs, targets = points(0, step)
        errors = inputs @ weights - targets
        gradient = 2 * inputs.T @ errors / len(errors)
        moments[0] = 0.9 * moments[0] + 0.1 * gradient
        moments[1] = 0.999 * moments[1] + 0.001 * gradient**2
        first = moments[0] / (1 - 0.9 ** (step + 1))
        second = moments[1] / (1 - 0.999 ** (step + 1))
        decay = optax_ia.get_record("gadam").defaults.get("weight_decay", 0.0)
        move = 0.03 * (first / (np.sqrt(second) + 1e-8) + decay * weights)
        losses.append(np.mean(errors**2))
        norms.append(np.linalg.norm(gradient))
        moves.append(np.linalg.norm(move))
        weights = weights - move
    assert rows[0]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert rows[0]["gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-5)
    assert rows[0]["distance"] == pytest.approx(np.abs(weights - TRUE).max(), rel=1e-3)
    assert rows[0]["update_norm"] == pytest.approx(np.mean(moves), rel=1e-2)
    assert all(float(total) == 0 for total in training.totals.values())


def test_where_a_step_is():
    task = Line(epochs=3)
    places = [locate(task, step) for step in (0, 2, 3, 6, 7, 9, 10)]
    assert places == [(0, 0), (0, 2), (1, 0), (1, 3), (2, 0), (2, 2), (3, 0)]


def test_a_task_may_stop_between_epochs():
    _, found, rows = train(Line(stop_after=5))
    assert found.stopped == "trigger"
    assert (found.step, found.epoch, len(rows)) == (7, 2, 2)


@pytest.mark.parametrize(
    ("leave_at", "every"),
    [(1, 5), (2, 5), (3, 1), (4, 5), (5, 5), (6, 4), (7, 5), (10, 5), (13, 4), (14, 5)],
)
def test_left_anywhere_and_gone_on_with_is_as_in_one_go(tmp_path, leave_at, every):
    whole, _, expected = train()
    rows = []

    def run(**arguments):
        with Checkpoints(tmp_path, every=every) as checkpoints:
            return fit(
                Line(), on_epoch=rows.append, checkpoints=checkpoints, **arguments
            )

    with pytest.raises(Preempted, match=f"step {leave_at}"):
        run(preempted=lambda step: step == leave_at)
    starts = []
    training, found = run(on_start=lambda step, epoch: starts.append((step, epoch)))
    assert starts == [(leave_at, locate(Line(), leave_at)[0])]
    assert found.first_step == leave_at
    assert rows == expected
    assert_same(training, whole)


def test_only_the_best_and_the_newest_epochs_are_on_disk(tmp_path):
    with Checkpoints(tmp_path, every=100) as checkpoints:
        _, _, rows = train(checkpoints=checkpoints)
        scores = [row["distance"] for row in rows]
        best = rows[int(np.argmin(scores))]["step"]
        assert checkpoints.best == best
        assert checkpoints.scores == [(row["step"], row["distance"]) for row in rows]
    assert {best, STEPS} <= {int(path.name) for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("spoilt", "every"), [(1, 1), (1, 100), (5, 4), (6, 4), (7, 100), (14, 1)]
)
def test_a_loss_that_is_not_finite_is_found_at_its_step(tmp_path, spoilt, every):
    _, _, good = train()
    epoch, before = locate(Line(), spoilt - 1)
    with (
        pytest.raises(ExperimentError) as caught,
        Checkpoints(tmp_path, every=every) as checkpoints,
    ):
        train(Line(spoilt=(spoilt,)), checkpoints=checkpoints)
    message = str(caught.value)
    assert "\n" not in message
    assert f"not finite at step {spoilt}, in epoch {epoch + 1};" in message
    if epoch:
        row = good[epoch - 1]
        assert f"after epoch {epoch}: train_loss {row['train_loss']:.4g}" in message
    if before:
        assert "means of the steps of this epoch before it: loss " in message
    with Checkpoints(tmp_path, every=every, read_only=True) as checkpoints:
        training, step = checkpoints.restore(Line().init(), None)
    # none was written after it
    assert step < spoilt
    assert step >= max(0, spoilt - every) or every == 100
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(training))
    where = f"look at the checkpoint {tmp_path / str(step)}"
    assert message.endswith(where if step else f"no checkpoint yet in {tmp_path}")


def test_the_means_before_a_bad_step_are_exact():
    _, _, good = train(Line(epochs=1))
    with pytest.raises(ExperimentError) as caught:
        train(Line(spoilt=(7,)))  # the last of the second epoch, three before it
    told = str(caught.value).partition("before it: ")[2].partition(";")[0]
    means = dict(part.split(" ") for part in told.split(", "))
    losses = []
    task = Line()
    training, batches = task.init(), task.batches()
    for step in range(6):
        before = float(training.totals["loss"])
        training = task.step(training, next(batches), step)
        losses.append(float(training.totals["loss"]) - before)
    assert float(means["loss"]) == pytest.approx(np.mean(losses[3:]), rel=1e-3)
    assert f"after epoch 1: train_loss {good[0]['train_loss']:.4g}" in str(caught.value)


def test_a_diverged_run_may_be_recorded():
    _, found, rows = train(Line(spoilt=(5,)), on_nan="record")
    assert found.step == STEPS
    assert rows[0]["train_loss"] is not None
    assert rows[1]["train_loss"] is None


def test_skipped_updates_are_as_if_their_batches_were_not_there():
    bad = (2, 5, 6)
    training, _, rows = train(Line(spoilt=bad, skip=True), on_nan="skip")
    assert [row["skipped"] for row in rows] == [1, 2, 0, 0]
    assert all(np.isfinite(row["train_loss"]) for row in rows)

    task = Line(skip=True)
    other = task.init()
    losses = []
    for step in range(STEPS):
        if step + 1 not in bad:
            before = float(other.totals["loss"])
            other = task.step(other, points(0, step), step)
            losses.append(float(other.totals["loss"]) - before)
    np.testing.assert_array_equal(
        training.state.params["weights"], other.state.params["weights"]
    )
    assert_same(training.state.batch_stats, other.state.batch_stats)
    assert optax_ia.num_averaged(training.state.opt_state) == optax_ia.num_averaged(
        other.state.opt_state
    )
    assert rows[0]["train_loss"] == pytest.approx(np.mean(losses[:2]), rel=1e-5)
    assert rows[1]["train_loss"] == pytest.approx(np.mean(losses[2:4]), rel=1e-5)
    assert int(training.state.step) == STEPS


def test_skipping_changes_nothing_where_all_is_finite():
    _, _, expected = train()
    _, _, rows = train(Line(skip=True), on_nan="skip")
    for row, other in zip(rows, expected, strict=True):
        assert (row.pop("skipped"), row.pop("total_notfinite")) == (0, 0)
        assert row.keys() == other.keys()
        for name in ("train_loss", "distance", "gradient_norm", "update_norm"):
            assert row[name] == pytest.approx(other[name], rel=1e-5)


def test_a_run_that_skips_everything_is_lost(tmp_path):
    task = Line(spoilt=tuple(range(8, 30)), skip=True, epochs=10)
    message = "not finite at step 8 and at the 10 steps after it, up to epoch 6"
    with (
        pytest.raises(ExperimentError, match=message),
        Checkpoints(tmp_path, every=2) as checkpoints,
    ):
        train(task, on_nan="skip", checkpoints=checkpoints)


def test_skipping_needs_a_task_that_can():
    with pytest.raises(ExperimentError, match="--on-nan must be stop for this task"):
        train(on_nan="skip")


def test_no_update_waits_for_the_host(monkeypatch):
    """The watch reads a number off the device at the ends of epochs alone."""
    reads = []
    whole = type(jnp.zeros(())).__int__

    def counted(array):
        reads.append(1)
        return whole(array)

    monkeypatch.setattr(type(jnp.zeros(())), "__int__", counted)
    train()
    assert len(reads) <= 4 * 2
