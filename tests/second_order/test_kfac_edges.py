"""K-FAC where something is missing, not finite, of another type or wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.second_order.kfac_problem import (
    batch_factors,
    both_modes,
    dense_step,
    tree,
    update,
)

FACTORS = batch_factors()
GRADS = tree()


def test_no_statistics_leave_the_old_ones():
    tx = optax_ia.scale_by_kfac(0.1, factor_every=2, inverse_every=1)
    first, state = update(tx, GRADS, FACTORS)
    assert not optax_ia.kfac_factors_due(state)
    second, state = update(tx, GRADS, {}, state)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert optax_ia.kfac_factors_due(state)
    assert state.num_factors == 1


def test_statistics_that_are_not_finite_are_left_out():
    tx = optax_ia.scale_by_kfac(0.1, inverse_every=1)
    expected, state = update(tx, GRADS, FACTORS)
    broken = {**FACTORS, "conv": jax.tree.map(lambda x: x * jnp.nan, FACTORS["conv"])}
    direction, after = update(tx, GRADS, broken, state)
    jax.tree.map(np.testing.assert_array_equal, direction, expected)
    assert after.num_factors == 1


@both_modes
def test_a_root_that_is_not_finite_keeps_the_previous(mode):
    tx = optax_ia.scale_by_kfac(0.1, inverse_every=1, damping_mode=mode)
    expected, state = update(tx, GRADS, FACTORS)
    # an indefinite factor has no Cholesky inverse, and infinities no eigenvectors
    bad = -100 * jnp.eye(5) if mode == "factored" else jnp.full((5, 5), jnp.inf)
    broken = {**state.factors, "dense": state.factors["dense"]._replace(inputs=bad)}
    direction, after = update(tx, GRADS, {}, state._replace(factors=broken))
    np.testing.assert_array_equal(
        after.bases["dense"][0].matrix, state.bases["dense"][0].matrix
    )
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(direction))
    if mode == "product":
        np.testing.assert_array_equal(
            direction["dense"]["kernel"], expected["dense"]["kernel"]
        )


@both_modes
def test_zero_statistics_and_gradients(mode):
    tx = optax_ia.scale_by_kfac(0.5, damping_mode=mode)
    zeros = jax.tree.map(jnp.zeros_like, FACTORS)
    direction, state = update(tx, GRADS, zeros)
    jax.tree.map(
        lambda u, g: np.testing.assert_allclose(u, g / 0.5, rtol=1e-12),
        direction,
        GRADS,
    )
    nothing, _ = update(tx, optax.tree.zeros_like(GRADS), FACTORS, state)
    assert all(not np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(nothing))


def test_a_layer_without_statistics_takes_the_damped_gradient():
    tx = optax_ia.scale_by_kfac(0.5)
    direction, _ = update(tx, GRADS, {**FACTORS, "conv": None})
    np.testing.assert_allclose(
        direction["conv"]["kernel"], GRADS["conv"]["kernel"] / 0.5, rtol=1e-12
    )
    plain, _ = update(optax_ia.scale_by_kfac(0.5, fallback="gradient"), GRADS, FACTORS)
    np.testing.assert_array_equal(plain["norm"]["scale"], GRADS["norm"]["scale"])


def test_kl_clip():
    free, _ = update(optax_ia.scale_by_kfac(0.1), GRADS, FACTORS)
    product = sum(
        float(jnp.vdot(u, g))
        for u, g in zip(jax.tree.leaves(free), jax.tree.leaves(GRADS), strict=True)
    )
    for clip, rate in ((1e-3, 0.1), (1e6, 0.1)):
        tx = optax_ia.scale_by_kfac(0.1, kl_clip=clip, learning_rate=rate)
        clipped, state = update(tx, GRADS, FACTORS)
        scale = min(1.0, np.sqrt(clip / (rate**2 * product)))
        jax.tree.map(
            lambda c, f, s=scale: np.testing.assert_allclose(c, s * f, rtol=1e-9),
            clipped,
            free,
        )
        assert optax_ia.diagnostics(state)["kl_scale"] == pytest.approx(scale, rel=1e-6)


def test_masked_parameters():
    factors = {"dense": FACTORS["dense"]}
    grads = {"dense": GRADS["dense"]}
    inner = optax_ia.scale_by_kfac(0.1)
    no_bias = optax.masked(inner, {"dense": {"kernel": True, "bias": False}})
    direction, _ = update(no_bias, grads, factors)
    np.testing.assert_array_equal(direction["dense"]["bias"], grads["dense"]["bias"])
    inputs, outputs = factors["dense"]
    expected = dense_step(
        np.asarray(grads["dense"]["kernel"]), (inputs[:-1, :-1], outputs), 0.1
    )
    np.testing.assert_allclose(direction["dense"]["kernel"], expected, rtol=1e-9)
    no_kernel = optax.masked(inner, {"dense": {"kernel": False, "bias": True}})
    direction, _ = update(no_kernel, grads, factors)
    np.testing.assert_allclose(
        direction["dense"]["bias"], grads["dense"]["bias"] / 0.1, rtol=1e-12
    )


def test_bf16_parameters_have_float32_statistics():
    grads = tree(np.random.default_rng(5), jnp.bfloat16)
    tx = optax_ia.kfac(0.1)
    state = tx.init(grads)
    updates, state = update(tx, grads, FACTORS, state, grads)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(updates))
    factors = state[0].factors
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(factors))


def test_vmapped_updates_equal_single_ones():
    tx = optax_ia.scale_by_kfac(0.1, inverse_every=1)
    rng = np.random.default_rng(6)
    grads, factors = (
        [tree(rng) for _ in range(2)],
        [batch_factors(rng) for _ in range(2)],
    )

    def step(grads, factors):
        return tx.update(grads, tx.init(grads), kfac_factors=factors)[0]

    together = jax.jit(jax.vmap(step))(
        *(jax.tree.map(lambda *x: jnp.stack(x), *trees) for trees in (grads, factors))
    )
    for i in range(2):
        jax.tree.map(
            lambda many, one, i=i: np.testing.assert_allclose(many[i], one, rtol=1e-9),
            together,
            step(grads[i], factors[i]),
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"damping": 0.0}, r"damping must be > 0, got 0\.0"),
        ({"damping": -1.0}, r"damping must be > 0, got -1\.0"),
        ({"decay": 1.0}, r"decay must be < 1, got 1\.0"),
        ({"factor_every": 0}, r"factor_every must be >= 1, got 0"),
        ({"inverse_every": 2.5}, r"inverse_every must be a whole number, got 2\.5"),
        ({"damping_mode": "both"}, r"damping_mode must be one of .*, got 'both'"),
        ({"kl_clip": 0.0}, r"kl_clip must be > 0, got 0\.0"),
        ({"fallback": "zero"}, r"fallback must be one of .*, got 'zero'"),
        ({"max_dim": 0}, r"max_dim must be >= 1, got 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        optax_ia.scale_by_kfac(**arguments)
    with pytest.raises(ValueError, match=message):
        optax_ia.kfac(0.1, **arguments)


def test_bad_factors():
    tx = optax_ia.scale_by_kfac(0.1)
    state = tx.init(GRADS)
    with pytest.raises(ValueError, match=r"needs kfac_factors.*kfac_value_and_grad"):
        tx.update(GRADS, state)
    absent = {path: FACTORS[path] for path in ("dense", "table")}
    with pytest.raises(ValueError, match=r"missing: \['conv'\]"):
        update(tx, GRADS, absent, state)
    with pytest.raises(ValueError, match=r"not among the parameters: \['other'\]"):
        update(tx, GRADS, {**FACTORS, "other": FACTORS["dense"]}, state)
    wrong = {**FACTORS, "conv": FACTORS["dense"]}
    with pytest.raises(
        ValueError, match=r"conv has \(5, 5\) and \(3, 3\), not \(4, 4\)"
    ):
        update(tx, GRADS, wrong, state)
    with pytest.raises(ValueError, match="must hold KfacFactors, conv has dict"):
        update(tx, GRADS, {**FACTORS, "conv": {"A": 1}}, state)
    with pytest.raises(ValueError, match="must be a dict of layer path.*got list"):
        update(tx, GRADS, [FACTORS], state)
    with pytest.raises(TypeError, match=r"damping must be a number, got the function"):
        optax_ia.scale_by_kfac(damping=optax.constant_schedule(0.1))
    layers = (optax_ia.KfacLayer("nowhere", num_input_axes=1),)
    with pytest.raises(ValueError, match="nowhere/kernel"):
        optax_ia.scale_by_kfac(0.1, layers=layers).init(GRADS)
