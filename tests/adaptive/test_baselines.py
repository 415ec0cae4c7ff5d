"""The registry's baselines against Optax's own aliases, with decay and a rate."""

import numpy as np
import optax
import pytest

import optax_ia
from tests.adaptive.problem import assert_same, run

RATE = 0.05
# Ours, in Optax's words. Those with L2 decay get it before the moments.
L2 = {
    "sgd": (optax.sgd(RATE, momentum=0.9), {}),
    "adam": (optax.adam(RATE), {}),
    "amsgrad": (optax.amsgrad(RATE), {}),
    "adagrad": (optax.adagrad(RATE, 0.0, 1e-20), {}),
    "rmsprop": (optax.rmsprop(RATE, 0.99, 1e-8, eps_in_sqrt=False), {}),
    "yogi": (optax.yogi(RATE), {}),
    "radam": (optax.radam(RATE), {}),
}
DECOUPLED = {
    "adamw": (
        optax.adamw(RATE, eps_root=1e-4, weight_decay=0.2),
        {"eps_root": 1e-4},
    ),
    "adabelief": (
        optax.chain(
            optax.scale_by_belief(),
            optax.add_decayed_weights(0.2),
            optax.scale_by_learning_rate(RATE),
        ),
        {},
    ),
}
BASELINES = {**L2, **DECOUPLED}
MASK = {"dense": {"kernel": True, "bias": False}}


@pytest.mark.parametrize("name", BASELINES)
def test_it_is_optaxs_with_decay(name):
    theirs, options = BASELINES[name]
    if name in L2:
        theirs = optax.chain(optax.add_decayed_weights(0.2), theirs)
    ours = optax_ia.get_optimizer(name, learning_rate=RATE, weight_decay=0.2, **options)
    _, iterates, told = run(lambda: ours, 6)
    assert_same(iterates, run(lambda: theirs, 6)[1])
    np.testing.assert_array_equal(told["learning_rate"], RATE)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_a_mask_spares_the_bias(name):
    ours = optax_ia.get_optimizer(name, learning_rate=RATE, weight_decay=0.2, mask=MASK)
    plain = optax_ia.get_optimizer(name, learning_rate=RATE, weight_decay=0.0)
    _, masked, _ = run(lambda: ours, 4)
    _, free, _ = run(lambda: plain, 4)
    assert_same(
        [w["dense"]["bias"] for w in masked], [w["dense"]["bias"] for w in free]
    )
    assert not np.allclose(masked[-1]["dense"]["kernel"], free[-1]["dense"]["kernel"])


def test_the_schedule_is_the_one_reported():
    ours = optax_ia.get_optimizer("adam", learning_rate=lambda count: 0.1 / (1 + count))
    _, iterates, told = run(lambda: ours, 4)
    np.testing.assert_allclose(told["learning_rate"], 0.1 / np.arange(1, 5))
    theirs = optax.adam(lambda count: 0.1 / (1 + count))
    assert_same(iterates, run(lambda: theirs, 4)[1])


@pytest.mark.parametrize("name", BASELINES)
def test_negative_rates_and_decays_are_refused(name):
    with pytest.raises(ValueError, match=r"learning_rate must be >= 0, got -0.1"):
        optax_ia.get_optimizer(name, learning_rate=-0.1)
    with pytest.raises(ValueError, match=r"weight_decay must be >= 0, got -1"):
        optax_ia.get_optimizer(name, weight_decay=-1)


@pytest.mark.parametrize("name", BASELINES)
def test_unknown_arguments_are_refused_with_those_there_are(name):
    with pytest.raises(
        TypeError, match=rf"{name} has no argument 'lr'\. .*weight_decay"
    ):
        optax_ia.get_optimizer(name, lr=0.1)
