"""Every record on a real loss: warm-ups, MultiSteps, and what follows in a chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from optax_ia import registry
from tests.contract.cases import CASES, over_cases
from tests.contract.problem import assert_trees_close
from tests.world.problem import BATCHES, X, Y, initial, loss, make_step

RECORDS = [case for case in CASES if case.name in optax_ia.list_optimizers()]
SCHEDULED = [case for case in RECORDS if not registry.get_record(case.name).own_rate]
AVERAGING = [case for case in RECORDS if case.averages]


def over(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def base_rate(case):
    """A base for the bounds of the methods that have some."""
    takes = "base_learning_rate" in case.parameters
    return {"base_learning_rate": 0.01} if takes else {}


@pytest.mark.parametrize("first", [0.0, 1e-8])
@over(SCHEDULED)
def test_a_warm_up_from_nothing_trains(case, first):
    """The rate of the first step is no scale for anything."""
    schedule = optax.linear_schedule(first, 0.01, 10)
    tx = case.make_bare(learning_rate=schedule, **base_rate(case))
    step, params = make_step(case, tx), initial()
    state = case.init(tx, params)
    moved, state = step(params, state, BATCHES[0])
    largest = max(
        float(jnp.abs(a - b).max())
        for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(params), strict=True)
    )
    assert largest <= 1e3 * first
    params = moved
    for t in range(1, 40):
        params, state = step(params, state, BATCHES[t % 5])
    assert float(loss(params, (X, Y))) < float(loss(initial(), (X, Y)))


@over([case for case in RECORDS if not case.needs])
def test_micro_batches_in_multi_steps_equal_the_whole_batch(case):
    inner = case.make_bare()
    tx = optax.MultiSteps(inner, 3)
    micro, whole = make_step(case, tx), make_step(case, inner)
    params, state = initial(), case.init(tx, initial())
    expected, expected_state = initial(), case.init(inner, initial())
    for batch in BATCHES[:3]:
        for i in range(3):
            part = jax.tree.map(lambda x, i=i: x[10 * i : 10 * (i + 1)], batch)
            params, state = micro(params, state, part)
        expected, expected_state = whole(expected, expected_state, batch)
    assert_trees_close(params, expected)


def _after_alias():
    """What stands after an optimiser, or is done to the parameters, in real runs."""
    frozen = {"kernel": False, "bias": True}
    yield "freeze", lambda tx: optax.chain(tx, optax.freeze(frozen)), lambda p: p
    yield "scale", lambda tx: optax.chain(tx, optax.scale(0.5)), lambda p: p
    yield (
        "clip the parameters",
        lambda tx: tx,
        lambda p: jax.tree.map(lambda w: jnp.clip(w, -0.02, 0.02), p),
    )
    yield "average first", lambda tx: optax.chain(optax.identity(), tx), lambda p: p


@pytest.mark.parametrize(
    ("wrap", "project"), [pytest.param(w, p, id=n) for n, w, p in _after_alias()]
)
@over(AVERAGING)
def test_averages_are_of_the_parameters_that_were_there(case, wrap, project):
    """Whatever changes the updates after the alias, or the parameters after them."""
    tx = wrap(case.make_bare(every=1))
    step, params = make_step(case, tx), initial()
    state = case.init(tx, params)
    visited = []
    for t in range(7):
        params, state = step(params, state, BATCHES[t % 5])
        params = project(params)
        visited.append(params)
    count = int(optax_ia.num_averaged(state))
    decay = case.argument("decay") if "decay" in case.parameters else 1.0
    weights = decay ** np.arange(count)[::-1]
    expected = jax.tree.map(
        lambda *w: np.tensordot(weights / weights.sum(), np.stack(w), axes=1),
        *visited[-count:],
    )
    average = optax_ia.averaged_params(state, params, require=True)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8),
        average,
        expected,
    )


@over_cases("python_floats")
def test_a_state_and_its_updates_share_nothing_with_the_parameters(case):
    """So that all of them can be donated on their own."""
    tx = case.make()
    params = initial()
    state = tx.init(params)
    held = {id(leaf) for leaf in jax.tree.leaves(params)}
    assert not held & {id(leaf) for leaf in jax.tree.leaves(state)}
