"""Every case under jit, scan, vmap, cond and donation, without recompiling."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_ia
from tests.contract.cases import over_cases
from tests.contract.problem import (
    STEPS,
    assert_trees_close,
    baseline,
    gradients,
    initial,
    jitted,
    make_step,
    run,
    signature,
)


@over_cases("extra_args")
def test_unknown_extra_arguments_are_accepted(case):
    tx = case.make()
    params = initial()
    expected = tx.update(gradients(params, 0), tx.init(params), params)
    actual = tx.update(
        gradients(params, 0), tx.init(params), params, unheard_of=jnp.ones(3)
    )
    assert_trees_close(actual, expected, rtol=0, atol=0)


@over_cases("jit")
def test_jit_equals_eager(case):
    params = initial()
    tx = case.make()
    eager = run(make_step(tx), params, case.init(tx, params), last=3)
    _, step = jitted(case)
    assert_trees_close(run(step, params, case.init(tx, params), last=3), eager)


@over_cases("recompile")
def test_second_call_does_not_recompile(case):
    tx = case.make()
    step = jax.jit(make_step(tx))
    run(step, initial(), case.init(tx, initial()), last=3)
    assert step._cache_size() == 1


@over_cases("stable_state")
def test_state_keeps_its_types(case):
    tx, step = jitted(case)
    params = initial()
    state = tx.init(params)
    assert signature(step(params, state, 0)) == signature((params, state))
    assert signature(make_step(tx)(params, state, 0)) == signature((params, state))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))


@over_cases("scan")
def test_scan_equals_a_loop_and_stacks_the_diagnostics(case):
    tx = case.make()
    params = initial()

    @jax.jit
    def scanned(params, state):
        def body(carry, t):
            carry = make_step(tx)(*carry, t)
            return carry, optax_ia.diagnostics(carry[1])

        return jax.lax.scan(body, (params, state), np.arange(STEPS))

    carry, stacked = scanned(params, case.init(tx, params))
    assert_trees_close(carry, baseline(case))
    last = optax_ia.diagnostics(baseline(case)[1])
    assert set(stacked) == set(last)
    for name, values in stacked.items():
        assert isinstance(name, str)
        assert values.shape == (STEPS,), name
        np.testing.assert_allclose(values[-1], last[name], rtol=1e-5)


@over_cases("vmap")
def test_vmap_equals_separate_runs(case):
    tx, step = jitted(case)
    many = [jax.tree.map(lambda w, s=s: s * w, initial()) for s in (1.0, -0.5)]
    stacked = jax.tree.map(lambda *w: jnp.stack(w), *many)
    states = jax.vmap(lambda params: case.init(tx, params))(stacked)
    batched = jax.jit(jax.vmap(make_step(tx), in_axes=(0, 0, None)))
    actual = run(batched, stacked, states, last=4)
    for i, params in enumerate(many):
        expected = run(step, params, case.init(tx, params), last=4)
        assert_trees_close(jax.tree.map(lambda leaf, i=i: leaf[i], actual), expected)


@over_cases("cond")
def test_stable_under_cond(case):
    tx = case.make()

    @jax.jit
    def step(params, state, t, skip):
        grads = gradients(params, t)
        updates, state = jax.lax.cond(
            skip,
            lambda: (optax.tree.zeros_like(grads), state),
            lambda: tx.update(grads, state, params),
        )
        return optax.apply_updates(params, updates), state

    params = initial()
    state = case.init(tx, params)
    assert_trees_close(step(params, state, 0, True), (params, state), 0, 0)
    for t in range(STEPS):
        params, state = step(params, state, t, False)
    assert_trees_close((params, state), baseline(case))


@over_cases("donation")
def test_parameters_and_state_can_be_donated(case):
    tx = case.make()
    step = jax.jit(make_step(tx), donate_argnums=(0, 1))
    params = initial()
    state = case.init(tx, params)
    for t in range(STEPS):
        before = [leaf for leaf in jax.tree.leaves((params, state)) if leaf.ndim]
        params, state = step(params, state, t)
        assert all(leaf.is_deleted() for leaf in before)
    assert_trees_close((params, state), baseline(case))


@over_cases("alias")
def test_init_shares_no_buffer(case):
    tx = case.make()
    params = initial()
    leaves = jax.tree.leaves((params, tx.init(params)))
    pointers = [leaf.unsafe_buffer_pointer() for leaf in leaves]
    assert len(set(pointers)) == len(pointers)


@over_cases("alias")
def test_state_shares_no_buffer_with_the_updates_it_returns(case):
    """What is left of an eager update may be donated to the next, jitted one."""
    tx = case.make()
    params = initial()
    grads = gradients(params, 0)
    updates, state = tx.update(grads, tx.init(params), params)
    theirs = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(params)}
    ours = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)}
    assert not theirs & ours
    del updates


@over_cases("float32_mode")
def test_without_float64(case):
    """As most users run: nothing may depend on 64-bit types being there."""
    with jax.enable_x64(False):
        tx = case.make()
        params = initial()
        state = case.init(tx, params)
        before = signature((params, state))
        params, state = run(jax.jit(make_step(tx)), params, state)
        assert signature((params, state)) == before
        assert all(leaf.dtype.itemsize <= 4 for leaf in jax.tree.leaves(state))
    for actual, expected in zip(
        jax.tree.leaves((params, state)), jax.tree.leaves(baseline(case)), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    if case.averages:
        expected_params, expected_state = baseline(case)
        assert_trees_close(
            optax_ia.averaged_params(state, params),
            optax_ia.averaged_params(expected_state, expected_params),
            rtol=1e-4,
            atol=1e-5,
        )


@over_cases("eval_shape")
def test_init_under_eval_shape(case):
    tx = case.make()
    params = initial()
    abstract = jax.eval_shape(tx.init, params)
    assert signature(abstract) == signature(tx.init(params))
    from_abstract = jax.eval_shape(tx.init, jax.eval_shape(lambda: params))
    assert signature(from_abstract) == signature(abstract)
