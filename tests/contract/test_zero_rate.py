"""A learning rate of 0 moves nothing, as a number and as the value of a schedule."""

import jax
import optax
import pytest

from optax_ia import registry
from tests.contract.cases import CASES
from tests.contract.problem import assert_trees_identical, initial, make_step, run

RECORDS = {record.name: record for record in registry.RECORDS}
RATES = {
    "number": 0.0,
    "constant": optax.constant_schedule(0.0),
    "schedule": lambda count: 0.0 * count,
}


every_case = pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.name in RECORDS and not RECORDS[c.name].own_rate],
    ids=lambda case: case.name,
)


@every_case
@pytest.mark.parametrize("rate", RATES)
def test_a_learning_rate_of_zero_moves_nothing(case, rate):
    tx = case.make(learning_rate=RATES[rate])
    step = jax.jit(make_step(tx))
    params, _ = run(step, initial(), case.init(tx, initial()), last=4)
    assert_trees_identical(params, initial())


@every_case
@pytest.mark.parametrize("start", [0.0, 1e-8])
def test_a_warm_up_moves_everything_in_proportion(case, start):
    """No method may divide by the first value of the schedule."""
    tx = case.make(learning_rate=optax.linear_schedule(start, 1e-3, 3))
    step = jax.jit(make_step(tx))
    first, state = run(step, initial(), case.init(tx, initial()), last=1)
    last, _ = run(step, first, state, first=1, last=4)
    for before, after, end in zip(
        *map(jax.tree.leaves, (initial(), first, last)), strict=True
    ):
        assert abs(after - before).max() <= (1e-4 if start else 0)
        assert 0 < abs(end - before).max() < 1
