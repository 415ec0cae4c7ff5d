"""Ten float64 steps of AdaBound and AMSBound against the released rule in NumPy."""

import pytest

import optax_ia
from tests.reference import adaptive, bounded
from tests.reference.problem import (
    STEPS,
    assert_close,
    constant,
    library_run,
    reference_run,
)

both = pytest.mark.parametrize("amsbound", [False, True])


@both
@pytest.mark.parametrize("gamma", [1e-3, 0.3, 10.0])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adabound(amsbound, gamma, weight_decay):
    """Bounds that never hold, that hold some entries, and that hold all."""
    tx = optax_ia.adabound(
        0.05, 0.04, gamma, amsbound=amsbound, weight_decay=weight_decay
    )
    expected = reference_run(
        bounded.adabound,
        constant(0.05),
        STEPS,
        final_learning_rate=0.04,
        gamma=gamma,
        amsbound=amsbound,
        l2=weight_decay,
    )
    assert_close(library_run(tx)[0], expected)


@both
def test_every_number_is_used_and_the_bounds_follow_the_schedule(amsbound):
    options = {"gamma": 0.2, "b1": 0.8, "b2": 0.9, "eps": 1e-2, "amsbound": amsbound}
    tx = optax_ia.adabound(lambda count: 0.2 / (2 + count), 0.03, **options)
    expected = reference_run(
        bounded.adabound,
        lambda t: 0.2 / (1 + t),
        STEPS,
        final_learning_rate=0.03,
        **options,
    )
    assert_close(library_run(tx)[0], expected)


@pytest.mark.parametrize(
    ("name", "amsbound"), [("adabound", False), ("amsbound", True)]
)
def test_the_registry_has_both_with_the_papers_defaults(name, amsbound):
    expected = reference_run(bounded.adabound, constant(1e-3), STEPS, amsbound=amsbound)
    assert_close(library_run(optax_ia.get_optimizer(name))[0], expected)


def test_amsbound_differs_from_adabound_on_this_problem():
    runs = [
        reference_run(bounded.adabound, constant(0.05), STEPS, b2=0.9, amsbound=a)
        for a in (False, True)
    ]
    assert abs(runs[0]["kernel"][-1] - runs[1]["kernel"][-1]).max() > 1e-3


@both
def test_bounds_that_have_closed_are_sgd(amsbound):
    tx = optax_ia.adabound(1e-3, 0.05, gamma=1e13, amsbound=amsbound)
    expected = reference_run(
        adaptive.sgd, constant(0.05 * (1 - 0.9)), STEPS, momentum=0.9
    )
    assert_close(library_run(tx)[0], expected)


def test_mask_leaves_the_bias_undecayed():
    tx = optax_ia.adabound(0.05, weight_decay=0.5, mask={"kernel": True, "bias": False})
    decayed = reference_run(bounded.adabound, constant(0.05), STEPS, l2=0.5)
    plain = reference_run(bounded.adabound, constant(0.05), STEPS)
    assert_close(
        library_run(tx)[0], {"kernel": decayed["kernel"], "bias": plain["bias"]}
    )
