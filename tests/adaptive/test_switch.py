"""When the switch to SGD happens, and that what runs after it is SGD."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.adaptive.problem import (
    assert_same,
    copied,
    gradients,
    initial,
    make_step,
    record,
    run,
    sgd_iterates,
)

INNERS = {
    "adam": lambda: optax.adam(0.05),
    "adamw": lambda: optax.adamw(0.05, weight_decay=0.1),
    "rmsprop": lambda: optax.rmsprop(0.05),
    "adagrad": lambda: optax.adagrad(0.1),
    "padam": lambda: optax_ia.padam(0.05),
}
SUFFIXES = {"global": [""], "leaf": ["/dense/bias", "/dense/kernel"]}
both_scopes = pytest.mark.parametrize("scope", SUFFIXES)


@functools.cache
def compiled(name, scope):
    """The maker of a switching optimiser and its one compiled step."""
    make = functools.partial(optax_ia.switch_to_sgd, INNERS[name](), scope=scope)
    return make, make_step(make)


def start_of(name, scope="global", **options):
    make, _ = compiled(name, scope)
    return initial(), make(**options).init(initial())


def switching_run(name, steps, scope="global", **options):
    _, step = compiled(name, scope)
    return record(step, start_of(name, scope, **options), steps, **options)


def sequence(values):
    """Gradients that do not depend on the parameters."""
    return lambda params, t: np.array(values[t])


def test_the_estimate_by_hand():
    r"""Steps -0.1 sign(g) have the estimate 0.1 n / ||g||_1."""
    given = [[1.0, 3.0], [1.0, 1.0], [-1.0, 1.0], [2.0, 4.0], [1.0, 0.0]]
    _, iterates, told = run(
        lambda: optax_ia.switch_to_sgd(optax.sign_sgd(0.1), 0.8, 0.5, tol=1e-2),
        5,
        params=jnp.zeros(2),
        gradient=sequence(given),
    )
    np.testing.assert_allclose(told["gamma"], [0.05, 0.1, 0.1, 0.1, 0.1])
    corrected = np.array([0.025, 0.0625, 0.08125]) / [0.5, 0.75, 0.875]
    np.testing.assert_allclose(told["lambda_hat"][:3], corrected)
    np.testing.assert_allclose(told["lambda_hat"][3:], corrected[2])
    rate = corrected[2]  # 0.007 from the third estimate; the second was 0.017 away
    np.testing.assert_array_equal(told["phase"], [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(told["switch_step"], [0, 0, 3, 3, 3])
    np.testing.assert_allclose(told["sgd_learning_rate"], [0, 0, rate, rate, rate])
    np.testing.assert_allclose(
        np.diff(iterates, axis=0, prepend=np.zeros((1, 2))),
        [
            [-0.1, -0.1],
            [-0.1, -0.1],
            [0.1, -0.1],
            [-0.2 * rate * 2, -0.2 * rate * 4],
            [-0.2 * rate * (0.8 * 2 + 1), -0.2 * rate * 0.8 * 4],
        ],
        rtol=1e-12,
    )


@both_scopes
def test_the_first_update_never_switches(scope):
    """Its average is its estimate, whatever the two are."""
    _, _, told = switching_run("adam", 3, scope, tol=1e9, switch_at=None)
    for suffix in SUFFIXES[scope]:
        np.testing.assert_array_equal(told[f"switch_step{suffix}"], [0, 2, 2])


@pytest.mark.parametrize("name", INNERS)
def test_the_inner_optimiser_until_the_switch_then_sgd_with_momentum(name):
    inner = run(INNERS[name], 5)[1]
    for b1 in (0.9, 0.0):
        _, iterates, told = switching_run(name, 15, b1=b1, switch_at=5)
        assert_same(iterates[:5], inner)
        rate = told["sgd_learning_rate"][-1]
        assert rate > 0
        expected = sgd_iterates(iterates[4], [(1 - b1) * rate] * 10, b1, first=5)
        assert_same(iterates[5:], expected)


def decaying(count):
    return 0.1 / (2 + count)


SCHEDULED = {
    "recorded": (lambda: optax_ia.padam(decaying), {}),
    "recorded_in_a_chain": (
        lambda: optax.chain(
            optax.scale_by_adam(), optax_ia.scale_by_learning_rate(decaying)
        ),
        {"scope": "leaf"},
    ),
    "injected": (lambda: optax.inject_hyperparams(optax.adam)(decaying), {}),
    "injected_and_recorded": (
        lambda: optax.inject_hyperparams(optax_ia.padam)(decaying),
        {},
    ),
    "told": (lambda: optax.rmsprop(decaying), {"learning_rate": decaying}),
}


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        *((name, None) for name in SCHEDULED),
        ("told", 0.2),
        ("recorded_in_a_chain", 0.2),
    ],
)
def test_the_schedule_goes_on_relative_to_the_switch(name, rate):
    """Update 4, the last adaptive one, has the rate 0.1 / 5."""
    inner, options = SCHEDULED[name]
    options = {"switch_at": 4, "sgd_learning_rate": rate, **options}
    _, iterates, told = run(lambda: optax_ia.switch_to_sgd(inner(), **options), 12)
    ratios = [decaying(n) / decaying(3) for n in range(4, 12)]
    for leaf, suffix in zip(("bias", "kernel"), SUFFIXES["leaf"], strict=True):
        name = f"sgd_learning_rate{suffix if 'scope' in options else ''}"
        base = 0.1 * told[name][-1] if rate is None else rate
        rates = [base * ratio for ratio in ratios]
        expected = sgd_iterates(iterates[3], rates, first=4)
        assert_same(
            [w["dense"][leaf] for w in iterates[4:]],
            [w["dense"][leaf] for w in expected],
        )


@pytest.mark.parametrize("options", [{}, {"learning_rate": 0.05}], ids=str)
def test_without_a_schedule_the_rate_is_constant(options):
    tx = optax_ia.switch_to_sgd(optax.adam(0.05), switch_at=4, **options)
    _, iterates, told = run(lambda: tx, 8)
    rates = [0.1 * told["sgd_learning_rate"][-1]] * 4
    assert_same(iterates[4:], sgd_iterates(iterates[3], rates, first=4))


def test_a_rate_changed_by_hand_after_the_switch_changes_sgds():
    inner = optax.inject_hyperparams(optax.adam)(learning_rate=0.05)
    tx = optax_ia.switch_to_sgd(inner, switch_at=3)
    (params, state), _, _ = run(lambda: tx, 5)
    update = jax.jit(tx.update)
    updates, _ = update(gradients(params, 5), state, params)
    hyperparams = state.inner_state.hyperparams
    hyperparams["learning_rate"] = hyperparams["learning_rate"] / 2
    halved, _ = update(gradients(params, 5), state, params)
    assert_same(halved, jax.tree.map(lambda u: u / 2, updates))


@both_scopes
@pytest.mark.parametrize("switch_at", [1, 2, 7])
def test_switch_at_is_exact(scope, switch_at):
    _, _, told = switching_run("adam", 8, scope, switch_at=switch_at)
    for suffix in SUFFIXES[scope]:
        after = np.arange(1, 9) >= switch_at
        np.testing.assert_array_equal(told[f"phase{suffix}"], after)
        np.testing.assert_array_equal(
            told[f"switch_step{suffix}"], np.where(after, switch_at, 0)
        )


@both_scopes
def test_a_rate_of_ones_own_is_all_of_the_rate(scope):
    """The factor 1 - b1 belongs to the rate that is found."""
    options = {"scope": scope, "switch_at": 3, "sgd_learning_rate": 0.07}
    _, iterates, told = run(
        lambda: optax_ia.switch_to_sgd(optax.adam(0.05), **options), 9
    )
    for suffix in SUFFIXES[scope]:
        np.testing.assert_allclose(
            told[f"sgd_learning_rate{suffix}"], [0, 0, *[0.07] * 7]
        )
    assert_same(iterates[3:], sgd_iterates(iterates[2], [0.07] * 6, first=3))


def test_each_tensor_switches_when_its_own_estimate_settles():
    params = {"block": {"early": jnp.zeros(2), "late": jnp.zeros((1, 2))}}
    wandering = [1.0, 5.0, 2.0, 8.0, 4.0, 4.0, 4.0, 4.0]

    def gradient(params, t):
        return {
            "block": {"early": np.ones(2), "late": np.full((1, 2), wandering[t])},
        }

    tx = optax_ia.switch_to_sgd(optax.sign_sgd(0.1), b2=0.2, tol=1e-3, scope="leaf")
    (_, state), iterates, told = run(lambda: tx, 8, params=params, gradient=gradient)
    names = ("gamma", "lambda_hat", "sgd_learning_rate", "phase", "switch_step")
    assert set(optax_ia.diagnostics(state)) == {
        f"{name}/block/{leaf}" for name in names for leaf in ("early", "late")
    }
    average = 0.0
    for k, g in enumerate(wandering, start=1):
        average = 0.2 * average + 0.8 * 0.1 / g
        if k > 1 and abs(average / (1 - 0.2**k) - 0.1 / g) < 1e-3:
            break
    assert 4 < k < 8
    assert told["switch_step/block/early"][-1] == 2
    assert told["switch_step/block/late"][-1] == k
    np.testing.assert_allclose(told["sgd_learning_rate/block/early"][-1], 0.1)
    np.testing.assert_allclose(
        told["sgd_learning_rate/block/late"][-1], average / (1 - 0.2**k)
    )
    # the one goes on as before while the other is SGD with momentum
    early = [w["block"]["early"][0] for w in iterates]
    late = [w["block"]["late"][0, 0] for w in iterates]
    np.testing.assert_allclose(np.diff(late[:k]), -0.1)
    np.testing.assert_allclose(np.diff(early[:4]), [-0.1, -0.01, -0.019])


def test_of_one_tensor_both_scopes_are_the_same():
    def gradient(w, t):
        return gradients({"dense": {"kernel": w, "bias": np.zeros(3)}}, t)["dense"][
            "kernel"
        ]

    (_, iterates, told), (_, others, by_leaf) = (
        run(
            lambda s=scope: optax_ia.switch_to_sgd(
                optax.adam(0.05), b2=0.5, tol=5e-5, scope=s
            ),
            12,
            params=initial()["dense"]["kernel"],
            gradient=gradient,
        )
        for scope in SUFFIXES
    )
    assert 2 < told["switch_step"][-1] < 12
    assert_same(iterates, others)
    assert told["switch_step"].tolist() == by_leaf["switch_step"].tolist()


def test_no_compilation_at_the_switch_and_the_same_in_a_scan():
    make, step = compiled("adam", "global")
    tol = {"b2": 0.9, "tol": 7e-5}
    carry, iterates, told = record(step, start_of("adam", **tol), 4, **tol)
    assert told["phase"].tolist() == [0] * 4
    sizes = step._cache_size()
    carry, later, told = record(step, carry, 4, first=4, **tol)
    assert told["phase"].tolist() == [1] * 4  # update 5 decides, update 6 is SGD's
    assert step._cache_size() == sizes

    history = [gradients(w, t) for t, w in enumerate([initial(), *iterates, *later])]

    @jax.jit
    def scanned(params, state, grads):
        def body(carry, g):
            updates, state = make(**tol).update(g, carry[1], carry[0])
            carry = optax.apply_updates(carry[0], updates), state
            return carry, optax_ia.diagnostics(state)["switch_step"]

        return jax.lax.scan(body, (params, state), grads)

    stacked = jax.tree.map(lambda *g: jnp.stack(g), *history[:8])
    (params, _), steps = scanned(*start_of("adam", **tol), stacked)
    assert_same(params, carry[0])
    assert steps[4:].tolist() == told["switch_step"].tolist()


@both_scopes
def test_a_run_restored_before_at_or_after_the_switch_is_the_same(scope):
    options = {"switch_at": 4}
    whole, _, told = switching_run("padam", 9, scope, **options)
    step = compiled("padam", scope)[1]
    for stop in (3, 4, 6):
        saved, _, _ = switching_run("padam", stop, scope, **options)
        resumed, _, again = record(step, copied(saved), 9 - stop, first=stop, **options)
        jax.tree.map(np.testing.assert_array_equal, resumed, whole)
        for name, values in again.items():
            np.testing.assert_array_equal(values, told[name][stop:])
