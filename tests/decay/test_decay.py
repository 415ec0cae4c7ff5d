"""The decays by their effect on one step, and masks by parameter path."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia

PARAMS = {
    "conv": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    "norm": {"scale": jnp.ones(2)},
}


def first_step(tx, params):
    zeros = optax.tree.zeros_like(params)
    return tx.update(zeros, tx.init(params), params)[0]


@pytest.mark.parametrize("learning_rate", [0.1, 0.01])
def test_only_independent_decay_ignores_the_learning_rate(learning_rate):
    params = jnp.array([2.0])
    rate = optax_ia.scale_by_learning_rate(learning_rate)
    chains = {
        "l2": optax.chain(optax_ia.l2_decay(0.5), rate),
        "decoupled": optax.chain(optax_ia.decoupled_decay(0.5), rate),
        "independent": optax.chain(rate, optax_ia.independent_decay(0.5)),
    }
    steps = {name: float(first_step(tx, params)[0]) for name, tx in chains.items()}
    np.testing.assert_allclose(steps["l2"], -learning_rate)
    np.testing.assert_allclose(steps["decoupled"], -learning_rate)
    np.testing.assert_allclose(steps["independent"], -1.0)


@pytest.mark.parametrize(
    "make",
    [optax_ia.l2_decay, optax_ia.decoupled_decay, optax_ia.independent_decay],
)
class TestEachDecay:
    def test_masked_by_path(self, make):
        updates = first_step(make(0.5, optax_ia.path_mask("kernel$")), PARAMS)
        assert abs(float(updates["conv"]["kernel"][0, 0])) == 0.5
        np.testing.assert_array_equal(updates["conv"]["bias"], 0.0)
        np.testing.assert_array_equal(updates["norm"]["scale"], 0.0)

    def test_scheduled_by_the_update_count(self, make):
        tx = make(lambda count: 0.5 / (1 + count))
        params = jnp.ones(1)
        state = tx.init(params)
        sizes = []
        for _ in range(3):
            updates, state = jax.jit(tx.update)(jnp.zeros(1), state, params)
            sizes.append(abs(float(updates[0])))
        np.testing.assert_allclose(sizes, [0.5, 0.25, 0.5 / 3], rtol=1e-6)

    def test_zero_changes_nothing(self, make):
        grads = jnp.array([0.3])
        tx = make(0.0)
        np.testing.assert_array_equal(
            tx.update(grads, tx.init(grads), jnp.ones(1))[0], grads
        )

    def test_negative_is_refused(self, make):
        with pytest.raises(ValueError, match="weight_decay must be >= 0, got -0.1"):
            make(-0.1)

    def test_params_are_needed(self, make):
        tx = make(0.1)
        with pytest.raises(ValueError, match="param"):
            tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


def test_independent_decay_above_one_is_refused():
    with pytest.raises(ValueError, match="weight_decay must be <= 1, got 1.5"):
        optax_ia.independent_decay(1.5)


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("kernel$", {"conv/kernel"}),
        ("^conv/", {"conv/kernel", "conv/bias"}),
        (r"^(?!norm/)", {"conv/kernel", "conv/bias"}),
        (re.compile("SCALE", re.IGNORECASE), {"norm/scale"}),
        ("", {"conv/kernel", "conv/bias", "norm/scale"}),
    ],
)
def test_path_mask(pattern, chosen):
    mask = optax_ia.path_mask(pattern)(PARAMS)
    assert jax.tree.structure(mask) == jax.tree.structure(PARAMS)
    found = {
        f"{outer}/{inner}"
        for outer, below in mask.items()
        for inner, value in below.items()
        if value is True
    }
    assert found == chosen


def test_a_pattern_that_matches_nothing_lists_the_paths():
    with pytest.raises(ValueError, match="kernle") as error:
        optax_ia.path_mask("kernle")(PARAMS)
    for path in ("conv/kernel", "conv/bias", "norm/scale"):
        assert path in str(error.value)


def test_a_broken_pattern_is_refused_at_once():
    with pytest.raises(ValueError, match="pattern"):
        optax_ia.path_mask("(")


def test_path_mask_of_no_parameters():
    assert optax_ia.path_mask("kernel")({}) == {}
