"""The trajectories: what is run, what its rows and its page say, and P2's text."""

import csv
import dataclasses
import io
import types

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import optax
import pytest

import optax_ia
from experiments import trajectories
from experiments.configs.p2 import trajectories as config
from experiments.errors import ExperimentError
from experiments.trajectories import (
    PROBLEMS,
    NotApplicable,
    _figure,
    _page,
    _paths,
    make_rows,
    outcomes,
    run,
    same_paths,
)
from optax_ia import registry

BEALE, SCHUBERT = PROBLEMS["beale"], PROBLEMS["schubert"]
SEEN = (
    "sgd",
    "adam",
    "swats",
    "sls",
    "svrg_sgd",
    "lookahead_adamw",
    "swa",
    *config.VARIANTS,
)


@pytest.fixture(scope="module")
def seen():
    """Paths by method and function at the default number of steps."""
    return {
        (method, name): run(method, problem, config.STEPS)
        for method in SEEN
        for name, problem in PROBLEMS.items()
    }


@pytest.fixture
def wild(monkeypatch):
    """SGD at rates of which the last two overflow on Beale."""
    monkeypatch.setattr(_paths, "rates_of", lambda *_: (1e-3, 1e-2, 0.3, 30.0))
    return run("sgd", BEALE, 60)


def add_record(monkeypatch, **fields):
    """Puts one more entry into the registry."""
    record = dataclasses.replace(registry.get_record("sgd"), name="later", **fields)
    known = {**registry._BY_NAME, "later": record}
    monkeypatch.setattr(registry, "_BY_NAME", types.MappingProxyType(known))


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=lambda p: p.name)
def test_problems(problem):
    for point in problem.minimisers:
        assert problem.function(jnp.array(point)) == pytest.approx(problem.minimum)
    low, high = problem.window
    assert all(low < value < high for value in problem.start)
    assert len(problem.visible_minimisers()) == len(problem.minimisers)
    distance = problem.distance(np.array([*problem.minimisers, [np.nan, 0.0]]))
    np.testing.assert_array_equal(distance[:-1], 0)
    assert distance[-1] == np.inf


def test_distance_knows_the_period():
    far = np.array(SCHUBERT.minimisers[0]) + 2 * np.pi * np.array([1, -2])
    assert SCHUBERT.distance(far) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("method", config.method_names())
def test_every_method_runs_or_says_why_not(method):
    try:
        paths = run(method, BEALE, 3)
    except NotApplicable:
        return  # what it says is listed, see below
    assert paths.points.shape == (4, 4, 2)
    assert paths.points.dtype == np.float64
    np.testing.assert_array_equal(paths.points[:, 0], [BEALE.start] * 4)
    assert len(np.unique(paths.points[:, 1], axis=0)) > 1 or method == "adam_clip"


@pytest.mark.parametrize("method", config.method_names())
def test_four_rising_rates(method):
    for function in PROBLEMS:
        rates = config.rates_of(method, function)
        assert len(rates) == 4
        assert rates[0] > 0
        assert sorted(set(rates)) == list(rates)


def test_gradient_descent_step_by_step(seen):
    paths = seen["sgd", "beale"]
    point = np.array(BEALE.start)
    for step in range(1, 20):
        point = point - paths.rates[1] * jax.grad(BEALE.function)(jnp.asarray(point))
        np.testing.assert_allclose(paths.points[1, step], point, rtol=1e-12)
    np.testing.assert_allclose(paths.values, BEALE.function(paths.points), rtol=1e-12)


def test_average_is_the_mean_of_the_second_half(seen):
    paths = seen["swa", "schubert"]
    mean = paths.points[:, config.STEPS // 2 + 1 :].mean(axis=1)
    np.testing.assert_allclose(paths.averages, mean, rtol=1e-10)
    row = make_rows(paths)[0]
    assert (row.average_x, row.average_y) == pytest.approx(tuple(mean[0]), rel=1e-5)


def test_line_search_never_climbs(seen):
    for name in PROBLEMS:
        # at rest in a minimum, the sufficient decrease is less than a rounding error
        rounding = 4 * np.finfo(np.float64).eps * np.abs(PROBLEMS[name].levels[0])
        assert (np.diff(seen["sls", name].values, axis=1) <= rounding).all()


def test_what_the_lab_note_says_of_swats(seen):
    for name in PROBLEMS:
        for row in make_rows(seen["swats", name]):
            assert (row.phase, row.switch_step) == (0, 0)
            assert _page.switched(row) == "never switched"
    wide = [
        [row.switch_step for row in make_rows(seen["swats_tol_1e-3", name])]
        for name in PROBLEMS
    ]
    assert wide == [[2, 0, 38, 0], [2, 2, 2, 0]]


def test_what_is_said_of_the_paper(seen):
    def ends(method, name):
        return [end == "minimum" for end in outcomes(seen[method, name])]

    assert ends("sgd", "beale") == [False, False, True, True]
    assert ends("sgd", "schubert") == [False] * 4
    assert ends("adam", "beale") == [False, False, False, True]
    assert ends("adam", "schubert") == [True, True, False, False]
    for name in PROBLEMS:
        adam = seen["adam", name].points
        assert np.abs(seen["amsgrad_raw", name].points - adam).max() < 0.02
        slow = seen["lookahead_adamw", name].points[:, ::5]
        both = [
            np.linalg.norm(np.diff(points, axis=1), axis=-1).sum(axis=1)
            for points in (slow, adam)
        ]
        assert (both[0] < both[1]).all()
    assert set(config.PAPER) <= set(config.method_names())


def test_same_paths_are_found(seen):
    runs = [
        tuple(seen[method, name] for name in PROBLEMS)
        for method in ("sgd", "adam", "svrg_sgd", "swats")
    ]
    assert same_paths(runs) == {"svrg_sgd": "sgd", "swats": "adam"}


def test_a_diverging_path_is_said_and_drawn(wild):
    assert not np.isfinite(wild.points[2:, -1]).all(axis=-1).any()
    assert outcomes(wild) == ["elsewhere", "elsewhere", "diverged", "diverged"]
    row = make_rows(wild)[3]
    assert (row.x, row.value, row.distance, row.diverged) == (None, None, None, True)
    picture = matplotlib.image.imread(io.BytesIO(_figure.draw([wild, wild])))
    assert picture.shape == (550, 1000, 4)


def test_a_path_that_leaves_without_overflow(wild):
    away = wild.points.copy()
    away[0] = np.linspace(BEALE.start, [1e9, 2.0], away.shape[1])
    gone = dataclasses.replace(wild, points=away, values=np.zeros(away.shape[:2]))
    assert outcomes(gone)[0] == "diverged"
    assert len(_figure.draw([gone])) > 10_000


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"needs": ("batch_curvature",)}, "update needs batch_curvature"),
        ({"factory": lambda learning_rate=0.1: _refusing()}, "refused: only matrices"),
    ],
)
def test_a_later_entry_that_cannot_run_is_listed(
    monkeypatch, tmp_path, capsys, fields, reason
):
    add_record(monkeypatch, **fields)
    out = tmp_path / "out"
    arguments = ["--methods", "later", "sgd", "--steps", "2", "--out", str(out)]
    assert trajectories.main(arguments) == 0
    assert f"not run: later: {reason}" in capsys.readouterr().out
    assert f"<li>later: {reason}" in (out / "trajectories.html").read_text()
    assert not (out / "later.png").exists()


def _refusing():
    def update(updates, state, params=None, **extra_args):
        raise ValueError("only matrices")

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update
    )


def test_a_later_entry_that_can_run_is_drawn(monkeypatch):
    add_record(monkeypatch, needs=("grad_fn", "value", "value_fn", "full_gradient"))
    assert "later" in trajectories.choose(["*"])
    assert run("later", BEALE, 2).rates == config.MOMENTUM.beale


def test_command(tmp_path, capsys):
    out = tmp_path / "out"
    methods = ["swats", "gadam_auto", "sam_sgd"]
    arguments = ["--methods", *methods, "--steps", "5", "--out", str(out)]
    assert trajectories.main(arguments) == 0
    assert "0 of 8 runs switched to SGD" in capsys.readouterr().out
    names = sorted(path.name for path in out.iterdir())
    assert names == [
        "config.json",
        "end_points.csv",
        "gadam_auto.png",
        "sam_sgd.png",
        "swats.png",
        "trajectories.html",
    ]
    with open(out / "end_points.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows[::8]] == ["swats", "sam_sgd", "gadam_auto"]
    assert {row["switch_step"] for row in rows[:8]} == {"0"}
    page = (out / "trajectories.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "never switched" in page
    assert not {"nan", "inf"} & {cell for row in rows for cell in row.values()}


def test_wrong_arguments(tmp_path):
    with pytest.raises(ExperimentError, match=r"no method matches 'nadir\*'.*adam"):
        trajectories.main(["--methods", "nadir*"])
    with pytest.raises(ExperimentError, match="--steps must be at least 1, got 0"):
        trajectories.main(["--steps", "0", "--out", str(tmp_path / "none")])


def test_the_record_is_that_of_this_code(seen):
    with open(config.RECORD, newline="") as file:
        record = list(csv.DictReader(file))
    for (method, name), paths in seen.items():
        kept = [r for r in record if (r["method"], r["function"]) == (method, name)]
        for row, expected in zip(make_rows(paths), kept, strict=True):
            assert row.outcome == expected["outcome"]
            assert row.x == pytest.approx(float(expected["x"]), abs=1e-3)
            assert row.y == pytest.approx(float(expected["y"]), abs=1e-3)
    known = {row["method"] for row in record}
    assert known <= set(optax_ia.list_optimizers()) | set(config.VARIANTS)
