"""What every case must achieve: descend, average, and say how it stands."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_ia
from tests.contract.cases import local_quadratic, over_cases
from tests.contract.problem import (
    STEPS,
    TARGET,
    assert_trees_close,
    assert_trees_identical,
    baseline,
    initial,
    jitted,
    make_step,
    run,
)


@over_cases("convergence")
def test_converges_on_a_quadratic(case):
    """Curvatures from 1 to 5, no noise; the loss falls a hundredfold."""
    tx = case.make()
    target = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), TARGET)

    def loss(params):
        errors = jax.tree.map(lambda w, c: w - c, params, target)
        return sum(
            jnp.sum(jnp.linspace(1.0, 5.0, e.size, dtype=e.dtype) * e.ravel() ** 2)
            for e in jax.tree.leaves(errors)
        )

    @jax.jit
    def train(params):
        def body(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params)
            known = {
                "value": value,
                "value_fn": loss,
                "grad_fn": jax.grad(loss),
                "full_gradient": grads,
                "matvec": lambda v: jax.jvp(jax.grad(loss), (params,), (v,))[1],
                "kfac_factors": local_quadratic(params, params)["kfac_factors"],
            }
            extra = {name: known[name] for name in case.needs}
            updates, state = tx.update(grads, state, params, **extra)
            return (optax.apply_updates(params, updates), state), None

        carry, _ = jax.lax.scan(body, (params, case.init(tx, params)), length=4000)
        return carry

    params, state = train(initial())
    assert loss(params) < 0.01 * loss(initial())
    if case.averages:
        assert loss(optax_ia.averaged_params(state, params)) < 0.05 * loss(initial())


@over_cases("diagnostics")
def test_diagnostics_are_a_flat_dict_of_scalars(case):
    params, state = baseline(case)
    tx, _ = jitted(case)
    before = optax_ia.diagnostics(tx.init(initial()))
    after = optax_ia.diagnostics(state)
    compiled = jax.jit(optax_ia.diagnostics)(state)
    assert isinstance(after, dict)
    assert set(before) == set(after) == set(compiled)
    for name, value in after.items():
        assert isinstance(name, str)
        assert isinstance(value, jax.Array)
        assert value.shape == before[name].shape == ()
        assert value.dtype == before[name].dtype
        assert compiled[name] == value
    if case.averages:
        assert after["num_averaged"] == optax_ia.num_averaged(state)


@over_cases("learning_rate_diagnostics")
def test_the_learning_rate_is_reported(case):
    rate = case.argument("learning_rate")
    read = optax_ia.diagnostics(baseline(case)[1])
    np.testing.assert_allclose(read["learning_rate"], rate, rtol=1e-6)


@over_cases("averages", averages=True)
def test_the_average_is_of_the_iterates_it_says(case):
    """None before ``start``, then each ``every``-th; the current ones until then."""
    tx, step = jitted(case)
    params = initial()
    state = case.init(tx, params)
    assert_trees_identical(optax_ia.averaged_params(state, params), params)
    visible = []
    for t in range(STEPS):
        count = int(optax_ia.num_averaged(state))
        params, state = run(step, params, state, t, t + 1)
        if int(optax_ia.num_averaged(state)) > count:
            visible.append((t + 1, params))
    assert [t for t, _ in visible] == case.collected(STEPS)
    decay = case.argument("decay") if "decay" in case.parameters else 1.0
    weights = decay ** np.arange(len(visible))[::-1]
    expected = jax.tree.map(
        lambda *w: jnp.asarray(
            np.tensordot(weights / weights.sum(), np.stack(w), axes=1), jnp.float32
        ),
        *(iterate for _, iterate in visible),
    )
    assert_trees_close(optax_ia.averaged_params(state, params), expected, rtol=1e-6)


@over_cases("iterates_untouched", averages=True)
def test_averaging_changes_no_update(case):
    """The iterates are those of the same optimiser that has not begun to average."""
    overrides = {"start": 10_000} if "start" in case.parameters else {}
    late = case.make(**overrides)
    params, state = run(jax.jit(make_step(late)), initial(), late.init(initial()))
    assert int(optax_ia.num_averaged(state)) == 0
    assert_trees_close(params, baseline(case)[0])
