"""The noisy quadratic against its formulas, to within the spread over seeds."""

import csv
import dataclasses

import jax
import numpy as np
import pytest
import scipy.stats

from experiments import theory
from experiments.errors import ExperimentError
from experiments.theory import POINTS, Quadratic

SEEDS = 48
GRID = [(name, problem) for name in theory.SWEEPS for problem in theory.SWEEPS[name]]
FALSE_ALARM = 1e-3  # chance that a right formula fails anywhere in one test


def threshold(comparisons):
    """Standard errors that chance stays within, in all comparisons together."""
    return scipy.stats.t.ppf(1 - FALSE_ALARM / (2 * comparisons), SEEDS - 1)


@pytest.fixture(scope="module")
def norms():
    keys = jax.random.split(jax.random.key(7), len(GRID))
    return [
        row
        for (sweep, problem), key in zip(GRID, keys, strict=True)
        for row in theory.norm_rows(sweep, problem, key, seeds=SEEDS)
    ]


@pytest.fixture(scope="module")
def regrets():
    keys = jax.random.split(jax.random.key(8), len(theory.REGRETS))
    return [
        row
        for problem, key in zip(theory.REGRETS, keys, strict=True)
        for row in theory.regret_rows(problem, key, seeds=SEEDS)
    ]


def z_of_printed(row):
    error_of_square = 2 * row.measured * row.error
    return (row.measured**2 - row.printed**2) / error_of_square


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_norms_agree_with_the_derived_formulas(norms, point):
    rows = [row for row in norms if row.point == point]
    limit = threshold(len(rows))
    assert len(rows) == len(GRID)
    assert {row.sweep: row.z for row in rows if abs(row.z) > limit} == {}


@pytest.mark.slow
def test_theorem_1_is_right_for_the_last_iterate(norms):
    rows = [row for row in norms if row.point == "last"]
    assert max(abs(z_of_printed(row)) for row in rows) < threshold(len(rows))


@pytest.mark.slow
def test_the_printed_average_has_one_alpha_too_many(norms):
    for row in norms:
        if row.point == "tail" and row.sweep == "steps":
            assert abs(z_of_printed(row)) > threshold(1)
    at_one = Quadratic(learning_rate=1.0, steps=100_000)
    printed = theory.printed_square(at_one, "tail")
    assert printed == pytest.approx(theory.derived_square(at_one, "tail"), rel=1e-3)
    smaller = dataclasses.replace(at_one, learning_rate=0.25)
    ratio = theory.printed_square(smaller, "tail") / theory.derived_square(
        smaller, "tail"
    )
    assert ratio == pytest.approx(0.25, rel=1e-2)


@pytest.mark.slow
def test_the_printed_ema_holds_for_independent_iterates_only(norms):
    key = jax.random.key(9)
    rows = theory.norm_rows("", theory.INDEPENDENT, key, seeds=SEEDS)
    (independent,) = (row for row in rows if row.point == "ema")
    assert abs(z_of_printed(independent)) < threshold(1)
    dependent = [row for row in norms if row.point == "ema"]
    assert min(z_of_printed(row) for row in dependent) > threshold(1)


@pytest.mark.slow
def test_noise_depends_on_the_sizes_as_derived(norms):
    for slope in theory.slope_rows(norms):
        problems = theory.SWEEPS[slope.sweep]
        x = np.log([getattr(problem, slope.sweep) for problem in problems])
        relative = []  # deviation of each variance summed over coordinates
        for problem in problems:
            _, variance = theory.moments(problem, slope.point)
            squares = np.sum(2 * variance**2 / (SEEDS - 1))
            relative.append(np.sqrt(squares) / variance.sum())
        leverage = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
        error = np.sqrt(np.sum((leverage * relative) ** 2))
        assert abs(slope.measured - slope.derived) < threshold(12) * error, slope


def test_only_the_tail_mean_loses_its_noise():
    long, longer = Quadratic(steps=20_000), Quadratic(steps=80_000)
    for point, power in (("last", 0), ("ema", 0), ("tail", -1)):
        before, after = (theory.moments(q, point)[1].sum() for q in (long, longer))
        assert np.log(after / before) / np.log(4) == pytest.approx(power, abs=1e-3)


@pytest.mark.slow
def test_norms_concentrate_whatever_the_number_of_parameters(norms):
    rows = [row for row in norms if row.sweep == "parameters"]
    for point in POINTS:
        few, *_, many = (row for row in rows if row.point == point)
        chance = scipy.stats.f.ppf(1 - FALSE_ALARM, SEEDS - 1, SEEDS - 1)
        assert many.spread**2 / few.spread**2 < chance
        assert many.measured > 6 * few.measured  # the norm itself: sqrt(512 / 8) = 8


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("rate", [0.3, 1.0, 1.7])
def test_moments_against_the_whole_covariance(point, rate):
    problem = Quadratic(
        parameters=5, steps=40, learning_rate=rate, preconditioner=0.5, lowest=0.3
    )
    mean, variance = theory.moments(problem, point)
    phi, n = problem.contraction, problem.steps
    weights = problem.weights(point)
    assert weights.sum() == pytest.approx(1, rel=1e-12)
    for j in range(problem.parameters):
        # iterates as a lower triangular matrix times the noise
        ages = np.subtract.outer(np.arange(n), np.arange(n))
        response = np.where(ages >= 0, phi[j] ** np.maximum(ages, 0), 0.0)
        response *= problem.learning_rate / problem.scale[j]
        covariance = problem.variance * response @ response.T
        expected = weights @ covariance @ weights
        assert variance[j] == pytest.approx(expected, rel=1e-12)
        iterates = problem.initial * phi[j] ** np.arange(1, n + 1)
        assert mean[j] == pytest.approx(weights @ iterates, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("point", POINTS)
def test_limit_of_many_steps(point):
    problem = Quadratic(steps=200_000, preconditioner=0.5)
    np.testing.assert_allclose(
        theory.moments(problem, point)[1],
        theory.limit_variance(problem, point),
        rtol=1e-3,
    )


@pytest.mark.slow
def test_losses_agree_and_stay_within_the_bounds_that_hold(regrets):
    limit = threshold(len(regrets))
    assert {row.point for row in regrets} == {"last", "tail"}
    for row in regrets:
        assert abs(row.z) < limit, row
        assert row.measured < row.corrected + limit * row.error, row


def test_table_1_holds_without_a_preconditioner_and_not_with_one():
    for problem in theory.REGRETS:
        if problem.initial != 0:
            continue
        for point in ("last", "tail"):
            exact = theory.derived_loss(problem, point)
            printed = theory.printed_regret(problem, point)
            if problem.preconditioner == 0:
                assert exact <= printed * (1 + 1e-9)
                assert exact == pytest.approx(printed, rel=0.05)
            elif point == "last" or problem.preconditioner == 0.5:
                assert exact > printed


def test_command_writes_its_tables_and_plot(tmp_path, capsys, monkeypatch):
    """With a tenth of the steps; the whole grid is for the measured norms."""

    def shorter(problems):
        return tuple(
            dataclasses.replace(problem, steps=problem.steps // 10)
            for problem in problems
        )

    for sweep, problems in theory.SWEEPS.items():
        monkeypatch.setitem(theory.SWEEPS, sweep, shorter(problems))
    monkeypatch.setattr(theory, "REGRETS", shorter(theory.REGRETS))
    out = tmp_path / "theory"
    assert theory.main(["--seeds", "2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Norms on the noisy quadratic" in printed
    assert (out / "norms.png").stat().st_size > 10_000
    with open(out / "norms.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (len(GRID) + 1)
    for row in rows:
        ratio = float(row["measured"]) / float(row["derived"])
        assert float(row["measured_over_derived"]) == pytest.approx(ratio)
    for name, count in (("slopes", 12), ("regrets", 2 * len(theory.REGRETS))):
        with open(out / f"{name}.csv", newline="") as file:
            assert len(list(csv.DictReader(file))) == count


def test_command_refuses_one_seed_and_a_full_folder(tmp_path):
    with pytest.raises(ExperimentError, match="seeds must be >= 2"):
        theory.main(["--seeds", "1", "--out", str(tmp_path / "one")])
    (tmp_path / "kept").touch()
    with pytest.raises(ExperimentError, match="not empty"):
        theory.main(["--out", str(tmp_path)])
