"""Statistics, table, figures and page, from rows made up here."""

import io
import re

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes

from experiments import report
from experiments.__main__ import main
from experiments.configs.p0.digits import CompareConfig
from experiments.report import _figures
from experiments.report._curves import Curve, mean_curve
from experiments.report._table import cells, make_lines
from experiments.report._together import error_over_time
from experiments.run_folder import RESULT_COLUMNS, RunFolder
from experiments.statistics import summarise


def result_row(optimizer, seed, accuracy, average=None):
    row = dict.fromkeys(RESULT_COLUMNS)
    row |= {
        "optimizer": optimizer,
        "seed": seed,
        "dataset": "digits",
        "model": "vgg_tiny",
        "epochs": 3,
        "steps": 21,
        "learning_rate": 0.1,
        "weight_decay": 0.005,
        "num_averaged": 2,
        "test_accuracy": accuracy,
        "average_test_accuracy": average,
        "seconds": 1.5,
        "steps_per_second": 100.0,
        "resumed_from_step": 0,
        "config": "{}",
    }
    return row


def metric_rows(optimizer, seed, epochs=3):
    for epoch in range(1, epochs + 1):
        averages = optimizer == "gadamx" and epoch > 1
        yield {
            "optimizer": optimizer,
            "seed": seed,
            "epoch": epoch,
            "step": 7 * epoch,
            "train_loss": 1 / epoch,
            "validation_accuracy": 1 - 0.1 / epoch if epoch < 3 else 1.0,
            "average_validation_accuracy": 0.97 if averages else None,
            "learning_rate": 0.1 / epoch,
            **({"num_averaged": epoch - 1} if optimizer == "gadamx" else {}),
        }


@pytest.fixture
def folder(tmp_path):
    config = CompareConfig(optimizers=("sgd", "gadamx"), seeds=(0, 1))
    made = RunFolder.prepare(tmp_path / "run", "compare", config, resume=False)
    for seed in (0, 1):
        for name in ("sgd", "gadamx"):
            for row in metric_rows(name, seed):
                made.log(row)
            average = 0.98 if name == "gadamx" else None
            made.add_result(result_row(name, seed, 0.95 + 0.01 * seed, average))
    return made


def test_summary_against_numpy_and_its_generator():
    values = [98.0, 98.5, 99.5]
    summary = summarise(values, np.random.default_rng(0))
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.std == pytest.approx(np.std(values, ddof=1))
    assert 98.0 <= summary.low < summary.mean < summary.high <= 99.5
    assert summary == summarise(values, np.random.default_rng(0))
    one = summarise([98.0], np.random.default_rng(0))
    assert (one.std, one.low, one.high) == (0.0, 98.0, 98.0)


def test_bootstrap_interval_has_its_coverage():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        summary = summarise(rng.normal(size=40), rng, resamples=400)
        covered += summary.low < 0 < summary.high
    assert 0.88 < covered / 200 <= 0.99


def test_lines_and_cells(folder):
    sgd, gadamx = make_lines(folder.results(), np.random.default_rng(0))
    assert sgd.iterate.mean == pytest.approx(95.5)
    assert sgd.average is None
    assert gadamx.average.mean == pytest.approx(98.0)
    assert gadamx.reported == ("94.88 ± 0.03", "76.85 ± 0.08")
    name, seeds, rate, decay, iterate, average, *_ = cells(sgd)
    assert (name, seeds, rate, decay, average) == ("sgd", "2", "0.1", "0.005", "–")
    assert iterate.splitlines() == ["95.50 ± 0.71", "[95.00, 96.00]"]


def test_mean_of_runs_of_different_length():
    nan = float("nan")
    long = Curve(np.array([1, 2, 3]), np.array([nan, 2.0, 4.0]))
    short = Curve(np.array([1, 2]), np.array([nan, 4.0]))
    mean = mean_curve([long, short])
    np.testing.assert_array_equal(mean.epochs, [1, 2, 3])
    np.testing.assert_array_equal(mean.values, [nan, 3.0, 4.0])


@pytest.mark.parametrize("draw", [_figures.validation_error, _figures.learning_rate])
def test_a_figure_of_every_optimiser(draw):
    rows = [row for name in "abcdefg" for row in metric_rows(name, 0)]
    image = matplotlib.image.imread(io.BytesIO(draw(rows)))
    assert image.shape[0] > 400
    assert image[..., :3].std() > 0.02  # something is drawn


def test_nothing_averaged_makes_no_figure():
    assert _figures.num_averaged(list(metric_rows("sgd", 0))) is None


def test_errors_over_seconds_need_a_speed_and_room(folder):
    rows, results = folder.rows(), folder.results()
    rng = np.random.default_rng(0)
    assert error_over_time(rows, make_lines(results, rng)).startswith(b"\x89PNG")
    assert error_over_time(rows, make_lines(results[:1], rng)) is None
    untimed = [{**row, "steps_per_second": None} for row in results]
    assert error_over_time(rows, make_lines(untimed, rng)) is None
    many = [result_row(name, 0, 0.9) for name in "abcdefghi"]
    assert error_over_time(rows, make_lines(many, rng)) is None


def test_the_seconds_are_steps_over_the_median_speed(folder, monkeypatch):
    drawn = []
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, **style: drawn.append((x, y)))
    results = [
        {**row, "steps_per_second": 70.0 if row["optimizer"] == "sgd" else 7.0}
        for row in folder.results()
    ]
    lines = make_lines(results, np.random.default_rng(0))
    error_over_time(folder.rows(), lines)
    (epochs, errors), (seconds, same) = drawn[:2]  # of sgd, 7 steps an epoch
    np.testing.assert_array_equal(epochs, [1, 2, 3])
    np.testing.assert_allclose(seconds, [0.1, 0.2, 0.3])
    np.testing.assert_allclose(drawn[3][0], [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(errors, same)
    np.testing.assert_allclose(errors, [10.0, 5.0, 2.5])  # none is half the least


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("sgd", "swa"), "Gadam "),
        (("sgd", "adam", "kfac"), "Kronecker"),
    ],
)
def test_the_note_is_that_of_the_nearest_comparison(names, words, tmp_path):
    config = CompareConfig(optimizers=names)
    made = RunFolder.prepare(tmp_path / "run", "compare", config, resume=False)
    report.write(made)
    assert words in (made.path / "report.html").read_text()


def test_report_is_one_file_with_the_figures_inside(folder):
    assert main(["report", str(folder.path)]) == 0
    page = (folder.path / "report.html").read_text()
    assert len(re.findall(r'src="data:image/png;base64,', page)) == 5
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "94.88 ± 0.03" in page
    assert "Partial" not in page
    names = {path.name for path in folder.path.glob("*.png")}
    assert names == {
        "learning_rate.png",
        "num_averaged.png",
        "test_accuracy.png",
        "validation_error.png",
        "validation_time.png",
    }
    assert (folder.path / "table.md").read_text().count("\n") == 4
    before = page
    assert main(["report", str(folder.path)]) == 0
    assert (folder.path / "report.html").read_text() == before


def test_partial_report_says_so(tmp_path, capsys):
    config = CompareConfig(optimizers=("sgd",), seeds=(0, 1))
    folder = RunFolder.prepare(tmp_path / "run", "compare", config, resume=False)
    report.write(folder)  # nothing at all yet
    for row in metric_rows("sgd", 0):
        folder.log(row)
    folder.add_result(result_row("sgd", 0, 0.95))
    assert main(["report", str(folder.path)]) == 0
    notice = "Partial: 1 of 2 runs are finished. Go on by --resume."
    assert notice in capsys.readouterr().out
    assert notice in (folder.path / "report.html").read_text()


def test_not_a_run_folder(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path} is not a run folder")
    assert error.count("\n") == 1


def test_a_folder_of_another_command(tmp_path, capsys):
    RunFolder.prepare(tmp_path / "run", "theory", CompareConfig(), resume=False)
    assert main(["report", str(tmp_path / "run")]) == 2
    assert "was made by theory; report takes" in capsys.readouterr().err


@pytest.mark.parametrize("limited", ["test_accuracy.png", "report.html"])
def test_a_file_there_is_no_room_for_is_named_and_harms_nothing(
    folder, capsys, limited
):
    """The system lets no file of this process become as large as that one."""
    resource = pytest.importorskip("resource", reason="needs limits as POSIX has them")
    report.write(folder)
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    folder.add_result(result_row("sgd", 2, 0.99))
    before.pop("results.csv")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[limited]) // 2, limits[1]))
    try:
        code = main(["report", str(folder.path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    path = folder.path / limited
    assert code == 2
    assert capsys.readouterr().err == (
        f"error: cannot write {path} (file too large); what stood there before is "
        "unharmed\n"
    )
    after = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    after.pop("results.csv")
    assert after.keys() == before.keys()  # no temporary file is left
    assert after[limited] == before[limited]
    if limited == "report.html":
        assert after["test_accuracy.png"] != before["test_accuracy.png"]
