"""Three small networks in float64, and their curvature as dense matrices by hand."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from optax_ia.curvature import NetworkLoss

SIZES = (4, 3, 4)
"""Examples of three batches, in two programs; no share of the eleven is exact."""


def dense(layer, x):
    """One affine layer."""
    return x @ layer["kernel"] + layer["bias"][None]


def mlp(params, batch):
    """Outputs of a network with one hidden layer of tanh."""
    return dense(params["Dense_1"], jnp.tanh(dense(params["Dense_0"], batch[0])))


def convolution(params, batch):
    """Outputs of one convolution, softplus and the mean over the image."""
    layer = params["Conv_0"]
    x = jax.lax.conv_general_dilated(
        batch[0],
        layer["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = jax.nn.softplus(x + layer["bias"][None, None, None])
    return dense(params["Dense_0"], x.mean((1, 2)))


def cross_entropy(outputs, batch):
    """Mean negative log likelihood of integer labels."""
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, batch[1])
    return losses.mean()


def squared_error(outputs, batch):
    """Mean negative log likelihood of a Gaussian of unit variance."""
    return 0.5 * jnp.sum((outputs - batch[1]) ** 2, axis=1).mean()


def _random(seed, shapes):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(0.7 * rng.normal(size=shape)),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def _layer(*shape):
    return {"kernel": shape, "bias": shape[-1:]}


@dataclasses.dataclass(frozen=True, eq=False)  # told apart by identity, for the caches
class Problem:
    """A network with its data.

    Attributes:
      loss: in two parts.
      params: a tree in float64.
      batch: all eleven examples, ``(inputs, labels)``.
      output_hessian: from outputs (N, C) to each example's own Hessian (N, C, C).
    """

    loss: NetworkLoss
    params: dict
    batch: tuple
    output_hessian: Any

    def batches(self):
        """The same examples as batches of unequal sizes."""
        ends = np.cumsum(SIZES)[:-1]
        return list(zip(*(jnp.split(x, ends) for x in self.batch), strict=True))


def _softmax_hessian(outputs):
    p = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    return np.einsum("ni,ij->nij", p, np.eye(p.shape[1])) - p[:, :, None] * p[:, None]


def _identity_hessian(outputs):
    return np.broadcast_to(np.eye(outputs.shape[1]), (*outputs.shape, outputs.shape[1]))


def _problems():
    rng = np.random.default_rng(3)
    n = sum(SIZES)
    features, labels = rng.normal(size=(n, 4)), rng.integers(0, 3, n)
    images = rng.normal(size=(n, 5, 5, 1))
    shapes = {"Dense_0": _layer(4, 5), "Dense_1": _layer(5, 3)}
    filters = {"Conv_0": _layer(3, 3, 1, 3), "Dense_0": _layer(3, 3)}
    classify = NetworkLoss(mlp, cross_entropy)
    regress = NetworkLoss(mlp, squared_error)
    see = NetworkLoss(convolution, cross_entropy)
    x, y, z = map(jnp.asarray, (features, labels, images))
    targets = jnp.asarray(rng.normal(size=(n, 3)))
    return {
        "cross entropy": Problem(
            classify, _random(0, shapes), (x, y), _softmax_hessian
        ),
        "squared error": Problem(
            regress, _random(1, shapes), (x, targets), _identity_hessian
        ),
        "convolution": Problem(see, _random(2, filters), (z, y), _softmax_hessian),
    }


PROBLEMS = _problems()


def flatten(tree):
    """All leaves in one NumPy vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def unflatten(flat, like):
    """The tree of such a vector, in the shapes and dtypes of another; not compiled."""
    leaves, treedef = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    return treedef.unflatten(
        jnp.asarray(part.reshape(leaf.shape).astype(leaf.dtype))
        for part, leaf in zip(np.split(np.asarray(flat), ends), leaves, strict=True)
    )


def matrix(operator):
    """An operator as a dense matrix, column by column."""
    columns = [
        flatten(operator(unflatten(row, operator.params)))
        for row in np.eye(operator.dimension)
    ]
    return np.stack(columns, axis=1)


def _flat_function(problem, function):
    """A function of parameters as one of a flat vector, and the point."""
    flat, unravel = ravel_pytree(problem.params)
    return lambda w: function(unravel(w), problem.batch), flat


@functools.cache
def dense_hessian(problem):
    """The Hessian of the mean loss, (P, P)."""
    function, flat = _flat_function(problem, problem.loss.total)
    return np.asarray(jax.jit(jax.hessian(function))(flat))


@functools.cache
def dense_gauss_newton(problem):
    """The mean of J^T H J over examples, H written out for each loss, (P, P)."""
    function, flat = _flat_function(problem, problem.loss.logits_fn)
    jacobian = np.asarray(jax.jit(jax.jacfwd(function))(flat))
    hessians = problem.output_hessian(np.asarray(jax.jit(function)(flat)))
    return np.einsum("nip,nij,njq->pq", jacobian, hessians, jacobian) / len(jacobian)


@functools.cache
def _example_gradients(problem):
    flat, unravel = ravel_pytree(problem.params)

    def loss(w, x, y):
        return problem.loss.total(unravel(w), (x[None], y[None]))

    return flat, jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0)))


def example_gradients(problem, labels=None):
    """The gradient of each example's own loss, (N, P)."""
    flat, gradients = _example_gradients(problem)
    x, y = problem.batch
    return np.asarray(gradients(flat, x, y if labels is None else jnp.asarray(labels)))


def symmetric(eigenvalues, seed=0):
    """A symmetric matrix with given eigenvalues and random eigenvectors."""
    size = len(eigenvalues)
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    return jnp.asarray((q * np.asarray(eigenvalues)) @ q.T)


@jax.jit
def _product(matrix, vector):
    return matrix @ vector


def times(matrix):
    """The product with a matrix; those of one shape share a program."""
    return functools.partial(_product, matrix)
