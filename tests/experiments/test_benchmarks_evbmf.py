"""The EVBMF benchmark on a toy: what it measures, not how fast anything is."""

import csv
import math

import numpy as np
import pytest

from experiments.benchmarks import _evbmf_routes as routes
from experiments.benchmarks import evbmf
from experiments.benchmarks._measure import Spread
from experiments.benchmarks._trees import TREES
from experiments.benchmarks.shampoo import shapes as shampoo_shapes
from experiments.errors import ExperimentError
from tests.reference import evbmf as reference


@pytest.mark.parametrize(
    ("network", "matrices", "parameters"),
    [
        ("resnet18", 21, 11_678_912),
        ("resnet34", 37, 21_779_648),
        ("resnet50", 54, 25_502_912),
        ("resnet101", 105, 44_442_816),
    ],
)
def test_the_shapes_are_the_resnets(network, matrices, parameters):
    shapes = list(routes.kernel_shapes(network))
    assert len(shapes) == matrices
    assert sum(map(math.prod, shapes)) == parameters


def test_the_shapes_are_those_of_the_other_benchmarks():
    expected = [shape for shape in TREES["resnet50"]() if len(shape) > 1]
    assert sorted(routes.kernel_shapes("resnet50")) == sorted(expected)
    expected = [shape for shape in shampoo_shapes("resnet18") if len(shape) > 1]
    assert sorted(routes.kernel_shapes("resnet18")) == sorted(expected)


def test_the_released_route_is_the_transcription_up_to_its_search():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(20, 3)) @ rng.normal(size=(3, 60))
    matrix += 0.5 * rng.normal(size=matrix.shape)
    found = routes.released_spectrum(matrix)
    d, sigma2 = reference.evbmf(matrix)
    assert len(found.values) == len(d) == 3
    np.testing.assert_allclose(found.values, d, rtol=1e-5)
    np.testing.assert_allclose(found.sigma2, sigma2, rtol=1e-4)


def test_kernels_have_low_rank_and_noise():
    kernels = routes.build("toy", 0)
    assert {kernel.dtype for kernel in kernels.values()} == {np.dtype(np.float32)}
    assert (
        len(routes.released(kernels)) == len(routes.distinct_unfoldings(kernels)) == 4
    )
    again = routes.build("toy", 0)
    assert all((kernels[path] == again[path]).all() for path in kernels)


@pytest.mark.slow  # compiles seven programs
def test_rows_hold_times_errors_and_source(tmp_path):
    out = tmp_path / "out"
    assert evbmf.main(["--networks", "toy", "--repeats", "2", "--out", str(out)]) == 0
    with open(out / "evbmf.csv", newline="") as file:
        table = list(csv.DictReader(file))
    names = [route.name for route in routes.ROUTES]
    assert [row["route"] for row in table] == [evbmf.RELEASED, *names]
    for row in table:
        for name in ("seconds", "speedup"):
            low, mid, high = (float(row[name + end]) for end in ("_q1", "", "_q3"))
            assert 0 < low <= mid <= high
        assert (row["compile_seconds"] == "") == (row["route"] == evbmf.RELEASED)
        assert row["rank_differences"] == "0"
        assert float(row["sigma2_error"]) < 1e-3
        assert row["speedup_bar"] == row["passed"] == ""  # a toy has no bars
        assert row["device"]


def test_bars_are_those_asked_for():
    assert (evbmf.SPEEDUP_BAR, evbmf.COMPILE_BAR) == (8.0, 15.0)
    assert evbmf.SECONDS_BARS == {"resnet50": 1.0}

    def row(speedup, seconds, compiling):
        return evbmf.Row(
            network="resnet50",
            matrices=71,
            route=evbmf.BARRED,
            seconds=Spread.of([seconds]),
            speedup=Spread.of([speedup]),
            compile_seconds=compiling,
            rank_differences=0,
            sigma2_error=0.0,
            value_error=0.0,
            speedup_bar=8.0,
            seconds_bar=1.0,
            compile_bar=15.0,
        )

    assert row(8.1, 0.9, 14.0).passed
    assert not row(7.9, 0.9, 14.0).passed
    assert not row(8.1, 1.1, 14.0).passed
    assert not row(8.1, 0.9, 16.0).passed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "huge"], "resnet18"),
        (["--networks"], "networks is empty"),
        (["--repeats", "0"], "repeats must be >= 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ExperimentError, match=message):
        evbmf.main(arguments)
