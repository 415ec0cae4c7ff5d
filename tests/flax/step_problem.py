"""Networks with dropout and BatchNorm, a regression, and an optimiser that looks on."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import optax_ia
from optax_ia import registry

KEY = jax.random.key(7)
_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(12, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.3).astype(np.float32)
BATCH = (X, Y)

# Newton's saddle points are another matter: tests/second_order has its own problem.
NEEDY = [
    name
    for name in optax_ia.list_optimizers()
    if registry.get_record(name).needs
    and "matvec" not in registry.get_record(name).needs
]
PLAIN = ["sgd", "swats"]
# Rates at which the loss of the small regression goes down by half in 25 steps.
RATES = {"sgd": 0.02, "sam_sgd": 0.02, "svrg_sgd": 0.05, "sls": 1.0, "kfac": 0.01}
# What the step must be told of the loss.
OPTIONS = {"kfac": {"kfac": {"likelihood": "gaussian"}}}


class LinenNet(nn.Module):
    """BatchNorm, if asked for, comes before the dropout: keys do not change it."""

    dropout: float = 0.0
    norm: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(6)(x)
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.tanh(x))
        return nn.Dense(1)(x)


class NNXNet(nnx.Module):
    """The same in NNX."""

    def __init__(self, dropout=0.0, norm=False):
        rngs = nnx.Rngs(0, dropout=1)
        self.first = nnx.Linear(3, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=0.9, rngs=rngs) if norm else None
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.last = nnx.Linear(6, 1, rngs=rngs)

    def __call__(self, x):
        x = self.first(x)
        if self.norm is not None:
            x = self.norm(x)
        return self.last(self.dropout(nnx.tanh(x)))


def prepare(key, batch):
    """Shifts the inputs by a number in [0, 1) that depends on the key alone."""
    return batch[0] + np.float32(2**-32) * jax.random.key_data(key)[0], batch[1]


def statistics(kernel, bias):
    """BatchNorm's running mean and variance after one pass over all the data."""
    hidden = X @ np.asarray(kernel) + np.asarray(bias)
    return 0.1 * hidden.mean(0), 0.9 + 0.1 * hidden.var(0)


def squared_error(outputs, batch):
    return jnp.mean((outputs - batch[1]) ** 2)


def counting(loss_fn=squared_error):
    """A loss that counts how often it is traced, once for each pass in a program."""
    traces = []

    def counted(outputs, batch):
        traces.append(None)
        return loss_fn(outputs, batch)

    return counted, traces


class Looked(NamedTuple):
    """What :func:`onlooker` was given, each as a number that should be zero."""

    value: jax.Array
    value_fn: jax.Array
    grad: jax.Array
    grad_fn: jax.Array
    loss: jax.Array


LOOKS = ("value", "value_fn", "grad", "grad_fn")


def onlooker():
    """SGD that keeps how far the extra arguments disagree with one another."""

    def init(params):
        del params
        return Looked(*(jnp.zeros([]) for _ in Looked._fields))

    def update(updates, state, params, *, value, value_fn, grad, grad_fn, **extra):
        del state, extra

        def distance(tree):
            pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(updates), strict=True)
            return sum(jnp.sum(jnp.abs(a - b)) for a, b in pairs)

        looked = Looked(
            value=value - value_fn(params),
            value_fn=value_fn(params) - value_fn(params),
            grad=distance(grad),
            grad_fn=distance(grad_fn(params)),
            loss=value,
        )
        looked = jax.tree.map(lambda x: jnp.asarray(x, float), looked)
        return jax.tree.map(lambda g: -0.02 * g, updates), looked

    return optax.GradientTransformationExtraArgs(init, update)


def assert_agreed(looked, loss):
    """Asserts that all evaluations of a step saw the same keys and statistics."""
    np.testing.assert_allclose(looked.loss, loss, rtol=1e-6)
    for name in ("value", "value_fn", "grad", "grad_fn"):
        np.testing.assert_allclose(getattr(looked, name), 0, atol=1e-5, err_msg=name)
