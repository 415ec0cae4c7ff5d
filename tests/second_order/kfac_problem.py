"""A small tree of layers with random positive definite factors, and dense inverses."""

import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia

RNG = np.random.default_rng(0)
SHAPES = {
    "dense": {"kernel": (4, 3), "bias": (3,)},
    "conv": {"kernel": (2, 1, 2, 5)},
    "table": {"embedding": (6, 3)},
    "norm": {"scale": (3,)},
}


def tree(rng=RNG, dtype=None):
    return {
        module: {
            name: jnp.asarray(rng.normal(size=shape), dtype)
            for name, shape in leaves.items()
        }
        for module, leaves in SHAPES.items()
    }


def spd(size, rng=RNG, floor=0.1):
    root = rng.normal(size=(size, size))
    return root @ root.T / size + floor * np.eye(size)


def batch_factors(rng=RNG):
    """Random statistics for every layer of ``SHAPES``."""
    return {
        "dense": optax_ia.KfacFactors(
            jnp.asarray(spd(5, rng)), jnp.asarray(spd(3, rng))
        ),
        "conv": optax_ia.KfacFactors(
            jnp.asarray(spd(4, rng)), jnp.asarray(spd(5, rng))
        ),
        "table": optax_ia.KfacFactors(
            jnp.asarray(rng.uniform(0, 1, size=6)), jnp.asarray(spd(3, rng))
        ),
    }


def as_matrix(module, leaves):
    """The gradient of one layer, rows its inputs, the bias last."""
    kernel = np.asarray(leaves.get("kernel", leaves.get("embedding")))
    rows = kernel.reshape(-1, kernel.shape[-1])
    if "bias" in leaves:
        rows = np.concatenate([rows, np.asarray(leaves["bias"])[None]])
    return rows


def matrices(factors):
    """Both factors as dense matrices."""
    return tuple(
        np.diag(factor) if np.ndim(factor) == 1 else np.asarray(factor)
        for factor in factors
    )


def dense_step(gradient, factors, damping, mode="product"):
    """The damped inverse of the Kronecker product, by solving the dense system."""
    inputs, outputs = matrices(factors)
    if mode == "product":
        fisher = np.kron(inputs, outputs)
        system = fisher + damping * np.eye(len(fisher))
    else:
        pi = np.sqrt(
            np.trace(inputs) / len(inputs) / (np.trace(outputs) / len(outputs))
        )
        root = np.sqrt(damping)
        system = np.kron(
            inputs + pi * root * np.eye(len(inputs)),
            outputs + root / pi * np.eye(len(outputs)),
        )
    return np.linalg.solve(system, gradient.ravel()).reshape(gradient.shape)


def update(tx, grads, factors, state=None, params=None):
    state = tx.init(grads) if state is None else state
    return tx.update(grads, state, params, kfac_factors=factors)


both_modes = pytest.mark.parametrize("mode", ["product", "factored"])
