"""Ranger: its parts, its limits, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.adaptive.problem import assert_same, initial, run

MASK = {"dense": {"kernel": True, "bias": False}}


def inner(rate=0.05, weight_decay=0.0, mask=None, b1=0.95, b2=0.999, eps=1e-5):
    """What stands inside of Lookahead."""
    return optax.chain(
        optax_ia.centralize(),
        optax.scale_by_radam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay, mask),
        optax.scale_by_learning_rate(rate),
    )


def trained(tx, steps=9):
    return run(lambda: tx, steps)[1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sync_period": 2, "slow_step_size": 0.8, "weight_decay": 0.1, "mask": MASK},
        {"sync_period": 1, "b1": 0.8, "b2": 0.9, "eps": 1e-2},
    ],
    ids=["defaults", "decay", "numbers"],
)
def test_it_is_lookahead_of_radam_on_centralised_gradients(options):
    rest = dict(options)
    numbers = rest.pop("sync_period", 6), rest.pop("slow_step_size", 0.5)
    theirs = optax_ia.lookahead(inner(**rest), *numbers)
    assert_same(trained(optax_ia.ranger(0.05, **options)), trained(theirs))


@pytest.mark.parametrize(
    "options",
    [{"sync_period": 10**6}, {"sync_period": 2, "slow_step_size": 1.0}],
    ids=str,
)
def test_without_synchronisations_it_is_what_stands_inside(options):
    assert_same(trained(optax_ia.ranger(0.05, **options)), trained(inner()))


def test_a_step_size_of_zero_goes_back_at_each_synchronisation():
    iterates = trained(optax_ia.ranger(0.05, sync_period=3, slow_step_size=0.0))
    start = initial()
    for t in (2, 5, 8):
        assert_same(
            iterates[t],
            {"dense": {n: np.asarray(w) for n, w in start["dense"].items()}},
        )
    assert not np.allclose(iterates[1]["dense"]["bias"], start["dense"]["bias"])


def test_a_column_of_a_kernel_keeps_its_sum_and_a_bias_does_not():
    iterates = trained(optax_ia.ranger(0.05))
    before = initial()["dense"]
    after = iterates[-1]["dense"]
    # RAdam divides entry by entry, once it is rectified: until then sums are kept
    early = iterates[4]["dense"]
    np.testing.assert_allclose(early["kernel"].sum(0), before["kernel"].sum(0))
    assert not np.allclose(early["bias"].sum(), before["bias"].sum())
    assert not np.allclose(after["kernel"], before["kernel"])


def test_the_rate_and_the_synchronisations_are_told():
    tx = optax_ia.ranger(lambda count: 0.1 / (1 + count), 4)
    _, _, told = run(lambda: tx, 9)
    np.testing.assert_allclose(told["learning_rate"], 0.1 / np.arange(1, 10))
    assert told["sync_count"].tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_every_number_may_be_traced():
    numbers = {
        "sync_period": 2,
        "slow_step_size": 0.8,
        "b1": 0.8,
        "b2": 0.9,
        "weight_decay": 0.1,
    }
    make = optax.inject_hyperparams(optax_ia.ranger)
    injected = make(0.05, **{n: jnp.asarray(v) for n, v in numbers.items()})
    assert_same(trained(injected), trained(optax_ia.ranger(0.05, **numbers)), rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": -0.1}, r"learning_rate must be >= 0, got -0.1"),
        ({"b1": 1.0}, r"b1 must be < 1, got 1.0"),
        ({"b2": -0.1}, r"b2 must be >= 0, got -0.1"),
        ({"eps": -1e-5}, r"eps must be >= 0, got -1e-05"),
        ({"sync_period": 0}, r"sync_period must be >= 1, got 0"),
        ({"sync_period": 2.5}, r"sync_period must be a whole number, got 2.5"),
        ({"slow_step_size": 1.5}, r"slow_step_size must be <= 1, got 1.5"),
        ({"slow_step_size": -0.5}, r"slow_step_size must be >= 0, got -0.5"),
        ({"weight_decay": -1.0}, r"weight_decay must be >= 0, got -1.0"),
    ],
)
def test_construction_errors_name_argument_bound_and_value(options, message):
    with pytest.raises(ValueError, match=message):
        optax_ia.ranger(**options)
