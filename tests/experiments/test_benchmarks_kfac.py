"""The K-FAC benchmark on toys: what it measures, not how fast anything is."""

import csv
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.benchmarks import _kfac_networks, _kfac_report, kfac
from experiments.benchmarks._measure import Spread
from experiments.benchmarks._peer import Peer
from experiments.errors import ExperimentError

QUICK = ["--repeats", "1", "--inverse-every", "3", "--batch", "4"]


@pytest.mark.parametrize(
    ("network", "parameters", "shape"),
    [("autoencoder", 2_837_314, (784,)), ("convnet", 93_962, (16, 16, 1))],
)
def test_networks_are_those_of_the_bars(network, parameters, shape):
    task = _kfac_networks.build(network, 2, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(task.params)) == parameters
    inputs, labels = task.batch(0)
    assert inputs.shape == (2, *shape)
    assert inputs.dtype == np.float32
    assert 0 <= inputs.min() < inputs.max() <= 1
    outputs = task.model.apply({"params": task.params}, inputs)
    assert np.isfinite(task.loss_fn(outputs, (inputs, labels)))


@pytest.mark.slow  # compiles ten programs
def test_rows_hold_times_ratios_and_source(tmp_path):
    out = tmp_path / "out"
    arguments = ["--networks", "toy_convnet", "--damping-modes", "factored"]
    assert kfac.main([*QUICK, *arguments, "--out", str(out)]) == 0
    with open(out / "kfac.csv", newline="") as file:
        table = list(csv.DictReader(file))
    step = ["step, inverses every 3", "step with inverses", "step without"]
    parts = ["gradient", "gradient and factors", "averages of factors", "inverses"]
    assert [row["work"] for row in table] == [
        *("step", "compiling"),
        *(*step, "compiling"),
        *(*parts, "preconditioning"),
    ]
    for row in table:
        for name in ("milliseconds", "ratio"):
            low, mid, high = (float(row[name + end]) for end in ("_q1", "", "_q3"))
            assert 0 < low <= mid <= high
        assert row["batch"] == "4"
        assert row["device"]
        assert row["bar"] == row["peer_bar"] == row["passed"] == ""  # none for toys


def row(ratio, peer_ratio):
    return _kfac_report.Row(
        network="autoencoder",
        parameters=1,
        batch=1,
        entry="kfac factored",
        work=_kfac_report.STEP,
        milliseconds=Spread.of([1.0]),
        ratio=Spread.of([ratio]),
        peer_ratio=None if peer_ratio is None else Spread.of([peer_ratio]),
        bar=_kfac_report.SGD_BAR,
        peer_bar=None if peer_ratio is None else _kfac_report.PEER_BAR,
    )


@pytest.mark.parametrize(
    ("ratio", "peer_ratio", "passed"),
    [(2.5, None, True), (2.6, None, False), (2.4, 1.1, False), (2.4, 0.9, True)],
)
def test_a_row_passes_if_it_is_within_all_its_bars(ratio, peer_ratio, passed):
    assert row(ratio, peer_ratio).passed is passed


def test_a_peer_answers_in_an_interpreter_of_its_own(tmp_path, monkeypatch):
    script = tmp_path / "echo.py"
    script.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    request = json.loads(line)\n"
        "    if request['do'] == 'stop': sys.exit(3)\n"
        "    print(json.dumps({'got': request}), flush=True)\n"
    )
    monkeypatch.setattr("experiments.benchmarks._peer.__file__", str(script))
    with Peer(sys.executable, "echo.py") as peer:
        assert peer.ask("a", b=1) == {"got": {"do": "a", "b": 1}}
        with pytest.raises(ExperimentError, match="status 3 when asked to stop"):
            peer.ask("stop")


@pytest.mark.parametrize("given", [None, "3"])
def test_decompositions_take_one_thread_unless_told_otherwise(given):
    name = "OPENBLAS_NUM_THREADS"
    environment = {key: value for key, value in os.environ.items() if key != name}
    if given is not None:
        environment[name] = given
    code = (
        "import experiments.__main__, os, sys\n"
        f"print(os.environ['{name}'], 'jax' in sys.modules, 'scipy' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # set before OpenBLAS is loaded, or it has no effect
    assert said == f"{given or 1} False False\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "huge"], "convnet"),
        (["--batch", "0"], "batch must be >= 1, got 0"),
        (["--repeats", "0"], "repeats must be >= 1, got 0"),
        (["--train-steps", "-1"], "train-steps must be >= 0, got -1"),
        (["--inverse-every", "2"], "inverse-every must be >= 3, got 2"),
        (["--peer", "no/such/python"], "peer must be a Python interpreter"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, tmp_path):
    arguments = [*arguments, "--out", str(tmp_path / "out")]
    with pytest.raises(ExperimentError, match=message):
        kfac.main(arguments)
