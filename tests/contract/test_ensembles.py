"""Rare work stays inside a conditional when an ensemble is vmapped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend import core

import optax_ia
from optax_ia._src.rare import rarely
from tests.contract.problem import assert_trees_close

MEMBERS = 3
HEAVY = ("eigh", "cholesky")


def subprograms(value):
    for part in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(part, core.ClosedJaxpr):
            yield part.jaxpr
        elif isinstance(part, core.Jaxpr):
            yield part


def primitives(jaxpr, inside=False):
    """Every primitive of a program, and whether a conditional surrounds it."""
    platforms = set()
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        yield name, inside
        # `platform_dependent` is a conditional too; its branch is fixed.
        if name == "platform_index":
            platforms.update(equation.outvars)
        chosen = name == "cond" and equation.invars[0] in platforms
        rare = name == "cond" and not chosen
        for value in equation.params.values():
            for inner in subprograms(value):
                yield from primitives(inner, inside or rare)


def double(state, factor):
    return jnp.linalg.eigh(state)[1] * factor


def members(due):
    keys = jax.random.split(jax.random.key(0), len(due))
    states = jax.vmap(lambda key: jax.random.normal(key, (4, 4)))(keys)
    return jnp.array(due), states + states.mT, jnp.arange(1.0, len(due) + 1)


def expected(due, states, factors):
    return jnp.stack(
        [double(s, f) if d else s for d, s, f in zip(due, states, factors, strict=True)]
    )


def call(due, state, factor):
    return rarely(due, double, state, factor)


@pytest.mark.parametrize("due", [(True, False, True), (False,) * 3, (True,) * 3])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_members_that_are_not_due_keep_their_state(due, wrap):
    arguments = members(due)
    found = wrap(jax.vmap(call))(*arguments)
    np.testing.assert_allclose(found, expected(*arguments), rtol=1e-6)


def test_shared_operands_states_and_predicates():
    due, states, factors = members((True, False, True))
    shared = jax.vmap(call, in_axes=(0, None, None))(due, states[0], factors[0])
    want = expected(due, [states[0]] * 3, [factors[0]] * 3)
    np.testing.assert_allclose(shared, want, rtol=1e-6)
    together = jax.vmap(call, in_axes=(None, 0, None))(due[0], states, factors[1])
    np.testing.assert_allclose(
        together, expected([True] * 3, states, [factors[1]] * 3), rtol=1e-6
    )


def test_nested_vmap_scan_and_pmap():
    due, states, factors = members((True, False, False, True))
    square = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), (states, factors))
    want = expected(due, states, factors).reshape(2, 2, 4, 4)
    nested = jax.vmap(jax.vmap(call))
    np.testing.assert_allclose(nested(due.reshape(2, 2), *square), want, rtol=1e-6)
    conditionals = [
        name
        for name, inside in primitives(
            jax.make_jaxpr(nested)(due.reshape(2, 2), *square).jaxpr
        )
        if name == "eigh" and not inside
    ]
    assert not conditionals
    _, scanned = jax.lax.scan(
        lambda carry, row: (carry, jax.vmap(call)(*row)),
        None,
        (due.reshape(2, 2), *square),
    )
    np.testing.assert_allclose(scanned, want, rtol=1e-6)
    mapped = jax.pmap(jax.vmap(call))(due.reshape(2, 2), *square)
    np.testing.assert_allclose(mapped, want, rtol=1e-6)


def shampoo_problem():
    params = {"kernel": jnp.ones((6, 4))}
    return optax_ia.shampoo(0.1, precondition_every=3), params, {}


def kfac_problem(mode):
    params = {"kernel": jnp.ones((6, 4))}
    factors = {"": optax_ia.KfacFactors(jnp.eye(6) * 2, jnp.eye(4) * 3)}
    tx = optax_ia.kfac(0.1, inverse_every=3, factor_every=2, damping_mode=mode)
    return tx, params, {"kfac_factors": factors}


def rmsgd_problem():
    return optax_ia.rmsgd(steps_per_epoch=3), {"kernel": jnp.ones((6, 4))}, {}


PROBLEMS = {
    "shampoo": shampoo_problem,
    "kfac-product": lambda: kfac_problem("product"),
    "kfac-factored": lambda: kfac_problem("factored"),
    "rmsgd": rmsgd_problem,
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_an_ensemble_decomposes_only_where_a_member_is_due(name):
    tx, params, extra = PROBLEMS[name]()
    keys = jax.random.split(jax.random.key(1), MEMBERS)
    ensemble = jax.vmap(
        lambda key: jax.tree.map(lambda w: w * jax.random.normal(key, w.shape), params)
    )(keys)

    def step(params, state):
        updates, state = tx.update(params, state, params, **extra)
        return optax.apply_updates(params, updates), state

    together = jax.jit(jax.vmap(step))
    state = jax.vmap(tx.init)(ensemble)
    program = jax.make_jaxpr(jax.vmap(step))(ensemble, state)
    heavy = [inside for name, inside in primitives(program.jaxpr) if name in HEAVY]
    assert heavy
    assert all(heavy)

    alone = jax.jit(step)
    singles = [
        jax.tree.map(lambda x, i=i: x[i], (ensemble, state)) for i in range(MEMBERS)
    ]
    # Members at different counts are due at different updates.
    singles[0] = alone(*singles[0])
    ensemble, state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *singles)
    for _ in range(4):
        ensemble, state = together(ensemble, state)
        singles = [alone(*single) for single in singles]
    want = jax.tree.map(lambda *leaves: jnp.stack(leaves), *singles)
    assert_trees_close((ensemble, state), want, rtol=1e-5, atol=1e-6)
