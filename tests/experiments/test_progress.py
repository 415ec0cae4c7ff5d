"""Progress: bars in a terminal, plain lines elsewhere."""

import io
import re

import pytest
from rich.console import Console

from experiments.progress import LiveProgress, describe


def row(epoch, loss=0.5, average=None):
    return {
        "epoch": epoch,
        "train_loss": loss,
        "validation_accuracy": 0.9,
        "average_validation_accuracy": average,
    }


def follow(console, *, stop_after=10):
    with LiveProgress(console, 2) as progress:
        for seed in (0, 1):
            progress.begin(f"swa, seed {seed}", 10)
            for epoch in range(1, stop_after + 1):
                progress.epoch(row(epoch, average=0.95 if epoch > 5 else None))
            progress.end()
    return console.file.getvalue()


def test_plain_lines_say_epoch_loss_accuracy_and_time_left():
    lines = follow(Console(file=io.StringIO(), width=40)).splitlines()
    assert len(lines) == 2 * 6
    assert lines[0] == "[1/2] swa, seed 0: 10 epochs"
    pattern = r"\[2/2\] swa, seed 1: epoch 8/10, loss 0.5, acc 90.0 %, avg 95.0 %, "
    assert re.fullmatch(pattern + r"\d+ s left", lines[-2])
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize("stop_after", [10, 3])  # a run may end early
def test_bars_fit_and_finished_runs_leave_a_line(stop_after):
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    shown = re.sub(
        r"\x1b\[[0-9;?]*[A-Za-z]", "", follow(console, stop_after=stop_after)
    )
    lines = re.split(r"[\r\n]+", shown)
    assert max(map(len, lines)) <= 80
    last = f"epoch {stop_after}/10, loss 0.5, acc 90.0 %"
    assert any(line.startswith(f"swa, seed 1     {last}") for line in lines)
    assert any(line.startswith("all runs") and "2 of 2" in line for line in lines)


def test_a_diverged_run_is_said_to_be():
    assert describe(row(3, loss=None), 5) == "epoch 3/5, loss not finite, acc 90.0 %"


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (
            {"validation_perplexity": 104.26, "average_validation_perplexity": 98.0},
            "ppl 104.3, avg 98",
        ),
        ({"validation_perplexity": None}, ""),
        (
            {"wasserstein_estimate": 0.1234, "frechet_distance": 12.34},
            "W 0.123, FD 12.3",
        ),
        ({"seed": 3, "distance": 0.25, "count": 7.0, "norm": 1.0}, "distance 0.25, co"),
    ],
)
def test_rows_of_other_tasks(values, shown):
    text = describe({"epoch": 2, "train_loss": 4.0, **values}, 9)
    head = "epoch 2/9, loss 4"
    assert text.startswith(f"{head}, {shown}" if shown else head)
    assert shown or text == head
