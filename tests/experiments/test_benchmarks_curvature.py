"""The curvature benchmark on a toy: what it measures, not how fast anything is."""

import csv

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks import curvature
from experiments.errors import ExperimentError

pytestmark = pytest.mark.slow  # trains or compiles for a minute and more

QUICK = ["--networks", "toy", "--batch-size", "2", "--block-seconds", "0.001"]


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("network", "parameters"), [("100k", 94538), ("1m", 964938)])
def test_networks_have_the_size_they_are_called_by(network, parameters):
    params, (images, labels) = jax.eval_shape(
        lambda key: curvature.build(network, 256, key), jax.random.key(0)
    )
    assert size(params) == parameters
    assert (images.shape, labels.shape) == ((256, 16, 16, 3), (256,))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_the_loss_begins_near_that_of_guessing():
    params, batch = curvature.build("toy", 4, jax.random.key(0))
    loss = curvature.loss_fn(params, batch)
    assert loss.dtype == jnp.float32
    assert loss == pytest.approx(jnp.log(10.0), abs=1.5)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmarks") / "curvature"
    arguments = [*QUICK, "--steps", "3", "5", "--repeats", "2", "--out", str(out)]
    assert curvature.main(arguments) == 0
    with open(out / "curvature.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_kind_of_work_has_its_row(table):
    inner, step = "Lanczos step without it", "Lanczos step"
    assert [(row["work"], row["steps"]) for row in table] == [
        ("gradient", ""),
        ("Hessian product", ""),
        *((work, steps) for steps in ("3", "5") for work in (inner, step)),
    ]


def test_rows_hold_times_ratios_and_source(table):
    for row in table:
        for name in ("milliseconds", "gradients"):
            low, mid, high = (float(row[name + end]) for end in ("_q1", "", "_q3"))
            assert 0 < low <= mid <= high
        assert (row["compile_seconds"] == "") == (row["work"] == "Lanczos step")
        assert row["device"]
        assert "optax" in row["versions"]
        assert row["parameters"] == "458"
        assert row["bar"] == row["passed"] == ""  # none for a toy
    assert float(table[0]["compile_seconds"]) > 0
    assert float(table[1]["compile_seconds"]) > 0


def test_bars_stand_on_the_large_networks():
    def row(network, work, steps, seconds):
        return curvature._row(network, 7, work, steps, [(seconds, 1.0)], 1, None)

    product = row("100k", "Hessian product", None, 2.2)
    assert (product.bar, product.passed) == (2.3, True)
    step = row("1m", "Lanczos step", 50, 2.6)
    assert (step.bar, step.passed) == (2.5, False)
    longer = row("1m", "Lanczos step", 100, 9.0)
    assert (longer.bar, longer.passed) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "huge"], "1m"),
        (["--repeats", "0"], "repeats must be >= 1, got 0"),
        (["--batch-size", "0"], "batch-size must be >= 1, got 0"),
        (["--block-seconds", "0"], "block-seconds must be > 0"),
        (["--steps", "50", "0"], r"steps must be >= 1, got \(50, 0\)"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ExperimentError, match=message):
        curvature.main(arguments)
