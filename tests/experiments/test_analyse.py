"""The analysis of a run: what is measured, the command's files, its refusals."""

import csv
import dataclasses
import html
import io
import json
import re

import jax
import matplotlib.image
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from rich.console import Console

from experiments.__main__ import main
from experiments.analyse import analyse
from experiments.analyse._network import (
    AVERAGE,
    ITERATE,
    batches_of,
    loss_of,
    points_of,
)
from experiments.analyse._report import write
from experiments.analyse._run import choose, run_of, train_again
from experiments.analyse._sharpness import damping_of, measure, num_products, ratio
from experiments.analyse._solutions import line_coordinates, lines, surface
from experiments.analyse._table import findings, rows_of
from experiments.configs.p0.analyse import PRESETS
from experiments.data import load_dataset
from experiments.data._dataset import Split
from experiments.errors import ExperimentError
from experiments.loops.evaluation import evaluate
from experiments.run_folder import RunFolder

pytestmark = pytest.mark.slow  # trains or compiles for a minute and more

TINY = ("--model=vgg_tiny", "--epochs=4", "--batch-size=128", "--average-from=0.5")
SMOKE = PRESETS["smoke"]
SILENT = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def data():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    path = tmp_path_factory.mktemp("compare") / "run"
    names = ("sgd", "gadam", "padamw")
    arguments = [*TINY, "--optimizers", *names, "--seeds", "3", "--out", str(path)]
    assert main(["compare", *arguments]) == 0
    return RunFolder.open(path)


@pytest.fixture(scope="module")
def trained(compared, data):
    """Every run of the comparison, made again."""
    found = {}
    for row in compared.results():
        run = run_of(row)
        found[run.optimizer] = train_again(compared, row, data, run, SILENT)
    return found


@pytest.fixture(scope="module")
def analysed(trained, data):
    return analyse(trained["gadam"], data, SMOKE, SILENT)


def test_the_run_is_made_again_exactly(trained, compared):
    gadam = trained["gadam"]
    assert gadam.largest_difference == 0
    kept = [row for row in compared.rows() if row["optimizer"] == "gadam"]
    assert gadam.rows == kept
    assert len(gadam.iterates) == 4
    for last, state in zip(
        jax.tree.leaves(gadam.iterates[-1]["params"]),
        jax.tree.leaves(gadam.state.params),
        strict=True,
    ):
        np.testing.assert_array_equal(last, state)


def test_collected_iterates_have_the_average_as_their_mean(trained):
    gadam = trained["gadam"]
    assert gadam.averages
    assert gadam.collected == [2, 3, 4]
    trees = [gadam.iterates[epoch - 1]["params"] for epoch in gadam.collected]
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *trees)
    for ours, theirs in zip(
        jax.tree.leaves(mean), jax.tree.leaves(gadam.average), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    sgd = trained["sgd"]
    assert (sgd.averages, sgd.collected) == (False, [2, 3, 4])


def test_sharpness_against_the_dense_hessian(trained, data):
    state = trained["gadam"].state
    small = Split(data.train.images[:40], data.train.labels[:40])
    config = dataclasses.replace(SMOKE, probes=2, steps=60, trace_probes=40)
    calls = []
    found = measure(
        loss_of(state.apply_fn),
        state.params,
        batches_of(small, state.batch_stats),
        config,
        lambda: calls.append(None),
    )
    flat, unravel = ravel_pytree(state.params)

    def loss(w):
        variables = {"params": unravel(w), "batch_stats": state.batch_stats}
        logits = state.apply_fn(variables, small.images, train=False)
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, small.labels
        ).mean()

    # one column after the other: a convolution batched over kernels is slow
    product = jax.jit(lambda v: jax.jvp(jax.grad(loss), (flat,), (v,))[1])
    columns = np.eye(flat.size, dtype=flat.dtype)
    dense = np.stack([np.asarray(product(column), float) for column in columns])
    values = np.linalg.eigvalsh((dense + dense.T) / 2)
    assert found.num_params == len(values)
    assert found.spectral_norm == pytest.approx(np.abs(values).max(), rel=1e-3)
    assert found.largest == pytest.approx(values[-1], rel=1e-3)
    assert found.smallest == pytest.approx(values[0], rel=0.05)
    beyond = int((values > -values[0]).sum())
    assert found.num_beyond == pytest.approx(beyond, rel=0.8, abs=3)
    assert found.residual < 1e-2 * found.spectral_norm
    for estimate, exact in (
        (found.trace, values.sum()),
        (found.frobenius, np.sqrt((values**2).sum())),
    ):
        error = abs(float(estimate.mean) - exact)
        assert error < 4 * float(estimate.standard_error)
    assert found.mean_square == pytest.approx(np.mean(values**2), rel=0.5)
    assert len(calls) == num_products(config, len(values))


def test_landscapes_pass_through_both_points(analysed, trained, data):
    points = points_of(trained["gadam"], data)
    apply_fn = trained["gadam"].state.apply_fn
    average = points.variables[AVERAGE]
    loss, accuracy = evaluate(apply_fn, average, data.train)
    validation = evaluate(apply_fn, average, data.validation)[1]
    assert analysed.scores[AVERAGE]["train_loss"] == loss
    result = trained["gadam"].result
    assert analysed.scores[AVERAGE]["validation_loss"] == pytest.approx(
        result["average_validation_loss"], rel=1e-6
    )
    assert analysed.scores[ITERATE]["validation_loss"] == pytest.approx(
        result["validation_loss"], rel=1e-6
    )
    line = analysed.lines["training loss"]
    end = list(np.asarray(line.coordinates)).index(1.0)
    assert float(line.losses[end]) == pytest.approx(loss, rel=1e-4)
    errors = analysed.lines["validation error"].losses
    assert float(errors[end]) == pytest.approx(1 - validation, abs=1e-6)
    centre = np.asarray(analysed.surfaces[AVERAGE].losses)[1, 1]
    assert float(centre) == pytest.approx(loss, rel=1e-4)
    assert analysed.surfaces[AVERAGE].losses.shape == (3, 3)


def test_kept_statistics_are_those_of_the_origin(analysed, trained, data):
    gadam = trained["gadam"]
    points = points_of(gadam, data)
    config = dataclasses.replace(SMOKE, statistics="kept")
    calls = []

    def count():
        calls.append(None)

    between = lines(gadam, data, points, config, count)
    assert len(calls) == 2 * len(line_coordinates(config))
    places = list(np.asarray(between["training loss"].coordinates))
    here, there = places.index(0.0), places.index(1.0)
    wanted = analysed.scores[ITERATE]
    found = {name: np.asarray(line.losses) for name, line in between.items()}
    assert found["training loss"][here] == pytest.approx(wanted["train_loss"], rel=1e-5)
    error = found["validation error"][here]
    assert error == pytest.approx(wanted["validation_error"], abs=1e-6)
    mixed = {
        "params": points.variables[AVERAGE]["params"],
        "batch_stats": points.variables[ITERATE]["batch_stats"],
    }
    loss, _ = evaluate(gadam.state.apply_fn, mixed, data.train)
    assert found["training loss"][there] == pytest.approx(loss, rel=1e-4)
    assert loss != pytest.approx(analysed.scores[AVERAGE]["train_loss"], rel=1e-2)
    plane = surface(ITERATE, gadam, data, points, config, count)
    centre = float(np.asarray(plane.losses)[1, 1])
    assert centre == pytest.approx(wanted["train_loss"], rel=1e-5)
    # estimated anew they are others, also where the weights are the same
    fresh = float(np.asarray(analysed.surfaces[ITERATE].losses)[1, 1])
    assert fresh != pytest.approx(centre, rel=1e-3)


def test_scales_and_bounds_are_those_asked_for(analysed, tmp_path):
    def drawn(**changes):
        config = dataclasses.replace(SMOKE, **changes)
        path = tmp_path / "-".join(map(str, changes.values()))
        said = write(path, tmp_path, dataclasses.replace(analysed, config=config))
        page = html.unescape((path / "report.html").read_text())
        pictures = {file.name: file.read_bytes() for file in path.glob("*.png")}
        return " ".join(said), page, pictures

    losses = np.stack([np.asarray(p.losses) for p in analysed.surfaces.values()])
    middle = float(np.median(losses))
    said, page, plain = drawn(max_loss=float(losses.min()) / 2)
    assert "With statistics estimated anew" in said
    assert "Statistics are estimated anew at every point." in page
    assert "all are drawn" in page
    # what is said of the statistics is all that depends on them here
    said, page, kept = drawn(statistics="kept", line_scale="log")
    assert "With statistics estimated anew" not in said
    assert "Statistics are those of the centre" in page
    assert "the last iterate's at every point" in page
    changed = {name for name in plain if kept[name] != plain[name]}
    assert changed == {"line_loss.png", "line_error.png"}
    _, page, linear = drawn(surface_scale="linear")
    changed = {name for name in plain if linear[name] != plain[name]}
    assert changed == {"surface.png", "surface_3d.png"}
    _, page, cut = drawn(max_loss=middle)
    assert f"Losses above {middle:g} are white in the contours" in page
    changed = {name for name in plain if cut[name] != plain[name]}
    assert changed == {"surface.png", "surface_3d.png"}


def test_diversity_and_effective_rates(analysed):
    many = analysed.ensemble
    assert many.epochs == [2, 3, 4]
    assert many.symmetric_kl.pairwise.shape == (3, 3)
    assert float(many.total_variation.mean) > 0
    assert 0 <= many.error < 0.9
    kernels = analysed.trained.iterates[-1]["params"]["ConvBlock_1"]["Conv_0"]["kernel"]
    rate = analysed.trained.rows[-1]["learning_rate"]
    wanted = rate / np.sum(np.square(kernels, dtype=float))
    assert analysed.rates["ConvBlock_1/Conv_0/kernel"][3] == pytest.approx(wanted)
    assert all("Dense" not in name for name in analysed.rates)


def test_damping_is_of_rules_with_second_moments(trained):
    assert damping_of(trained["sgd"]) is None
    adam = damping_of(trained["gadam"])
    assert adam is not None
    assert adam.own is not None
    assert adam.value == 1e-8
    assert adam.own[0] > adam.own[1] >= 0
    padam = damping_of(trained["padamw"])
    assert padam is not None
    assert padam.own is None
    assert ratio(10.0, -1.0, 0.1) == pytest.approx(101.0)


def test_command_writes_one_page_and_its_numbers(compared, capsys):
    assert main(["analyse", str(compared.path), "--preset", "smoke"]) == 0
    folder = compared.path / "analysis" / "gadam-3"  # the first that averages
    printed = capsys.readouterr().out
    assert "[6/6] iterates" in printed
    assert f"report: {folder / 'report.html'}" in printed
    page = (folder / "report.html").read_text()
    assert len(re.findall(r'src="data:image/png;base64,', page)) == 7
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "evaluation-mode loss" in page
    assert "estimated anew" in page
    assert "ends at the very validation loss of the results" in page
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {
        "spectrum.png",
        "line_loss.png",
        "line_error.png",
        "surface.png",
        "surface_3d.png",
        "diversity.png",
        "effective_rates.png",
    }
    for name in pictures:
        assert matplotlib.image.imread(folder / name)[..., :3].std() > 0.02
    numbers = json.loads((folder / "numbers.json").read_text())
    assert numbers[AVERAGE]["spectral_norm"] > 0
    assert numbers["collected_epochs"] == [2, 3, 4]
    with open(folder / "spectrum.csv", newline="") as file:
        nodes = list(csv.DictReader(file))
    assert len(nodes) == 2 * SMOKE.probes * SMOKE.steps
    for point in (ITERATE, AVERAGE):
        weights = [float(row["weight"]) for row in nodes if row["point"] == point]
        assert sum(weights) == pytest.approx(SMOKE.probes, rel=1e-5)


def test_a_train_folder_ends_in_its_checkpoint(tmp_path, data):
    path = tmp_path / "run"
    arguments = [*TINY, "--optimizer=sgd", f"--out={path}", "--checkpoint-every=9"]
    # the bits are those of one device, on which it is made again
    assert main(["train", *arguments, "--devices=1"]) == 0
    folder = RunFolder.open(path)
    row = choose(folder, None, None)
    found = train_again(folder, row, data, run_of(row), SILENT)
    assert found.from_checkpoint
    assert found.largest_difference == 0
    # an optimiser without an average has one made of its iterates
    analysis = analyse(found, data, SMOKE, SILENT)
    said = " ".join(findings(analysis))
    assert "made here, the mean of the iterates at the ends of epochs 2 to 4" in said
    assert "ends at the very weights of the checkpoint" in said
    assert not any(row[0].startswith("R_est") for row in rows_of(analysis))


def test_one_collected_iterate_has_no_diversity(tmp_path):
    path = tmp_path / "run"
    arguments = [*TINY[:1], "--epochs=1", "--batch-size=128", f"--out={path}"]
    assert main(["train", "--optimizer=swa", *arguments]) == 0
    assert main(["analyse", str(path), "--preset", "smoke"]) == 0
    page = (path / "analysis" / "swa-0" / "report.html").read_text()
    assert "Diversity needs two collected iterates." in page


def test_runs_that_are_not_there(compared, tmp_path):
    assert choose(compared, "sgd", None)["optimizer"] == "sgd"
    with pytest.raises(ExperimentError, match="no finished run of swa; those there"):
        choose(compared, "swa", None)
    with pytest.raises(ExperimentError, match="no finished run of sgd 9"):
        choose(compared, "sgd", 9)
    other = RunFolder(tmp_path, "theory", {})
    with pytest.raises(ExperimentError, match="was made by theory; analyse takes"):
        choose(other, None, None)
    with pytest.raises(ExperimentError, match="no finished run; go on by --resume"):
        choose(RunFolder(tmp_path, "train", {}), None, None)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--probes=0", "--probes must be at least 1, got 0"),
        ("--steps=1", "--steps must be at least 2, got 1"),
        ("--surface-reach=0", "--surface-reach must be above 0 and finite, got 0"),
        ("--max-loss=-1", "--max-loss must be above 0 and finite, got -1"),
    ],
)
def test_bad_numbers(compared, argument, message, capsys):
    assert main(["analyse", str(compared.path), argument]) == 2
    assert message in capsys.readouterr().err
