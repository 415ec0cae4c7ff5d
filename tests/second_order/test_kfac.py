"""The K-FAC rule: dense inverses, averages of factors, and what is left out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.second_order.kfac_problem import (
    as_matrix,
    batch_factors,
    both_modes,
    dense_step,
    matrices,
    spd,
    tree,
    update,
)

FACTORS = batch_factors()
GRADS = tree()


@both_modes
def test_a_step_is_the_dense_inverse(mode):
    tx = optax_ia.scale_by_kfac(0.07, damping_mode=mode)
    direction, _ = update(tx, GRADS, FACTORS)
    for module, factors in FACTORS.items():
        expected = dense_step(as_matrix(module, GRADS[module]), factors, 0.07, mode)
        np.testing.assert_allclose(
            as_matrix(module, direction[module]), expected, rtol=1e-10, atol=1e-10
        )
    np.testing.assert_allclose(
        direction["norm"]["scale"], GRADS["norm"]["scale"] / 0.07, rtol=1e-12
    )


def _fisher_step(jacobian, gradient, damping):
    """``(F + damping)^-1 g`` from Jacobians of shape (n, outputs, parameters)."""
    fisher = np.einsum("nop,noq->pq", jacobian, jacobian) / len(jacobian)
    return np.linalg.solve(fisher + damping * np.eye(len(fisher)), gradient.ravel())


def test_a_linear_layer_with_gaussian_output_takes_the_fisher_step():
    rng = np.random.default_rng(1)
    inputs = np.concatenate([rng.normal(size=(20, 4)), np.ones((20, 1))], axis=1)
    gradient = inputs.T @ rng.normal(size=(20, 3)) / 20
    jacobian = np.einsum("ni,oj->noij", inputs, np.eye(3)).reshape(20, 3, 15)
    factors = {
        "": optax_ia.KfacFactors(jnp.asarray(inputs.T @ inputs / 20), jnp.eye(3))
    }
    grads = {"kernel": jnp.asarray(gradient[:-1]), "bias": jnp.asarray(gradient[-1])}
    direction, _ = update(optax_ia.scale_by_kfac(1e-3), grads, factors)
    np.testing.assert_allclose(
        as_matrix("", direction).ravel(),
        _fisher_step(jacobian, gradient, 1e-3),
        rtol=1e-8,
    )


def test_one_example_takes_the_fisher_step():
    rng = np.random.default_rng(2)
    a, g = rng.normal(size=4), rng.normal(size=3)
    gradient = np.outer(a, g)
    jacobian = gradient.reshape(1, 1, 12)
    factors = {
        "": optax_ia.KfacFactors(
            jnp.asarray(np.outer(a, a)), jnp.asarray(np.outer(g, g))
        )
    }
    grads = {"kernel": jnp.asarray(gradient)}
    direction, _ = update(optax_ia.scale_by_kfac(1e-2), grads, factors)
    np.testing.assert_allclose(
        np.asarray(direction["kernel"]).ravel(),
        _fisher_step(jacobian, gradient, 1e-2),
        rtol=1e-8,
    )


@both_modes
def test_groups_are_layers_of_their_own(mode):
    rng = np.random.default_rng(3)
    kernel = rng.normal(size=(2, 2, 3, 4))
    bias = rng.normal(size=4)
    layer = optax_ia.KfacLayer("", num_input_axes=3, bias="bias", groups=2)
    parts = [(spd(13, rng), spd(2, rng)) for _ in range(2)]
    factors = {
        "": optax_ia.KfacFactors(*(jnp.stack(p) for p in zip(*parts, strict=True)))
    }
    grads = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
    tx = optax_ia.scale_by_kfac(0.05, damping_mode=mode, layers=(layer,))
    direction, _ = update(tx, grads, factors)
    got = as_matrix("", direction)
    if mode == "factored":  # one share of the damping for all groups
        mean_in = np.mean([np.trace(a) / 13 for a, _ in parts])
        mean_out = np.mean([np.trace(g) / 2 for _, g in parts])
        pi, root = np.sqrt(mean_in / mean_out), np.sqrt(0.05)
    for j, (a, g) in enumerate(parts):
        columns = slice(2 * j, 2 * j + 2)
        gradient = as_matrix("", grads)[:, columns]
        if mode == "product":
            expected = dense_step(gradient, (a, g), 0.05)
        else:
            expected = np.linalg.solve(a + pi * root * np.eye(13), gradient)
            expected = np.linalg.solve(g + root / pi * np.eye(2), expected.T).T
        np.testing.assert_allclose(got[:, columns], expected, rtol=1e-9, atol=1e-12)


@both_modes
def test_wide_sides_keep_their_diagonal(mode):
    tx = optax_ia.scale_by_kfac(0.05, damping_mode=mode, max_dim=3)
    state = tx.init({"dense": GRADS["dense"]})
    assert state.factors["dense"].inputs.shape == (5,)
    assert state.factors["dense"].outputs.shape == (3, 3)
    inputs, outputs = FACTORS["dense"]
    narrow = optax_ia.KfacFactors(jnp.diagonal(inputs), outputs)
    grads = {"dense": GRADS["dense"]}
    direction, _ = update(tx, grads, {"dense": narrow}, state)
    expected = dense_step(as_matrix("dense", grads["dense"]), narrow, 0.05, mode)
    np.testing.assert_allclose(
        as_matrix("dense", direction["dense"]), expected, rtol=1e-10, atol=1e-12
    )


def _reference_run(batches, gradients, damping, decay, factor_every, inverse_every):
    """The averages and steps of updates 0, 1, ... for one layer, in NumPy."""
    mean, used, taken, steps = None, None, 0, []
    for t, (batch, gradient) in enumerate(zip(batches, gradients, strict=True)):
        if t % factor_every == 0:
            taken += 1
            rho = min(decay, 1 - 1 / taken)
            mean = [
                rho * old + (1 - rho) * new
                for old, new in zip(mean or batch, batch, strict=True)
            ]
        if t % inverse_every == 0:
            used = mean
        steps.append(dense_step(gradient, used, damping))
    return steps


@pytest.mark.parametrize(("factor_every", "inverse_every"), [(1, 1), (2, 3), (3, 2)])
def test_averages_and_periods(factor_every, inverse_every):
    rng = np.random.default_rng(4)
    batches = [batch_factors(rng) for _ in range(7)]
    grads = [tree(rng) for _ in range(7)]
    tx = optax_ia.scale_by_kfac(
        0.1, 0.6, factor_every=factor_every, inverse_every=inverse_every
    )
    step, state, got = jax.jit(tx.update), tx.init(grads[0]), []
    for g, batch in zip(grads, batches, strict=True):
        direction, state = step(g, state, kfac_factors=batch)
        got.append(direction)
    for module in batches[0]:
        expected = _reference_run(
            [matrices(batch[module]) for batch in batches],
            [as_matrix(module, g[module]) for g in grads],
            0.1,
            0.6,
            factor_every,
            inverse_every,
        )
        for direction, want in zip(got, expected, strict=True):
            np.testing.assert_allclose(
                as_matrix(module, direction[module]), want, rtol=1e-9, atol=1e-10
            )
    assert state.num_factors == -(-7 // factor_every)


def test_an_ill_conditioned_regression_takes_a_tenth_of_the_steps_of_sgd():
    rng = np.random.default_rng(7)
    x = jnp.asarray(rng.normal(size=(64, 10)) * np.logspace(0, -1.5, 10))
    target = jnp.asarray(rng.normal(size=(10, 3)))
    factors = {"": optax_ia.KfacFactors(x.T @ x / 64, jnp.eye(3))}

    def steps_to(tx, limit, **extra):
        w = {"kernel": jnp.zeros((10, 3))}
        start = tx.init(w)

        def unfinished(carry):
            w, _, count = carry
            return (jnp.max(jnp.abs(w["kernel"] - target)) > 0.01) & (count < limit)

        def body(carry):
            w, state, count = carry
            grads = {"kernel": x.T @ (x @ (w["kernel"] - target)) / 64}
            updates, state = tx.update(grads, state, w, **extra)
            return optax.apply_updates(w, updates), state, count + 1

        return int(jax.lax.while_loop(unfinished, body, (w, start, 0))[2])

    largest = float(jnp.linalg.eigvalsh(x.T @ x / 64)[-1])
    natural = steps_to(
        optax_ia.kfac(1.0, 1e-5, momentum=None), 200, kfac_factors=factors
    )
    plain = steps_to(optax.sgd(1.9 / largest), 20_000)
    assert natural <= 20
    assert plain >= 10 * natural
