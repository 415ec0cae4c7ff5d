"""Parameters and gradients of every kind: mixed dtypes, Python floats, complex."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.contract.cases import over_cases
from tests.contract.problem import gradients, initial, signature

FAST_PAIRS = (
    (jnp.float32, jnp.bfloat16),
    (jnp.bfloat16, jnp.float32),
    (jnp.float64, jnp.float16),
)
DTYPES = (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64)


def typed_signature(tree):
    """Shapes, dtypes and weak types: all that makes jit compile anew."""
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


@pytest.mark.parametrize(
    ("grad_dtype", "param_dtype"),
    [
        pytest.param(
            g,
            p,
            id=f"{jnp.dtype(g).name}-{jnp.dtype(p).name}",
            marks=[] if (g, p) in FAST_PAIRS else [pytest.mark.slow],
        )
        for g in DTYPES
        for p in DTYPES
        if g != p
    ],
)
@over_cases("dtypes")
def test_the_state_keeps_its_dtypes_whatever_the_gradients_have(
    case, grad_dtype, param_dtype
):
    tx = case.make()
    params = initial(param_dtype)
    grads = initial(grad_dtype)
    state = jax.eval_shape(tx.init, params)
    updates, new_state = jax.eval_shape(tx.update, grads, state, params)
    assert signature(new_state) == signature(state)
    assert all(leaf.dtype == grad_dtype for leaf in jax.tree.leaves(updates))


@over_cases("dtypes")
def test_float32_gradients_of_bfloat16_parameters_scan(case):
    """A scan refuses a carry that changes, and jit compiles once."""
    tx = case.make()
    params = initial(jnp.bfloat16)
    state = case.init(tx, params)

    @jax.jit
    def step(params, state):
        grads = jax.tree.map(lambda g: g.astype(jnp.float32), gradients(params, 0))
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    before = typed_signature(state)
    for _ in range(2):
        params, state = step(params, state)
    assert typed_signature(state) == before
    assert step._cache_size() == 1
    (params, state), _ = jax.lax.scan(
        lambda carry, _: (step(*carry), None), (params, state), length=2
    )
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    "make", [float, np.float32, np.float64], ids=lambda f: f.__name__
)
@over_cases("python_floats")
def test_python_floats_and_numpy_scalars_are_parameters(case, make):
    """As in ``optax.adamw``: the first step makes arrays of them."""
    tx = case.make()
    params, arrays = (
        {"a": make(1.5), "b": make(-0.5)},
        {
            "a": jnp.asarray(make(1.5)),
            "b": jnp.asarray(make(-0.5)),
        },
    )
    states = [case.init(tx, tree) for tree in (params, arrays)]
    assert signature(states[0]) == signature(states[1])
    for _ in range(2):
        moved = []
        for tree, state in zip((params, arrays), states, strict=True):
            grads = jax.tree.map(lambda w: 2 * w, tree)
            updates, state = tx.update(grads, state, tree)
            moved.append((optax.apply_updates(tree, updates), state))
        (params, arrays), states = zip(*moved, strict=True)
        for name in arrays:
            np.testing.assert_allclose(params[name], arrays[name], rtol=1e-6)


def complex_problem(case, params):
    """Three steps down the squared modulus, gradients conjugated as Optax asks."""
    tx = case.make()
    state = case.init(tx, params)
    for t in range(3):
        grads = jax.tree.map(lambda w, t=t: w - (0.1 * t + 0.2j), params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


COMPLEX = {
    *("sgd", "adam", "adamw", "amsgrad", "adagrad", "rmsprop", "radam", "adabelief"),
    *("padam", "padamw", "svrg_sgd", "lookahead_adamw", "adamw_ema", "swa", "asgd"),
    *("nt_asgd", "gadam", "gadamx", "gadam_lookahead", "gadam_auto"),
    *("chain:tail_average", "chain:ema_average", "chain:l2_decay"),
    *("chain:decoupled_decay", "chain:independent_decay", "chain:lookahead_sgd"),
    *("chain:averaged_lookahead", "chain:svrg_with_momentum"),
    *("swats", "chain:switched", "chain:switched_by_leaf"),
}
"""The cases that are right for complex parameters; all others refuse them."""


@over_cases("complex")
def test_complex_parameters_are_right_or_refused_by_name(case):
    params = {"w": jnp.array([1.0 + 2.0j, -0.5 + 0.25j])}
    refused = case.name not in COMPLEX
    if refused:
        with pytest.raises(TypeError, match="not support complex.*split_real_and_imag"):
            complex_problem(case, params)
        return
    moved, _ = complex_problem(case, params)
    assert moved["w"].dtype == params["w"].dtype
    assert bool((jnp.abs(moved["w"]) < jnp.abs(params["w"])).all())


@pytest.mark.parametrize("name", ["adam", "adamw", "amsgrad", "radam", "sgd"])
def test_complex_baselines_equal_optax(name):
    ours = optax_ia.get_optimizer(name, learning_rate=0.1, weight_decay=0.0)
    if name == "sgd":
        theirs = optax.sgd(0.1, momentum=0.9)
    elif name == "adamw":
        theirs = optax.adamw(0.1, weight_decay=0.0)
    else:
        theirs = getattr(optax, name)(0.1)
    w = jnp.array([1.0 + 2.0j, -0.5 + 0.25j])
    states = ours.init(w), theirs.init(w)
    for t in range(3):
        g = w * (1 + t) - 0.3j
        a, b = ours.update(g, states[0], w), theirs.update(g, states[1], w)
        np.testing.assert_allclose(a[0], b[0], rtol=1e-6)
        states = a[1], b[1]
