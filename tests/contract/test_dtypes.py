"""Every case in bfloat16, float32 and float64, and averages of rounded iterates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.contract.cases import over_cases
from tests.contract.problem import STEPS, gradients, initial, make_step, signature

DTYPES = [
    pytest.param(dtype, id=jnp.dtype(dtype).name)
    for dtype in (jnp.bfloat16, jnp.float32, jnp.float64)
]


@pytest.mark.parametrize("dtype", DTYPES)
@over_cases("dtypes")
def test_dtypes_are_kept(case, dtype):
    tx = case.make()
    params = initial(dtype)
    state = case.init(tx, params)

    @jax.jit
    def step(params, state, t):
        updates, state = tx.update(gradients(params, t), state, params)
        return optax.apply_updates(params, updates), state, updates

    before = signature((params, state))
    for t in range(3):
        params, state, updates = step(params, state, t)
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(updates))
        assert signature((params, state)) == before
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))
    if case.averages:
        average = optax_ia.averaged_params(state, params)
        assert signature(average) == signature(params)


@over_cases("dtypes")
def test_updates_have_the_gradients_dtype(case):
    """Float32 gradients of bfloat16 parameters give float32 updates."""
    tx = case.make()
    params = initial(jnp.bfloat16)
    grads = initial(jnp.float32)
    state = case.init(tx, params)
    for _ in range(3):
        updates, state = tx.update(grads, state, params)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(updates))
    if case.averages:
        average = optax_ia.averaged_params(state, params)
        assert signature(average) == signature(params)


@pytest.mark.parametrize("batched", [False, True], ids=["jit", "vmap"])
@over_cases("bfloat16_average", averages=True)
def test_average_of_bfloat16_iterates_is_that_of_the_visible_ones(case, batched):
    """The average must see the rounded parameters, not a wider temporary.

    Under vmap the conditional becomes a selection, and all is fused into one kernel.
    """
    tx = case.make(every=1)
    step, params = make_step(tx), initial(jnp.bfloat16)
    state = case.init(tx, params)
    if batched:
        step = jax.vmap(step, in_axes=(0, 0, None))
        params, state = jax.tree.map(lambda x: jnp.stack([x, x]), (params, state))
    step = jax.jit(step)
    visible = []
    for _ in range(3):
        for t in range(STEPS):
            count = optax_ia.num_averaged(state)
            params, state = step(params, state, t)
            if (optax_ia.num_averaged(state) > count).all():
                visible.append(jax.tree.map(lambda w: np.asarray(w, float), params))
    assert len(visible) >= 2 * STEPS
    decay = case.argument("decay") if "decay" in case.parameters else 1.0
    weights = decay ** np.arange(len(visible))[::-1]
    expected = jax.tree.map(
        lambda *w: np.tensordot(weights / weights.sum(), np.stack(w), axes=1), *visible
    )
    wide = jax.tree.map(lambda w: w.astype(jnp.float32), params)
    average = optax_ia.averaged_params(state, wide)
    for got, want in zip(
        jax.tree.leaves(average), jax.tree.leaves(expected), strict=True
    ):
        assert got.dtype == jnp.float32
        # bfloat16 keeps three digits; a mean of unrounded iterates is off by 1e-4
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
