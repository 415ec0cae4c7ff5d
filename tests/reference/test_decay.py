"""The three decays by formula, on SGD with momentum and on Padam."""

import optax
import pytest

import optax_ia
from tests.reference import adaptive
from tests.reference.problem import (
    STEPS,
    assert_close,
    constant,
    library_run,
    reference_run,
)


def chain_with(decay, weight_decay, base, learning_rate=0.05, mask=None):
    """Each decay at its place: before the rule, before the rate, after the rate."""
    rate = optax_ia.scale_by_learning_rate(learning_rate)
    if decay == "l2":
        return optax.chain(optax_ia.l2_decay(weight_decay, mask), base, rate)
    if decay == "decoupled":
        return optax.chain(base, optax_ia.decoupled_decay(weight_decay, mask), rate)
    return optax.chain(base, rate, optax_ia.independent_decay(weight_decay, mask))


@pytest.mark.parametrize("decay", ["l2", "decoupled", "independent"])
def test_decay_with_momentum(decay):
    tx = chain_with(decay, 0.1, optax.trace(0.9))
    expected = reference_run(
        adaptive.sgd, constant(0.05), STEPS, momentum=0.9, **{decay: 0.1}
    )
    assert_close(library_run(tx)[0], expected)


@pytest.mark.parametrize("decay", ["l2", "decoupled", "independent"])
def test_decay_with_padam_and_a_scheduled_rate(decay):
    tx = chain_with(
        decay, 0.1, optax_ia.scale_by_padam(), lambda count: 0.1 / (1 + count)
    )
    expected = reference_run(
        adaptive.padam_family, lambda t: 0.1 / t, STEPS, **{decay: 0.1}
    )
    assert_close(library_run(tx)[0], expected)


@pytest.mark.parametrize("decay", ["l2", "decoupled", "independent"])
def test_masked_decay(decay):
    tx = chain_with(decay, 0.1, optax.identity(), mask={"kernel": True, "bias": False})
    decayed = reference_run(adaptive.sgd, constant(0.05), STEPS, **{decay: 0.1})
    plain = reference_run(adaptive.sgd, constant(0.05), STEPS)
    assert_close(
        library_run(tx)[0], {"kernel": decayed["kernel"], "bias": plain["bias"]}
    )


@pytest.mark.parametrize("decay", ["l2", "decoupled", "independent"])
def test_scheduled_decay(decay):
    tx = chain_with(decay, lambda count: 0.2 / (1 + count), optax.identity())

    def sgd(w, gradient):
        iterates = []
        for t in range(1, STEPS + 1):
            g, factor = gradient(t, w), 0.2 / t
            shrink = factor if decay == "independent" else 0.05 * factor
            w = w - 0.05 * g - shrink * w
            iterates.append(w)
        return iterates

    assert_close(library_run(tx)[0], reference_run(sgd))
