"""What must never make the switch happen, wrappers around it, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import optax_ia
from tests.adaptive.problem import (
    assert_same,
    gradients,
    initial,
    make_step,
    record,
    run,
)

MAKERS = {
    "global": functools.partial(optax_ia.switch_to_sgd, optax.rmsprop(0.05), b2=0.5),
    "leaf": functools.partial(
        optax_ia.switch_to_sgd, optax.rmsprop(0.05), b2=0.5, scope="leaf"
    ),
}
STEPS = {scope: make_step(make) for scope, make in MAKERS.items()}
SUFFIXES = {"global": [""], "leaf": ["/dense/bias", "/dense/kernel"]}
both_scopes = pytest.mark.parametrize("scope", MAKERS)


def recorded(scope, steps, gradient=gradients, **options):
    carry = initial(), MAKERS[scope](**options).init(initial())
    return record(STEPS[scope], carry, steps, gradient=gradient, **options)


def broken_at(*steps, value=np.nan, leaf="bias"):
    """The problem's gradients, with one bad entry at some updates."""

    def gradient(params, t):
        grads = gradients(params, t)
        if t in steps:
            grads["dense"][leaf].flat[0] = value
        return grads

    return gradient


@both_scopes
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gradients_that_are_not_finite_never_make_it_switch(scope, value):
    for bad in ([0, 1, 2, 3, 4], [1]):  # RMSprop's moment stays broken after the one
        _, _, told = recorded(scope, 5, broken_at(*bad, value=value), tol=1e9)
        assert told[f"phase{SUFFIXES[scope][0]}"].tolist() == [0] * 5
        for suffix in SUFFIXES[scope]:
            assert np.isfinite(told[f"lambda_hat{suffix}"]).all()
            assert np.isfinite(told[f"gamma{suffix}"]).all()
    if scope == "leaf":  # the other tensor's gradients are good
        assert told["switch_step/dense/kernel"][-1] == 2


def test_an_estimate_that_is_not_finite_leaves_the_average():
    """An inner rule that forgets: the next good gradient counts again."""
    given = [2.0, np.nan, 2.0, 2.0]
    _, _, told = run(
        lambda: optax_ia.switch_to_sgd(optax.sign_sgd(0.1), b2=0.5, tol=1e-9),
        4,
        params=jnp.zeros(1),
        gradient=lambda params, t: np.array([given[t]]),
    )
    np.testing.assert_allclose(told["gamma"], 0.05)
    average = np.array([0.5, 0.5, 0.75, 0.875]) * 0.05
    np.testing.assert_allclose(
        told["lambda_hat"], average / [0.5, 0.75, 0.875, 0.9375], rtol=1e-12
    )


def test_a_step_that_was_not_finite_is_not_in_the_momentum():
    """The switch comes right after it."""
    tx = optax_ia.switch_to_sgd(optax.sign_sgd(0.1), switch_at=2)
    update = jax.jit(tx.update)
    w = jnp.zeros(1)
    state = tx.init(w)
    for g in (2.0, np.nan, 3.0):
        updates, state = update(jnp.array([g]), state, w)
    told = optax_ia.diagnostics(state)
    assert told["switch_step"] == 2
    np.testing.assert_allclose(updates, -0.1 * told["sgd_learning_rate"] * 3.0)


@both_scopes
def test_inside_apply_if_finite_it_goes_on_after_nans(scope):
    """As if the broken updates had not been there."""
    tx = optax.apply_if_finite(MAKERS[scope](tol=1e9), max_consecutive_errors=5)
    step = make_step(lambda: tx)
    state = tx.init(initial())
    carry, _, told = record(step, (initial(), state), 8, gradient=broken_at(1, 2))

    def without(params, t):
        return gradients(params, t if t < 1 else t + 2)

    expected, _, clean = recorded(scope, 6, without, tol=1e9)
    assert_same(carry[0], expected[0])
    assert told["total_notfinite"][-1] == 2
    for suffix in SUFFIXES[scope]:
        seen = told[f"switch_step{suffix}"]
        assert (
            seen[[0, *range(3, 8)]].tolist() == clean[f"switch_step{suffix}"].tolist()
        )
        assert seen[2] == seen[0]
        assert seen[-1] == 2


def climbing_run(scope, **options):
    """Gradients against a long momentum: steps 2 and 3 go along the new gradient."""
    signs = [1.0, *[-0.3] * 4, *[1.0] * 4]
    tx = optax_ia.switch_to_sgd(optax.adam(0.05), b2=0.9, scope=scope, **options)
    _, iterates, told = run(
        lambda: tx,
        9,
        params={"w": jnp.zeros(2)},
        gradient=lambda params, t: {"w": np.full(2, signs[t])},
    )
    told = {name.removesuffix("/w"): values for name, values in told.items()}
    return [w["w"][0] for w in iterates], told


@both_scopes
@pytest.mark.parametrize("options", [{"tol": 1e9}, {"switch_at": 2}], ids=str)
def test_a_negative_estimate_never_switches(scope, options):
    """A given step waits for an estimate that descends."""
    iterates, told = climbing_run(scope, **options)
    assert (np.diff(iterates)[:2] < 0).all()
    average, phase = told["lambda_hat"], told["phase"]
    assert (average[1:3] < 0).all()
    assert not phase[average <= 0].any()
    first = int(np.argmax(phase))
    assert first >= 3
    assert (average[1:first] <= 0).all()
    assert average[first] > 0
    assert told["sgd_learning_rate"][-1] == average[first]


@both_scopes
def test_with_a_rate_of_its_own_the_estimate_has_no_part_in_it(scope):
    _, told = climbing_run(scope, switch_at=2, sgd_learning_rate=0.01)
    assert told["lambda_hat"][1] < 0
    assert told["switch_step"].tolist() == [0, *[2] * 8]


@both_scopes
def test_without_a_projection_there_is_neither_estimate_nor_switch(scope):
    _, iterates, told = recorded(
        scope, 3, lambda params, t: jax.tree.map(np.zeros_like, params), tol=1e9
    )
    assert_same(iterates[-1], jax.tree.map(np.asarray, initial()))
    for suffix in SUFFIXES[scope]:
        for name in ("gamma", "lambda_hat", "phase"):
            np.testing.assert_array_equal(told[f"{name}{suffix}"], 0)


@both_scopes
def test_masked_out_tensors_have_no_part_in_it(scope):
    mask = {"dense": {"kernel": True, "bias": False}}
    options = {"tol": 1e9}
    tx = optax.masked(MAKERS[scope](**options), mask)
    _, iterates, told = run(lambda: tx, 5)

    def kernel_only(params, t):
        full = {"dense": {**params["dense"], "bias": np.zeros(3)}}
        return {"dense": {"kernel": gradients(full, t)["dense"]["kernel"]}}

    alone = MAKERS[scope](**options)
    _, expected, known = run(
        lambda: alone,
        5,
        params={"dense": {"kernel": initial()["dense"]["kernel"]}},
        gradient=kernel_only,
    )
    for got, want in zip(iterates, expected, strict=True):
        assert_same(got["dense"]["kernel"], want["dense"]["kernel"])
    assert told.keys() == known.keys()
    for name, values in known.items():
        np.testing.assert_allclose(told[name], values, rtol=1e-12)
    assert known[f"phase{SUFFIXES[scope][-1]}"][-1] == 1


def test_multi_steps_counts_its_own_updates():
    tx = optax.MultiSteps(MAKERS["global"](tol=1e9), 2).gradient_transformation()
    halves = [0.5, 1.5]
    params = jnp.ones(2)

    def gradient(w, t):
        return halves[t % 2] * np.array([1.0, 0.5])

    _, iterates, told = run(lambda: tx, 8, params=params, gradient=gradient)
    alone = MAKERS["global"](tol=1e9)
    _, expected, known = run(
        lambda: alone, 4, params=params, gradient=lambda w, t: np.array([1.0, 0.5])
    )
    assert_same(iterates[1::2], expected)
    assert told["switch_step"].tolist() == [0, 0, 0, 2, 2, 2, 2, 2]
    assert known["switch_step"].tolist() == [0, 2, 2, 2]


def test_extra_arguments_and_params_reach_the_inner_transformation():
    seen = []

    def update(updates, state, params=None, **extra_args):
        seen.append((params, extra_args))
        return jax.tree.map(lambda g: -0.1 * g, updates), state

    inner = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
    tx = optax_ia.switch_to_sgd(inner, switch_at=1)
    w = jnp.ones(2)
    state = tx.init(w)
    for _ in range(2):  # in both phases
        _, state = tx.update(w, state, w, value=3.0, grad_fn=len)
    assert [extra for _, extra in seen] == [{"value": 3.0, "grad_fn": len}] * 2
    assert all(params is w for params, _ in seen)


def schedule(count):
    return 0.1 / (1 + count)


UNREADABLE = {
    "optax": lambda: optax.adam(schedule),
    "optax_after_a_recorded_rate": lambda: optax.chain(
        optax_ia.padam(0.1), optax.scale_by_schedule(schedule)
    ),
    "two_recorded": lambda: optax.partition(
        {"a": optax_ia.padam(schedule), "b": optax_ia.padam(0.1)},
        {"dense": {"bias": "a", "kernel": "b"}},
    ),
    "two_injected": lambda: optax.chain(
        optax.inject_hyperparams(optax.sgd)(schedule),
        optax.inject_hyperparams(optax.sgd)(schedule),
    ),
    "another_name": lambda: optax.inject_hyperparams(
        lambda rate: optax.chain(optax.scale_by_adam(), optax.scale(-rate))
    )(rate=schedule),
    "inside_multi_steps": lambda: optax.MultiSteps(
        optax.adam(schedule), 2
    ).gradient_transformation(),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_inner_schedule_that_cannot_be_read_is_refused(name):
    """SGD would not follow it after the switch."""
    inner = UNREADABLE[name]()
    with pytest.raises(ValueError, match=r"Pass switch_to_sgd\(inner, learning_rate="):
        optax_ia.switch_to_sgd(inner).init(initial())
    optax_ia.switch_to_sgd(inner, learning_rate=schedule).init(initial())
    optax_ia.switch_to_sgd(inner, learning_rate=1.0).init(initial())


@pytest.mark.parametrize(
    "inner",
    [
        optax_ia.padam(schedule),
        optax.inject_hyperparams(optax.adam)(schedule, b1=0.8),
        optax.inject_hyperparams(optax_ia.padam)(schedule),
        optax.inject_hyperparams(optax.adam)(0.1, b1=schedule),
        optax_ia.adabound(schedule),
        optax.adam(0.1),
    ],
)
def test_a_schedule_that_can_be_read_or_none_is_not(inner):
    optax_ia.switch_to_sgd(inner).init(initial())


WRAPPED = {
    "tail_average": lambda: optax.chain(optax.sgd(0.1), optax_ia.tail_average(0)),
    "ema_average": lambda: optax.chain(optax.sgd(0.1), optax_ia.ema_average(0.9)),
    "gadam": lambda: optax_ia.gadam(0.1, start=2),
    "gadam_auto": lambda: optax_ia.gadam_auto(0.1),
    "lookahead": lambda: optax_ia.lookahead(optax.adam(0.1)),
    "ranger": lambda: optax_ia.ranger(0.1),
    "reduce_on_plateau": lambda: optax.chain(
        optax.adam(0.1), optax.contrib.reduce_on_plateau()
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_that_need_their_updates_applied_are_refused(name):
    with pytest.raises(ValueError, match=r"Put .* around or after switch_to_sgd"):
        optax_ia.switch_to_sgd(WRAPPED[name](), learning_rate=0.1).init(initial())


def test_lookahead_inside_would_estimate_from_its_steps_back():
    """The reason to refuse it: around the switch it does not reach the estimate."""
    around = optax_ia.lookahead(
        optax_ia.switch_to_sgd(optax.rmsprop(0.05), switch_at=20), 2, 0.1
    )
    _, _, told = run(lambda: around, 6)
    assert (told["gamma"] > 0).all()
    lookahead = optax_ia.lookahead(optax.rmsprop(0.05), 2, 0.1)
    params, state = initial(), lookahead.init(initial())
    dots = []
    for t in range(6):
        grads = gradients(params, t)
        updates, state = lookahead.update(grads, state, params)
        dots.append(-optax.tree.vdot(updates, grads))
        params = optax.apply_updates(params, updates)
    assert min(dots) < 0


def as_reals(tree):
    return jax.tree.map(lambda z: {"re": z.real, "im": z.imag}, tree)


@both_scopes
def test_complex_parameters_are_pairs_of_real_ones(scope):
    """The dot products and the momentum, against the split problem."""
    noise = np.random.default_rng(1).normal(size=(12, 2, 3))

    def gradient(w, t):
        return {"z": np.asarray(w["z"]) + noise[t, 0] + 1j * noise[t, 1]}

    def split(w, t):
        return as_reals(gradient({"z": w["z"]["re"] + 1j * w["z"]["im"]}, t))

    start = {"z": jnp.array([1 + 2j, -2 + 0.5j, 0.3 - 1j])}
    adam = optax.adam(0.05)
    options = {"switch_at": 5, "scope": scope}
    inner = optax.contrib.split_real_and_imaginary(adam)
    _, iterates, told = run(
        lambda: optax_ia.switch_to_sgd(inner, **options),
        12,
        params=start,
        gradient=gradient,
    )
    assert told[f"phase{'/z' if scope == 'leaf' else ''}"][-1] == 1
    if scope == "global":  # two real leaves would switch apart
        _, expected, known = run(
            lambda: optax_ia.switch_to_sgd(adam, **options),
            12,
            params=as_reals(start),
            gradient=split,
        )
        assert_same([as_reals(w) for w in iterates], expected)
        np.testing.assert_allclose(told["gamma"], known["gamma"], rtol=1e-12)
    else:
        assert all(abs(w["z"].imag).min() > 0 for w in iterates)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"b1": 1.0}, r"b1 must be < 1, got 1.0"),
        ({"b1": -0.1}, r"b1 must be >= 0, got -0.1"),
        ({"b2": 1.0}, r"b2 must be < 1, got 1.0"),
        ({"b2": -0.1}, r"b2 must be >= 0, got -0.1"),
        ({"tol": 0.0}, r"tol must be > 0, got 0.0"),
        ({"tol": -1e-9}, r"tol must be > 0, got -1e-09"),
        ({"tol": float("nan")}, r"tol must be > 0, got nan"),
        ({"rtol": -0.1}, r"rtol must be >= 0, got -0.1"),
        ({"monitor": "rate"}, r"monitor must be one of 'gamma', 'relative'.* 'rate'"),
        ({"scope": "layer"}, r"scope must be one of 'global', 'leaf', got 'layer'"),
        ({"switch_at": 0}, r"switch_at must be >= 1, got 0"),
        ({"switch_at": 2.5}, r"switch_at must be a whole number, got 2.5"),
        ({"sgd_learning_rate": 0.0}, r"sgd_learning_rate must be > 0, got 0.0"),
        ({"learning_rate": -0.1}, r"learning_rate must be >= 0, got -0.1"),
    ],
)
@pytest.mark.parametrize("make", [MAKERS["leaf"], optax_ia.swats], ids=["any", "swats"])
def test_construction_errors_name_argument_bound_and_value(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("name", ["tol", "b1"])
@pytest.mark.parametrize("value", ["0.1", None])
def test_what_is_no_number_is_refused(name, value):
    with pytest.raises(TypeError, match=f"{name} must be a number, got {value!r}"):
        optax_ia.switch_to_sgd(optax.adam(0.1), **{name: value})
