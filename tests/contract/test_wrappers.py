"""Every case inside Optax's wrappers, and its average read through them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.contract.cases import local_quadratic, over_cases
from tests.contract.problem import (
    STEPS,
    assert_trees_close,
    assert_trees_identical,
    baseline,
    gradients,
    initial,
    jitted,
    make_step,
    run,
    signature,
)


def assert_same_average(case, state, params, expected_state, expected_params, **kw):
    """Asserts the read-outs through a wrapper against the unwrapped ones."""
    if not case.averages:
        return
    assert optax_ia.num_averaged(state) == optax_ia.num_averaged(expected_state)
    assert_trees_close(
        optax_ia.averaged_params(state, params),
        optax_ia.averaged_params(expected_state, expected_params),
        **kw,
    )


@over_cases("multi_steps")
def test_multi_steps_of_two(case):
    """Two half batches a step equal one step with the mean of their gradients."""
    tx = optax.MultiSteps(case.make(), every_k_schedule=2)

    @jax.jit
    def half(params, grads, state):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = initial()
    state = case.init(tx, params)
    if case.needs:  # its extra arguments would be those of the last micro-batch
        with pytest.raises(ValueError, match=r"MultiSteps.*accumulate=n"):
            half(params, gradients(params, 0), state)
        return
    for t in range(4):
        grads = gradients(params, t)
        for scale in (0.5, 1.5):
            scaled = jax.tree.map(lambda g, s=scale: s * g, grads)
            params, state = half(params, scaled, state)
    inner, step = jitted(case)
    expected = run(step, initial(), case.init(inner, initial()), last=4)
    assert_trees_close(params, expected[0])
    assert_same_average(case, state, params, expected[1], expected[0])
    read = optax_ia.diagnostics(state)
    for name, value in optax_ia.diagnostics(expected[1]).items():
        np.testing.assert_allclose(read[name], value, rtol=1e-5)


def numeric_arguments(case):
    """The arguments that inject_hyperparams makes arrays of."""
    values = {n: p.default for n, p in case.parameters.items()} | dict(case.arguments)
    return {
        n
        for n, v in values.items()
        if isinstance(v, int | float) and not isinstance(v, bool)
    } - set(case.static)


def injected(case, factory):
    """A case with all numbers that can be traced as hyperparameters."""
    make = optax.inject_hyperparams(factory, static_args=case.static)
    return make(**case.arguments)


@over_cases("inject_hyperparams")
def test_inject_hyperparams_traces_every_number(case):
    tx = injected(case, case.supplied_factory)
    step = jax.jit(make_step(tx))
    params = initial()
    state = case.init(tx, params)
    assert set(state.hyperparams) >= numeric_arguments(case)
    params, state = run(step, params, state)
    assert_trees_close(params, baseline(case)[0], rtol=2e-5, atol=2e-6)
    assert_same_average(
        case, state, params, *reversed(baseline(case)), rtol=2e-5, atol=2e-6
    )


@over_cases("injected_learning_rate")
def test_a_changed_learning_rate_is_used_without_recompiling(case):
    tx = injected(case, case.supplied_factory)
    step = jax.jit(make_step(tx))
    params, state = run(step, initial(), case.init(tx, initial()), last=2)
    compiled = step._cache_size()
    state.hyperparams["learning_rate"] = state.hyperparams["learning_rate"] * 0
    frozen, state = step(params, state, 0)
    state.hyperparams["learning_rate"] = state.hyperparams["learning_rate"] + 0.5
    moved, state = step(params, state, 0)
    assert step._cache_size() == compiled
    assert not np.allclose(frozen["dense"]["kernel"], moved["dense"]["kernel"])


@over_cases("masked")
def test_masked(case):
    """What is masked out keeps its gradient; the rest does not see it."""
    mask = {"dense": {"kernel": True, "bias": False}}
    tx = optax.masked(case.make(), mask)
    inner = case.make()
    params = initial()
    state = case.init(tx, params)
    only = {"dense": {"kernel": params["dense"]["kernel"]}}
    inner_state = case.init(inner, only)

    @jax.jit
    def step(params, state, only, inner_state, t):
        grads = gradients(params, t)
        grads["dense"]["bias"] = jnp.full_like(grads["dense"]["bias"], 0.25)
        updates, state = tx.update(grads, state, params)
        only_grads = {"dense": {"kernel": grads["dense"]["kernel"]}}
        only_updates, inner_state = inner.update(only_grads, inner_state, only)
        return (
            optax.apply_updates(params, updates),
            state,
            optax.apply_updates(only, only_updates),
            inner_state,
        )

    for t in range(STEPS):
        params, state, only, inner_state = step(params, state, only, inner_state, t)
    assert_trees_close(
        params["dense"]["kernel"], only["dense"]["kernel"], rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(
        params["dense"]["bias"], initial()["dense"]["bias"] + 0.25 * STEPS, rtol=1e-5
    )
    if case.averages:
        average = optax_ia.averaged_params(state, params)
        assert signature(average) == signature(params)
        assert_trees_identical(average["dense"]["bias"], params["dense"]["bias"])
        expected = optax_ia.averaged_params(inner_state, only)
        assert_trees_close(
            average["dense"]["kernel"],
            expected["dense"]["kernel"],
            rtol=1e-6,
            atol=1e-7,
        )
        assert not np.allclose(average["dense"]["kernel"], params["dense"]["kernel"])


@over_cases("partition")
def test_partition(case):
    """Each group is updated as if it were alone."""
    labels = {"dense": {"kernel": "ours", "bias": "theirs"}}
    tx = optax.partition({"ours": case.make(), "theirs": optax.sgd(0.1)}, labels)
    step = jax.jit(make_step(tx))
    params, state = run(step, initial(), case.init(tx, initial()))
    inner = case.make()
    only = {"dense": {"kernel": initial()["dense"]["kernel"]}}

    @jax.jit
    def alone(params, state, t):
        grads = gradients({"dense": {**params["dense"], "bias": jnp.zeros(8)}}, t)
        del grads["dense"]["bias"]
        updates, state = inner.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    expected_params, expected_state = run(alone, only, case.init(inner, only))
    assert_trees_close(params["dense"]["kernel"], expected_params["dense"]["kernel"])
    assert step._cache_size() == 1
    if case.averages:
        average = optax_ia.averaged_params(state, params)
        assert signature(average) == signature(params)
        assert_trees_identical(average["dense"]["bias"], params["dense"]["bias"])
        assert_trees_close(
            average["dense"]["kernel"],
            optax_ia.averaged_params(expected_state, expected_params)["dense"][
                "kernel"
            ],
        )


@over_cases("apply_if_finite")
def test_apply_if_finite_skips_a_nan(case):
    tx = optax.apply_if_finite(case.make(), max_consecutive_errors=3)
    step = jax.jit(make_step(tx))
    params, state = run(step, initial(), case.init(tx, initial()), last=3)
    nans = jax.tree.map(lambda w: jnp.full_like(w, jnp.nan), params)
    updates, state = jax.jit(tx.update)(nans, state, params)
    params = optax.apply_updates(params, updates)
    params, state = run(step, params, state, first=3)
    assert_trees_close(params, baseline(case)[0])
    assert_same_average(case, state, params, *reversed(baseline(case)))


@over_cases("schedule")
def test_learning_rate_schedules(case):
    """A constant schedule is the constant; a varying one is seen by the rule."""
    rate = case.argument("learning_rate")
    tx = case.make(learning_rate=optax.constant_schedule(rate))
    params, _ = run(jax.jit(make_step(tx)), initial(), case.init(tx, initial()), last=3)
    inner, step = jitted(case)
    expected, _ = run(step, initial(), case.init(inner, initial()), last=3)
    assert_trees_close(params, expected)

    halved = case.make(learning_rate=lambda count: rate * 0.5**count)
    step = jax.jit(make_step(halved))
    params, state = initial(), halved.init(initial())
    for t in range(3):
        before = params
        params, state = step(params, state, t)
        read = optax_ia.diagnostics(state)
        np.testing.assert_allclose(read["learning_rate"], rate * 0.5**t, rtol=1e-6)
    assert not np.allclose(params["dense"]["kernel"], expected["dense"]["kernel"])
    assert not np.array_equal(before["dense"]["kernel"], params["dense"]["kernel"])


@over_cases("extra_args", needs=True)
def test_extra_arguments_reach_through_the_wrappers(case):
    """Given from outside, as a training step does; the wrappers hand them on."""
    inner = case.make_bare()

    def run_wrapped(tx):
        @jax.jit
        def step(params, state, t):
            grads = gradients(params, t)
            known = local_quadratic(grads, params)
            extra = {name: known[name] for name in case.needs}
            updates, state = tx.update(grads, state, params, **extra)
            return optax.apply_updates(params, updates), state

        return run(step, initial(), tx.init(initial()))[0]

    for tx in (
        inner,
        optax.chain(optax.identity(), inner),
        optax.MultiSteps(inner, 1),
        optax.apply_if_finite(inner, 3),
        injected(case, case.factory),
        optax.masked(
            inner,
            {"dense": {"kernel": True, "bias": True}},
            mask_compatible_extra_args=True,
        ),
        optax.partition({"ours": inner}, "ours", mask_compatible_extra_args=True),
    ):
        assert_trees_close(run_wrapped(tx), baseline(case)[0], rtol=2e-5, atol=2e-6)


@over_cases("extra_args", needs=True)
def test_missing_extra_arguments_are_named(case):
    tx = case.make_bare()
    params = initial()
    given = local_quadratic(params, params)
    for missing in case.needs:
        extra = {name: given[name] for name in case.needs if name != missing}
        with pytest.raises(
            ValueError, match=rf"needs {missing}: call update\(.*="
        ) as e:
            tx.update(params, tx.init(params), params, **extra)
        assert f"{missing}={missing}" in str(e.value)
