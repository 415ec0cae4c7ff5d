"""Hessian, Gauss-Newton, Fisher and covariance against dense matrices in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia import curvature
from tests.curvature.problem import (
    PROBLEMS,
    SIZES,
    cross_entropy,
    dense_gauss_newton,
    dense_hessian,
    example_gradients,
    flatten,
    matrix,
    mlp,
    unflatten,
)

close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
MLP = PROBLEMS["cross entropy"]


def dense_fisher(problem, labels=None):
    rows = example_gradients(problem, labels)
    return rows.T @ rows / len(rows)


def dense_covariance(problem):
    rows = example_gradients(problem)
    return np.cov(rows.T, bias=True)


OPERATORS = {
    "hessian": (curvature.hessian_operator, dense_hessian),
    "gauss-newton": (curvature.gauss_newton_operator, dense_gauss_newton),
    "empirical fisher": (
        functools.partial(curvature.fisher_operator, empirical=True),
        dense_fisher,
    ),
    "covariance": (curvature.gradient_covariance_operator, dense_covariance),
}
over_operators = pytest.mark.parametrize("kind", OPERATORS)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in OPERATORS for name in ("cross entropy", "squared error")]
    + [("hessian", "convolution"), ("gauss-newton", "convolution")],
)
def test_one_batch_gives_the_dense_matrix(kind, name):
    make, reference = OPERATORS[kind]
    problem = PROBLEMS[name]
    operator = make(problem.loss, problem.params, problem.batch)
    close(matrix(operator), reference(problem))


@over_operators
def test_unequal_batches_give_the_dense_matrix_of_all_examples(kind):
    make, reference = OPERATORS[kind]
    operator = make(MLP.loss, MLP.params, MLP.batches())
    close(matrix(operator), reference(MLP))


def test_a_hessian_of_a_plain_loss_function():
    operator = curvature.hessian_operator(
        lambda params, batch: MLP.loss.total(params, batch),
        MLP.params,
        MLP.batch,
    )
    close(matrix(operator), dense_hessian(MLP))


def test_the_hessian_is_the_gauss_newton_matrix_of_a_linear_model():
    loss = (lambda params, batch: batch[0] @ params, cross_entropy)
    params = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
    hessian = curvature.hessian_operator(loss, params, MLP.batch)
    gauss_newton = curvature.gauss_newton_operator(loss, params, MLP.batch)
    close(matrix(hessian), matrix(gauss_newton))


def test_sampled_fisher_takes_the_labels_it_is_given():
    labels = np.array([2, 0, 1, 1, 2, 0, 0, 2, 1, 2, 0])

    def fixed(batch, outputs, key):
        del outputs, key
        return batch[0], jnp.asarray(labels)

    operator = curvature.fisher_operator(
        MLP.loss,
        MLP.params,
        MLP.batch,
        key=jax.random.key(0),
        sample_fn=fixed,
    )
    close(matrix(operator), dense_fisher(MLP, labels))


def test_sampled_labels_are_drawn_once_for_each_batch_from_the_softmax():
    seen = []

    def watched(batch, outputs, key):
        labels = jax.random.categorical(key, outputs)
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), labels, ordered=True)
        return batch[0], labels

    make = functools.partial(
        curvature.fisher_operator,
        MLP.loss,
        MLP.params,
        MLP.batches(),
        key=jax.random.key(4),
    )
    operator = make(sample_fn=watched)
    found = matrix(operator)
    jax.effects_barrier()
    assert tuple(map(len, seen)) == SIZES
    close(found, dense_fisher(MLP, np.concatenate(seen)))
    close(matrix(make()), found)  # these are the labels drawn without a function


def test_the_mean_of_sampled_fishers_is_the_gauss_newton_matrix():
    v = np.random.default_rng(5).normal(size=43)
    vector = unflatten(v, MLP.params)
    products = []
    for key in jax.random.split(jax.random.key(0), 150):
        operator = curvature.fisher_operator(MLP.loss, MLP.params, MLP.batch, key=key)
        products.append(v @ flatten(operator(vector)))
    expected = v @ dense_gauss_newton(MLP) @ v
    error = np.std(products, ddof=1) / len(products) ** 0.5
    assert error < 0.1 * expected
    assert abs(np.mean(products) - expected) < 3.3 * error


def test_one_key_is_one_fisher_matrix_in_every_pass():
    make = functools.partial(curvature.fisher_operator, MLP.loss, MLP.params)
    kept = make(MLP.batches(), key=jax.random.key(1))
    repeated = make(lambda: MLP.batches(), key=jax.random.key(1))
    other = make(MLP.batches(), key=jax.random.key(2))
    first = flatten(kept(MLP.params))
    for operator in (kept, repeated, repeated):
        again = flatten(operator(MLP.params))
        np.testing.assert_array_equal(again, first)
    assert jnp.abs(flatten(other(MLP.params)) - first).max() > 1e-3


@pytest.mark.parametrize("label", ["label", "labels", "y"])
def test_labels_of_dict_batches_are_replaced(label):
    x, y = MLP.batch

    def unpacked(function):
        return lambda first, batch: function(first, (batch["x"], batch[label]))

    loss = (unpacked(mlp), unpacked(cross_entropy))
    key = jax.random.key(3)
    named = curvature.fisher_operator(loss, MLP.params, {"x": x, label: y}, key=key)
    plain = curvature.fisher_operator(MLP.loss, MLP.params, MLP.batch, key=key)
    close(flatten(named(MLP.params)), flatten(plain(MLP.params)))


def test_labels_that_cannot_be_found_are_asked_for():
    loss = (lambda w, batch: batch["x"] @ w, lambda z, batch: jnp.mean(z**2))
    with pytest.raises(ValueError, match="pass sample_fn="):
        curvature.fisher_operator(
            loss, jnp.ones((2, 2)), {"x": jnp.ones((3, 2))}, key=jax.random.key(0)
        )


@pytest.mark.parametrize(
    "make",
    [
        curvature.gauss_newton_operator,
        curvature.fisher_operator,
        curvature.gradient_covariance_operator,
    ],
)
def test_matrices_that_know_of_outputs_need_the_loss_in_two_parts(make):
    with pytest.raises(TypeError, match="two parts.*got function"):
        make(lambda params, batch: 0.0, MLP.params, MLP.batch)


def test_sampling_needs_a_key():
    with pytest.raises(ValueError, match="key= .*or empirical=True"):
        curvature.fisher_operator(MLP.loss, MLP.params, MLP.batch)
