"""Operators: forms of batches, blocks, SciPy, dtypes, and what is refused."""

import functools

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import eigsh

from optax_ia import curvature
from tests.curvature.problem import PROBLEMS, dense_hessian, flatten, matrix

MLP = PROBLEMS["cross entropy"]
PARAMS = {"w": jnp.array([[1.0, 2.0]]), "b": jnp.array(0.5)}
BATCH = (jnp.array([[1.0], [2.0], [-1.0]]), jnp.zeros((3, 2)))


@functools.cache
def hessian():
    return dense_hessian(MLP)


def by_name(params, batch):
    return MLP.loss.total(params, (batch["x"], batch["y"]))


def by_part(params, batch):
    return MLP.loss.total(params, (batch[0], batch[1]["y"]))


def mixed(batch):
    """One batch, and not one of inputs and one of labels."""
    return batch[0], {"y": batch[1]}


def named(batches):
    return [{"x": x, "y": y} for x, y in batches]


FORMS = {
    "list": (MLP.loss, MLP.batches()),
    "tuple of tuples": (MLP.loss, tuple(MLP.batches())),
    "iterator": (MLP.loss, iter(MLP.batches())),
    "generator": (MLP.loss, (batch for batch in MLP.batches())),
    "function": (MLP.loss, MLP.batches),
    "function of an iterator": (MLP.loss, lambda: iter(MLP.batches())),
    "dicts": (by_name, named(MLP.batches())),
    "function of dicts": (by_name, lambda: named(MLP.batches())),
    "one dict": (by_name, named([MLP.batch])[0]),
    "one batch in a list": (MLP.loss, [MLP.batch]),
    "one tuple of array and dict": (by_part, mixed(MLP.batch)),
    "tuple of such tuples": (by_part, tuple(map(mixed, MLP.batches()))),
    "one mapping": (by_name, flax.core.freeze(named([MLP.batch])[0])),
    "numpy": (MLP.loss, jax.tree.map(np.asarray, MLP.batches())),
}


@pytest.mark.parametrize("form", FORMS)
def test_batches_of_every_form_give_one_operator_again_and_again(form):
    loss, batches = FORMS[form]
    operator = curvature.hessian_operator(loss, MLP.params, batches)
    expected = hessian() @ flatten(MLP.params)
    for _ in range(2):
        found = flatten(operator(MLP.params))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_a_function_that_gives_batches_is_asked_in_each_pass():
    calls = []

    def batches():
        calls.append(None)
        return MLP.batches()

    operator = curvature.hessian_operator(MLP.loss, MLP.params, batches)
    before = len(calls)
    operator(MLP.params)
    operator(MLP.params)
    assert len(calls) == before + 2


@pytest.mark.parametrize("batches", [[], iter(()), lambda: [], lambda: iter(())])
def test_no_batch_is_refused(batches):
    with pytest.raises(ValueError, match="at least one batch, got none"):
        curvature.hessian_operator(MLP.loss, MLP.params, batches)


def test_a_function_that_has_no_more_batches_is_refused():
    once = iter(MLP.batches())
    with pytest.raises(ValueError, match="batch"):  # noqa: PT012
        operator = curvature.hessian_operator(MLP.loss, MLP.params, lambda: once)
        operator(MLP.params)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((jnp.ones((0, 4)), jnp.ones(0, int)), "at least one example, got none"),
        ({}, "arrays with a leading axis"),
        ({"x": jnp.array(1.0)}, "arrays with a leading axis"),
    ],
)
def test_batches_without_examples_are_refused(batch, message):
    with pytest.raises(ValueError, match=message):
        curvature.hessian_operator(by_name, MLP.params, batch)


@pytest.mark.parametrize("pattern", ["Dense_0", "^Dense_1/bias$", "kernel", "."])
def test_a_block_is_the_part_of_the_matrix(pattern):
    operator = curvature.hessian_operator(MLP.loss, MLP.params, MLP.batch)
    block = operator.block(pattern)
    names = {"Dense_0/bias": 5, "Dense_0/kernel": 20, "Dense_1/bias": 3}
    names["Dense_1/kernel"] = 15
    inside = [
        pattern in (".", name.split("/")[0], name.split("/")[1], f"^{name}$")
        for name in names
    ]
    kept = np.repeat(inside, list(names.values()))
    assert list(block.params) == [n for n, i in zip(names, inside, strict=True) if i]
    assert block.dimension == kept.sum()
    np.testing.assert_allclose(
        matrix(block), hessian()[np.ix_(kept, kept)], rtol=1e-9, atol=1e-9
    )


def test_a_block_that_matches_nothing_lists_the_paths():
    operator = curvature.hessian_operator(MLP.loss, MLP.params, MLP.batch)
    with pytest.raises(ValueError, match=r"'Conv'; there are \['Dense_0/bias'"):
        operator.block("Conv")


@pytest.mark.parametrize("which", ["LM", "SA", "LA"])
def test_scipy_finds_the_eigenvalues(which):
    operator = curvature.hessian_operator(MLP.loss, MLP.params, MLP.batch).to_scipy()
    assert operator.shape == (43, 43)
    assert operator.dtype == np.float64
    v0 = np.random.default_rng(0).normal(size=43)
    found = np.sort(eigsh(operator, k=4, which=which, v0=v0)[0])
    values = np.linalg.eigvalsh(hessian())
    order = {
        "LM": np.argsort(np.abs(values))[-4:],
        "SA": np.arange(4),
        "LA": np.arange(39, 43),
    }
    np.testing.assert_allclose(found, np.sort(values[order[which]]), rtol=1e-9)
    both = np.stack([v0, v0[::-1]], axis=1)
    np.testing.assert_allclose(operator @ both, hessian() @ both, rtol=0, atol=1e-9)


def quadratic(params, batch):
    x, y = batch
    return jnp.mean((x @ params["w"] + params["b"] * jnp.ones_like(y) - y) ** 2)


@pytest.mark.parametrize(("dtype", "tol"), [("float32", 1e-6), ("bfloat16", 0.02)])
def test_other_floats_keep_their_dtype(dtype, tol):
    exact = curvature.hessian_operator(quadratic, PARAMS, [BATCH, BATCH])(PARAMS)
    params, batch = jax.tree.map(lambda x: x.astype(dtype), (PARAMS, BATCH))
    operator = curvature.hessian_operator(quadratic, params, [batch, batch])
    found = operator(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(dtype)}
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(np.asarray(got, float), want, rtol=tol)
    assert operator.to_scipy().dtype == np.float32


def test_estimates_of_bfloat16_parameters_are_float32():
    params, batch = jax.tree.map(lambda x: x.astype("bfloat16"), (PARAMS, BATCH))
    key = jax.random.key(0)
    operator = curvature.hessian_operator(quadratic, params, batch)
    exact = matrix(curvature.hessian_operator(quadratic, PARAMS, BATCH))
    values = np.linalg.eigvalsh(exact)
    found = curvature.lanczos(operator, params, 3).eigh()[0]
    top = curvature.top_eigenpairs(operator, params, 1, key=key, tol=0.05)
    density = curvature.spectral_density(operator, params, key=key)
    trace = curvature.trace(operator, params, 60, key=key)
    wanted = {jnp.dtype("float32")}
    outputs = (found, top.eigenvalues, top.residuals, density, trace)
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == wanted
    np.testing.assert_allclose(found, values, atol=0.05 * values[-1])
    np.testing.assert_allclose(top.eigenvalues[0], values[-1], rtol=0.05)
    assert bool(top.converged.all())
    assert abs(trace.mean - values.sum()) < 3 * trace.standard_error + 0.05 * values[-1]


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (jnp.ones(2, jnp.complex64), r"got layer/w of complex64"),
        (jnp.ones(2, jnp.int32), r"got layer/w of int32"),
        (jnp.ones(2, bool), r"got layer/w of bool"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda f, p: curvature.hessian_operator(f, p, BATCH),
        lambda f, p: curvature.lanczos(f, p, 2),
        lambda f, p: curvature.top_eigenpairs(f, p, key=jax.random.key(0)),
        lambda f, p: curvature.spectral_norm(f, p, key=jax.random.key(0)),
        lambda f, p: curvature.spectral_density(f, p, key=jax.random.key(0)),
        lambda f, p: curvature.trace(f, p, 3, key=jax.random.key(0)),
        lambda f, p: curvature.frobenius_norm(f, p, 3, key=jax.random.key(0)),
    ],
    ids=["hessian", "lanczos", "eigenpairs", "norm", "density", "trace", "frobenius"],
)
def test_parameters_that_are_not_real_are_named(call, leaf, message):
    with pytest.raises(TypeError, match=message):
        call(lambda v: v, {"layer": {"w": leaf}})


def test_no_parameters_are_refused():
    with pytest.raises(ValueError, match="got an empty tree"):
        curvature.hessian_operator(quadratic, {}, BATCH)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ({"w": jnp.ones((1, 2))}, "must be a tree like the parameters"),
        ({"w": jnp.ones((2, 1)), "b": jnp.array(0.0)}, r"w must have shape \(1, 2\)"),
        ({"w": jnp.ones((1, 2)), "b": jnp.ones(1)}, r"b must have shape \(\), got"),
        (jnp.ones(3), "must be a tree like the parameters"),
    ],
)
def test_vectors_of_another_shape_are_refused(vector, message):
    operator = curvature.hessian_operator(quadratic, PARAMS, BATCH)
    with pytest.raises(ValueError, match=message):
        operator(vector)
    with pytest.raises(ValueError, match=message):
        curvature.lanczos(operator, vector, 2)


def test_the_order_of_flat_vectors_is_that_of_ravelled_trees():
    operator = curvature.hessian_operator(quadratic, PARAMS, BATCH)
    flat, _ = ravel_pytree(PARAMS)
    value = operator.to_scipy() @ np.asarray(flat)
    np.testing.assert_allclose(value, flatten(operator(PARAMS)), rtol=1e-14)
