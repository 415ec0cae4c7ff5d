"""The models benchmark on toys: what it measures, not how fast anything is."""

import csv
import sys

import numpy as np
import pytest

from experiments.benchmarks import _models_networks, _models_report, models
from experiments.benchmarks._measure import Spread
from experiments.errors import ExperimentError

QUICK = ["--repeats", "2", "--block-seconds", "0.001", "--batch", "2"]


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow  # compiles two training steps
def test_rows_hold_times_and_source(tmp_path):
    out = tmp_path / "out"
    arguments = ["--networks", "vgg_tiny", "awd_lstm_tiny", "--out", str(out)]
    assert models.main([*QUICK, *arguments]) == 0
    table = read(out / "models.csv")
    assert [row["network"] for row in table] == ["vgg_tiny", "awd_lstm_tiny"]
    # 3 x 3 from 3 to 4 and to 8 channels, their norms, a dense layer on 2 x 2 x 8
    assert int(table[0]["parameters"]) == 108 + 288 + 24 + 330
    for row in table:
        for name in ("milliseconds", "cpu_milliseconds"):
            low, mid, high = (float(row[name + end]) for end in ("_q1", "", "_q3"))
            assert 0 < low <= mid <= high
        rate = 2e3 / float(row["milliseconds"])
        assert float(row["examples_per_second"]) == pytest.approx(rate)
        assert float(row["compile_seconds"]) > 0
        assert row["entry"] == "optax_ia"
        assert row["device"]
        assert row["ratio"] == row["bar"] == row["passed"] == ""  # no peer


PEER = """
import json, sys
import numpy as np

LOSS = {loss}
for line in sys.stdin:
    request = json.loads(line)
    answer = dict(wall=0.5, cpu=0.25, loss=LOSS)
    if request["do"] == "load":
        arrays = np.load(request["path"])
        assert arrays["inputs"].shape == (2, 8, 8, 3), arrays["inputs"].shape
        assert arrays["params/ConvBlock_0/Conv_0/kernel"].shape == (3, 3, 3, 4)
        assert request["kind"] == "vgg" and request["threads"] >= 1
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A peer that says what it is told to: how it is asked, and what is made of it."""

    def make(loss):
        script = tmp_path / "_torch_models_peer.py"
        script.write_text(PEER.format(loss=loss))
        monkeypatch.setattr("experiments.benchmarks._peer.__file__", str(script))
        out = tmp_path / "out"
        arguments = ["--networks", "vgg_tiny", "--peer", sys.executable]
        return [*QUICK, *arguments, "--out", str(out)], out

    return make


@pytest.mark.slow  # compiles a training step and a loss
def test_a_peer_with_the_same_loss_is_compared_with(stand_in):
    loss = _models_networks.Task("vgg_tiny", 2).loss()
    assert np.isfinite(loss)
    assert loss > 0
    arguments, out = stand_in(loss)
    assert models.main(arguments) == 0
    own, *others = read(out / "models.csv")
    assert [row["entry"] for row in others] == ["PyTorch", "PyTorch channels_last"]
    for row in others:
        assert float(row["milliseconds"]) == pytest.approx(500)
        assert float(row["loss_difference"]) == pytest.approx(0, abs=1e-6)
        for name, theirs in (("ratio", 500), ("cpu_ratio", 250)):
            prefix = "cpu_" if name == "cpu_ratio" else ""
            mine = float(own[f"{prefix}milliseconds"])
            assert float(row[name]) == pytest.approx(mine / theirs)


@pytest.mark.slow  # compiles a loss
def test_a_peer_with_another_loss_is_another_network(stand_in):
    arguments, _ = stand_in(1e6)
    with pytest.raises(ExperimentError, match=r"vgg_tiny is another network there"):
        models.main(arguments)


@pytest.mark.parametrize(("network", "setting"), _models_networks.SETTINGS.items())
def test_bars_are_those_asked_for(network, setting):
    toy = network in ("vgg_tiny", "awd_lstm_tiny")
    assert setting.toy is toy
    if network in ("resnet20", "vgg_small"):
        assert setting.bar == 1.5
    else:
        assert setting.bar == (None if toy else 1.1)


@pytest.mark.parametrize(
    ("ratio", "bar", "passed"),
    [(1.4, 1.5, True), (1.6, 1.5, False), (1.4, None, None), (None, 1.5, None)],
)
def test_a_row_passes_if_it_is_within_its_bar(ratio, bar, passed):
    row = _models_report.Row(
        network="resnet20",
        parameters=1,
        batch=1,
        entry="PyTorch",
        threads=1,
        milliseconds=Spread.of([1.0]),
        cpu_milliseconds=Spread.of([1.0]),
        examples_per_second=1.0,
        ratio=None if ratio is None else Spread.of([ratio]),
        bar=bar,
    )
    assert row.passed is passed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "huge"], "vgg_small"),
        (["--networks"], "networks"),
        (["--batch", "0"], "batch must be >= 1, got 0"),
        (["--repeats", "0"], "repeats must be >= 1, got 0"),
        (["--block-seconds", "0"], "block-seconds must be > 0"),
        (["--peer", "no/such/python"], "peer must be a Python interpreter"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, tmp_path):
    arguments = [*arguments, "--out", str(tmp_path / "out")]
    with pytest.raises(ExperimentError, match=message):
        models.main(arguments)
