"""Which score a sweep compares, and which row it chooses."""

from pathlib import Path

import pytest

from experiments.errors import ExperimentError
from experiments.sweep import _table
from experiments.sweep._config import Setting, SweepConfig
from experiments.sweep._scores import best, find_score, make_line, score_run

IMAGE = [
    "optimizer",
    "validation_accuracy",
    "validation_loss",
    "average_validation_accuracy",
    "average_validation_loss",
    "test_accuracy",
    "average_test_accuracy",
]
MASKED = [
    "validation_loss",
    "validation_accuracy",
    "validation_perplexity",
    "test_loss",
]
GAN = [
    "critic_loss",
    "frechet_distance",
    "classes",
    "average_frechet_distance",
    "average_classes",
    "data_frechet_distance",
    "classifier_accuracy",
]


def config(score=None, mode=None):
    return SweepConfig(
        source=Path("some.toml"),
        name="some",
        command="train",
        task=None,
        optimizers=("sgd",),
        seeds=(0,),
        fixed={},
        settings=(Setting("", {}, ("sgd",)),),
        score=score,
        mode=mode,
    )


@pytest.mark.parametrize(
    ("columns", "score", "mode", "expected"),
    [
        (IMAGE, None, None, ("accuracy", "max")),
        (IMAGE, "loss", None, ("loss", "min")),
        (IMAGE, "loss", "max", ("loss", "max")),
        (MASKED, None, None, ("perplexity", "min")),
        (MASKED, "accuracy", None, ("accuracy", "max")),
        (GAN, None, None, ("frechet_distance", "min")),
        (GAN, "classes", "max", ("classes", "max")),
        (["validation_bleu"], "bleu", "max", ("bleu", "max")),
        (["validation_top_5_error"], None, None, ("top_5_error", "min")),
    ],
)
def test_the_score_is_found_in_the_columns(columns, score, mode, expected):
    found = find_score(columns, config(score, mode))
    assert (found.name, found.mode) == expected


@pytest.mark.parametrize(
    ("columns", "score", "said"),
    [
        (IMAGE, "lass", "some.toml: score 'lass'; choose one of: accuracy, loss"),
        (GAN, "classes", 'some.toml: say mode = "min" or "max" for classes'),
        (["validation_bleu"], None, "say which score is compared.* there are: bleu"),
        (["optimizer"], None, "there are: none"),
    ],
)
def test_a_score_that_is_not_known(columns, score, said):
    with pytest.raises(ExperimentError, match=said):
        find_score(columns, config(score))


def test_a_run_has_the_scores_of_its_average_if_it_makes_one():
    score = find_score(IMAGE, config())
    row = {"validation_accuracy": "0.5", "test_accuracy": "0.4"}
    row |= {"average_validation_accuracy": "", "average_test_accuracy": ""}
    found = score_run(row, score)
    assert (found.validation, found.test, found.average) == (0.5, 0.4, False)
    row |= {"average_validation_accuracy": "0.7", "average_test_accuracy": "0.6"}
    found = score_run(row, score)
    assert (found.validation, found.test, found.average) == (0.7, 0.6, True)
    found = score_run({"validation_accuracy": "", "test_accuracy": "nan"}, score)
    assert (found.validation, found.test, found.average) == (None, None, False)
    score = find_score(GAN, config())
    row = {"frechet_distance": "3", "average_frechet_distance": "2"}
    found = score_run(row, score)
    assert (found.validation, found.test, found.average) == (2.0, None, True)


def lines(rows, columns=("validation_perplexity",)):
    score = find_score(columns, config())
    (name,) = columns
    found = []
    for label, optimizer, values in rows:
        results = [
            None
            if value is None
            else {name: value, "test_perplexity": value, "seconds": "4"}
            for value in values
        ]
        setting = Setting(label, {}, (optimizer,))
        found.append(make_line(setting, optimizer, results, score))
    return found, score


def test_the_least_perplexity_of_a_complete_row_is_chosen():
    found, score = lines(
        [
            ("a", "sgd", ["120", "130"]),
            ("a", "adam", ["80", None]),  # not finished
            ("b", "sgd", ["90", ""]),  # not finite
            ("b", "adam", ["104", "102"]),
            ("c", "adam", ["102", "104"]),  # as good, and later
        ]
    )
    assert best(found, score) is found[3]
    assert _table.marks(found, score) == {0: "best of sgd", 3: "best"}
    summary = found[0].validation
    assert summary is not None
    assert (summary.count, summary.mean) == (2, 125)
    assert summary.std == pytest.approx(50**0.5)
    # Of two seeds the mean of a resample is 120, 125 or 130.
    assert (summary.low, summary.high) == (120, 130)
    cells = [_table.cells(line, score, "") for line in found]
    assert cells[0][2:7] == (
        "2",
        "last iterate",
        "125.00 ± 7.07\n[120.00, 130.00]",
        "125.00 ± 7.07\n[120.00, 130.00]",
        "4.0",
    )
    assert cells[1][2:5] == ("1 of 2", "last iterate", "80.00")
    assert cells[2][2] == "2, not all finite"
    first, second = _table.verdict(found, score)
    assert first.startswith("Best by validation perplexity: adam, b: validation 103.00")
    assert second.startswith("Best of sgd by validation perplexity: sgd, a: valid")


def test_what_is_measured_on_no_split_has_one_column():
    score = find_score(GAN, config())
    rows = [{"frechet_distance": "3", "average_frechet_distance": "2"}]
    setting = Setting("a", {}, ("adam",))
    found = [make_line(setting, name, rows, score) for name in ("adam", "sgd")]
    header = _table.header(score)
    assert header[3:6] == ("model", "frechet distance", "s/run")
    cells = _table.cells(found[0], score, "best")
    assert cells == ("a", "adam", "1", "average", "2.0000", "–", "best")
    assert len(cells) == len(header)
    assert _table.verdict(found, score) == [
        "Best by frechet distance: adam, a: 2.0000."
    ]


def test_nothing_is_chosen_without_a_choice():
    found, score = lines([("", "sgd", ["3"])])
    assert _table.marks(found, score) == {}
    assert _table.verdict(found, score) == []
    found, score = lines([("", "sgd", ["3", None]), ("", "adam", [None, None])])
    assert _table.marks(found, score) == {}
    assert "none is chosen" in _table.verdict(found, score)[0]
    assert _table.cells(found[1], score, "")[2:7] == ("0 of 2", "–", "–", "–", "–")
    assert _table.verdict(found, None) == ["No run is finished."]
