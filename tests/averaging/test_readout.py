"""Reading, counting and starting the one average inside any wrapper."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia

PARAMS = {"a": jnp.zeros(3), "b": jnp.zeros((2, 2))}
ONES = jax.tree.map(lambda leaf: -jnp.ones_like(leaf), PARAMS)


def averaging(start=2):
    """SGD whose iterates are 1, 2, 3, ... in every entry."""
    return optax.chain(optax.sgd(1.0), optax_ia.tail_average(start))


WRAPPERS = {
    "bare": averaging,
    "chain": lambda start=2: optax.chain(
        optax.clip_by_global_norm(1e3), optax.chain(averaging(start))
    ),
    "masked": lambda start=2: optax.masked(averaging(start), {"a": True, "b": True}),
    "masked_by_function": lambda start=2: optax.masked(
        averaging(start), lambda params: jax.tree.map(lambda _: True, params)
    ),
    "partition": lambda start=2: optax.partition(
        {"ours": averaging(start)}, {"a": "ours", "b": "ours"}
    ),
    "inject_hyperparams": lambda start=2: optax.inject_hyperparams(
        lambda learning_rate: optax.chain(
            optax.sgd(learning_rate), optax_ia.tail_average(start)
        )
    )(learning_rate=1.0),
    "inject_start": lambda start=2: optax.inject_hyperparams(
        lambda start, every: optax.chain(
            optax.sgd(1.0), optax_ia.tail_average(start, every)
        )
    )(start, 1),
    "multi_steps": lambda start=2: optax.MultiSteps(averaging(start), 1),
    "multi_steps_transformation": lambda start=2: optax.MultiSteps(
        averaging(start), 1
    ).gradient_transformation(),
    "apply_if_finite": lambda start=2: optax.apply_if_finite(averaging(start), 2),
    "lookahead": lambda start=2: optax_ia.lookahead(averaging(start), 100),
    "nested": lambda start=2: optax.apply_if_finite(
        optax.MultiSteps(
            optax.masked(optax_ia.lookahead(averaging(start), 100), True), 1
        ).gradient_transformation(),
        2,
    ),
    "conditionally": lambda start=2: optax.conditionally_transform(
        averaging(start), lambda step, **_: step < 100
    ),
}

every_wrapper = pytest.mark.parametrize("make", WRAPPERS.values(), ids=WRAPPERS.keys())


def run(tx, steps, params=PARAMS, state=None):
    @jax.jit
    def step(params, state):
        updates, state = tx.update(ONES, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params) if state is None else state
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def assert_all(tree, value):
    assert jax.tree.structure(tree) == jax.tree.structure(PARAMS)
    for leaf, like in zip(jax.tree.leaves(tree), jax.tree.leaves(PARAMS), strict=True):
        assert leaf.shape == like.shape
        assert leaf.dtype == like.dtype
        np.testing.assert_allclose(leaf, value, rtol=1e-12)


@every_wrapper
@pytest.mark.parametrize("traced", [False, True])
def test_average_inside(make, traced):
    params, state = run(make(), 4)
    read = jax.jit(optax_ia.averaged_params) if traced else optax_ia.averaged_params
    assert_all(params, 4.0)
    assert_all(read(state, params), 3.0)
    assert optax_ia.num_averaged(state) == 3
    assert optax_ia.diagnostics(state)["num_averaged"] == 3


@every_wrapper
def test_params_while_nothing_is_collected(make):
    tx = make(start=10)
    assert_all(optax_ia.averaged_params(tx.init(PARAMS), PARAMS), 0.0)
    params, state = run(tx, 3)
    assert_all(optax_ia.averaged_params(state, params), 3.0)
    assert optax_ia.num_averaged(state) == 0


@every_wrapper
def test_start_averaging_inside(make):
    tx = make(start=1000)
    params, state = run(tx, 2)
    started = optax_ia.start_averaging(state)
    assert jax.tree.structure(started) == jax.tree.structure(state)
    params, state = run(tx, 3, params, started)
    assert_all(optax_ia.averaged_params(state, params), 4.0)
    assert optax_ia.num_averaged(state) == 3


def test_multi_steps_counts_its_own_updates():
    tx = optax.MultiSteps(averaging(start=2), every_k_schedule=3)
    params, state = run(tx, 9)
    assert_all(params, 3.0)
    assert optax_ia.num_averaged(state) == 2
    assert_all(optax_ia.averaged_params(state, params), 2.5)


def test_a_mask_over_a_whole_subtree():
    tx = optax.masked(averaging(1), {"block": False, "head": True})
    params = {"block": dict(PARAMS), "head": dict(PARAMS)}
    grads = {"block": dict(ONES), "head": dict(ONES)}
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    average = optax_ia.averaged_params(state, params)
    assert_all(average["block"], -3.0)
    assert_all(average["head"], 2.0)


KINDS = {
    "tail": lambda: averaging(2),
    "ema": lambda: optax_ia.with_ema_average(optax.sgd(2.0), 0.5, start=2),
    "window": lambda: optax_ia.with_window_average(optax.sgd(3.0), 2, start=2),
}


def assert_merged(average):
    """After four updates; the iterates of the groups are t, 2 t and 3 t."""
    expected = {"tail": 3.0, "ema": 2 * (2 * 0.25 + 3 * 0.5 + 4) / 1.75, "window": 10.5}
    for name, value in expected.items():
        np.testing.assert_allclose(average[name], value, rtol=1e-12)
    np.testing.assert_allclose(average["none"], -4.0)


@pytest.mark.parametrize("how", ["partition", "masked"])
@pytest.mark.parametrize("traced", [False, True])
def test_averages_of_different_parameters_are_merged(how, traced):
    names = (*KINDS, "none")
    params = {name: jnp.zeros(3) for name in names}
    grads = {name: -jnp.ones(3) for name in names}
    if how == "partition":
        transforms = {name: make() for name, make in KINDS.items()}
        tx = optax.partition(
            transforms | {"none": optax.sgd(-1.0)}, {n: n for n in names}
        )
    else:
        tx = optax.chain(
            *(
                optax.masked(make(), {n: n == name for n in names})
                for name, make in KINDS.items()
            )
        )
    state = tx.init(params)
    update = jax.jit(tx.update)
    for _ in range(4):
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    read = jax.jit(optax_ia.averaged_params) if traced else optax_ia.averaged_params
    assert_merged(read(state, params))
    with pytest.raises(ValueError, match=r"different numbers of iterates \(3, 3, 2\)"):
        optax_ia.num_averaged(state)
    counts = [n for k, n in optax_ia.diagnostics(state).items() if "num_av" in k]
    assert sorted(map(int, counts)) == [2, 3, 3]


def test_start_averaging_starts_every_group():
    tx = optax.partition(
        {"x": averaging(1000), "y": averaging(None)}, {"a": "x", "b": "y"}
    )
    params, state = run(tx, 2)
    params, state = run(tx, 3, params, optax_ia.start_averaging(state))
    assert_all(optax_ia.averaged_params(state, params), 4.0)
    assert optax_ia.num_averaged(state) == 3


def test_two_averages_of_the_same_parameters_are_refused_with_the_remedy():
    tx = optax.chain(averaging(), optax_ia.window_average(2))
    params, state = run(tx, 4)
    message = (
        r"two averages of the parameter 'a', opt_state\[0\]\[1\] and opt_state\[1\]"
    )
    for read in (
        lambda: optax_ia.averaged_params(state, params),
        lambda: optax_ia.num_averaged(state),
        lambda: optax_ia.start_averaging(state),
    ):
        with pytest.raises(ValueError, match=message):
            read()
    assert_all(optax_ia.averaged_params(state[0][1], params), 3.0)
    assert_all(optax_ia.averaged_params(state[1], params), 3.5)


@pytest.mark.parametrize("start", [10, None])
def test_require_refuses_an_average_that_has_collected_nothing(start):
    params, state = run(averaging(start), 3)
    with pytest.raises(ValueError, match=r"nothing after 3 updates.*start_averaging"):
        optax_ia.averaged_params(state, params, require=True)
    params, state = run(averaging(3), 3)
    assert_all(optax_ia.averaged_params(state, params, require=True), 3.0)


@pytest.mark.parametrize("state", [optax.adam(0.1).init(PARAMS), (), None])
def test_none_is_refused_and_the_message_says_what_makes_one(state):
    for read in (
        lambda: optax_ia.averaged_params(state, PARAMS),
        lambda: optax_ia.num_averaged(state),
        lambda: optax_ia.start_averaging(state),
    ):
        with pytest.raises(ValueError, match=r"holds no average.*tail_average"):
            read()


def test_params_of_another_model_are_refused():
    _, state = run(averaging(1), 2)
    for other in ({"a": PARAMS["a"]}, {"a": PARAMS["a"], "b": jnp.zeros((3, 3))}):
        with pytest.raises(ValueError, match="params"):
            optax_ia.averaged_params(state, other)


def test_bfloat16_params_get_a_bfloat16_average():
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    tx = averaging(1)
    state = tx.init(params)
    updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
    average = optax_ia.averaged_params(state, optax.apply_updates(params, updates))
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(average))


def test_under_vmap_each_member_has_its_own_average():
    tx = averaging(2)

    def member(scale):
        grads = jax.tree.map(lambda g: scale * g, ONES)
        params, state = PARAMS, tx.init(PARAMS)
        for _ in range(3):
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return optax_ia.averaged_params(state, params)

    averages = jax.vmap(member)(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(averages["a"], [[2.5] * 3, [5.0] * 3])


def test_reading_the_average_gives_a_tree_of_its_own():
    """Evaluation may keep the average while the next step donates the state."""
    tx = averaging(1)
    params, state = run(tx, 2)
    average = optax_ia.averaged_params(state, params)
    held = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, state))}
    read = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(average)}
    assert not held & read


@pytest.mark.parametrize("x64", [True, False])
def test_diagnostics_of_plain_optax_are_empty_or_scalars(x64):
    with jax.enable_x64(x64):
        for tx in (optax.adamw(0.1), optax.sgd(0.1, momentum=0.9)):
            read = optax_ia.diagnostics(tx.init(PARAMS))
            assert all(jnp.shape(value) == () for value in read.values())
