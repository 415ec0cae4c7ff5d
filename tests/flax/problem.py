"""Small networks with BatchNorm, their data, and their statistics in NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

FEATURES, HIDDEN = 3, 4
EPSILON = 1e-5


class LinenNet(nn.Module):
    """Dense, BatchNorm, relu, Dense, BatchNorm: the second sees the first's output."""

    momentum: float = 0.9

    @nn.compact
    def __call__(self, x, train=False):
        for layer in range(2):
            x = nn.Dense(HIDDEN, name=f"dense_{layer}")(x)
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=self.momentum,
                epsilon=EPSILON,
                name=f"norm_{layer}",
            )(x)
            x = nn.relu(x)
        return nn.Dense(1, name="head")(x)


class NNXNet(nnx.Module):
    """The same network in NNX."""

    def __init__(self, rngs, momentum=0.9):
        self.dense_0 = nnx.Linear(FEATURES, HIDDEN, rngs=rngs)
        self.norm_0 = nnx.BatchNorm(
            HIDDEN, momentum=momentum, epsilon=EPSILON, rngs=rngs
        )
        self.dense_1 = nnx.Linear(HIDDEN, HIDDEN, rngs=rngs)
        self.norm_1 = nnx.BatchNorm(
            HIDDEN, momentum=momentum, epsilon=EPSILON, rngs=rngs
        )
        self.head = nnx.Linear(HIDDEN, 1, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm_0(self.dense_0(x)))
        return self.head(nnx.relu(self.norm_1(self.dense_1(x))))


def linen_variables(seed=0, momentum=0.9):
    """The Linen network and its fresh variables."""
    net = LinenNet(momentum=momentum)
    return net, net.init(jax.random.key(seed), jnp.ones((1, FEATURES)))


def batches(sizes=(8, 8, 3), seed=0):
    """Inputs of different means, so that the weights of the batches matter."""
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(size, FEATURES)) * (1 + i) + i).astype(np.float32)
        for i, size in enumerate(sizes)
    ]


def numpy_statistics(params, inputs):
    """Mean and biased variance of each norm's input, weighted by batch size.

    Args:
      params: layer name to {"kernel", "bias"} or {"scale", "bias"}, NumPy float64.
      inputs: the batches.
    """
    totals = [{"mean": 0.0, "var": 0.0} for _ in range(2)]
    for x in inputs:
        x = np.asarray(x, np.float64)
        for layer, total in enumerate(totals):
            dense, norm = params[f"dense_{layer}"], params[f"norm_{layer}"]
            x = x @ dense["kernel"] + dense["bias"]
            mean, var = x.mean(axis=0), x.var(axis=0)
            total["mean"] += len(x) * mean
            total["var"] += len(x) * var
            x = (x - mean) / np.sqrt(var + EPSILON) * norm["scale"] + norm["bias"]
            x = np.maximum(x, 0)
    count = sum(len(x) for x in inputs)
    return [{name: value / count for name, value in t.items()} for t in totals]


def as_numpy(params):
    """Parameters as float64 NumPy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
