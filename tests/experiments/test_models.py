"""The table of networks, and what it counts."""

import pytest

from experiments import models as command
from experiments.__main__ import main
from optax_ia import models


def test_rows_give_size_cost_and_source(capsys):
    assert main(["models", "--pattern", "lo*_regression"]) == 0
    head, rule, row = capsys.readouterr().out.splitlines()
    assert head.split(" | ")[3:5] == ["parameters", "forward FLOPs"]
    assert rule.count("---") == head.count("|") - 1
    # 784 multiplications and additions and one more addition for each of 10 classes
    assert row == (
        "| `logistic_regression` | Logistic regression on the pixels. | 28x28x1 "
        "| 7,850 | 15.7 k | P0, P1 | 7,850 (785 numbers for each of 10 classes) |"
    )


def test_every_model_has_a_row_without_costs(capsys):
    names = models.list_models("*tiny*")
    table = command.table(names, flops=False)
    assert len(table.splitlines()) == len(names) + 2
    assert {line.count("|") for line in table.splitlines()} == {7}
    assert main(["models", "--pattern=vgg_*", "--kind=image", "--no-flops"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == models.list_models("vgg_*")


def test_costs_are_the_convolutions_and_little_else():
    # 3x3 convolutions on 8x8 and on 4x4, less the zeros around; the dense layer
    inner = [(3 * side - 2) ** 2 for side in (8, 4)]
    products = inner[0] * 4 + inner[1] * 4 * 8 + 32 * 10
    for compiled in (False, True):
        flops = command.forward_flops("vgg_tiny_plain", compiled=compiled)
        assert 2 * products < flops < 2 * products + 6 * (64 * 4 + 16 * 8 + 32)


@pytest.mark.parametrize(
    ("number", "text"),
    [(7, "7"), (15_690, "15.7 k"), (123_400_000, "123 M"), (8e9, "8.00 G")],
)
def test_numbers_have_three_digits(number, text):
    assert command.scaled(number) == text


def test_no_model(capsys):
    assert main(["models", "--pattern=none*"]) == 2
    assert "unknown model 'none*'" in capsys.readouterr().err
