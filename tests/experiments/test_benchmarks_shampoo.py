"""The Shampoo benchmark on a toy: what it measures, not how fast anything is."""

import csv
import math

import pytest

from experiments.benchmarks import _shampoo_report, shampoo
from experiments.benchmarks._peer import Peer
from experiments.errors import ExperimentError

QUICK = ["--network", "toy", "--repeats", "2", "--root-repeats", "1"]
QUICK += ["--compile-repeats", "1", "--block-seconds", "0.001"]
QUICK += ["--block-sizes", "4", "--graftings", "sgd"]


def test_the_network_is_resnet_18():
    shapes = list(shampoo.shapes("resnet18"))
    assert len(shapes) == 62
    assert sum(math.prod(shape) for shape in shapes) == 11_689_512


@pytest.mark.slow  # compiles three programs
def test_rows_hold_times_ratios_and_source(tmp_path):
    out = tmp_path / "out"
    assert shampoo.main([*QUICK, "--out", str(out)]) == 0
    with open(out / "shampoo.csv", newline="") as file:
        table = list(csv.DictReader(file))
    work = ["between roots", "with roots", "roots every 10", "roots every 100"]
    assert [row["work"] for row in table] == ["", *work, *work]
    for row in table:
        for name in ("milliseconds", "ratio", "compile_seconds"):
            low, mid, high = (float(row[name + end]) for end in ("_q1", "", "_q3"))
            assert 0 < low <= mid <= high
        assert int(row["state_bytes"]) > 0
        assert row["device"]
        assert row["bar"] == row["passed"] == ""  # for blocks of 128 alone


class Stub(Peer):
    """A peer whose AdamW takes 2 ms, its steps 10 ms and those with roots 100 ms."""

    def __init__(self):
        self.every, self.shapes = None, None

    def ask(self, do, **arguments):
        if do == "load":
            self.shapes = arguments["shapes"]
            return {"peers": ["SOAP"]}
        if do == "start":
            self.every = arguments["every"]
        if do != "block":
            return {}
        own = 0.1 if self.every == 1 else 0.01
        seconds = 0.002 if arguments["name"] == "AdamW" else own
        return {"seconds": [seconds] * arguments["steps"]}


def test_peers_are_measured_in_their_own_adamw():
    peer = Stub()
    rows = list(shampoo.measure_peers(peer, shampoo.ShampooConfig(network="toy")))
    assert peer.shapes == [[8, 4, 3, 3], [8], [10, 8], [10]]
    assert {row.entry for row in rows} == {"PyTorch SOAP"}
    assert {row.work: round(row.ratio.median, 9) for row in rows} == {
        "between roots": 5,
        "with roots": 50,
        "roots every 10": 9.5,
        "roots every 100": 5.45,
    }
    assert all(row.passed is None and row.compile_seconds is None for row in rows)


def test_bars_are_those_asked_for():
    assert _shampoo_report.BARS == {
        "between roots": 8.0,
        "roots every 10": 14.0,
        "roots every 100": 9.0,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "huge"], "resnet18"),
        (["--repeats", "0"], "repeats must be >= 1, got 0"),
        (["--root-repeats", "0"], "root-repeats must be >= 1, got 0"),
        (["--block-sizes", "0"], r"block-sizes must be >= 1, got \(0,\)"),
        (["--block-seconds", "0"], "block-seconds must be > 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ExperimentError, match=message):
        shampoo.main(arguments)
