"""Layers, networks and the plain way to their Kronecker factors."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from optax_ia.flax._kfac_linen import interceptor
from optax_ia.flax._kfac_observe import Observer

KEY = jax.random.key(5)
_SAMPLES = 0x6B666163  # what kfac_value_and_grad folds into its key

# These programs run once: compiling them with all optimisations takes twice as long.
compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

dense = partial(nn.Dense, param_dtype=float)
conv = partial(nn.Conv, param_dtype=float)
general = partial(nn.DenseGeneral, param_dtype=float)


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def _padded(padding, size=(3, 3), **kwargs):
    return conv(4, size, padding=padding, **kwargs), (2, 6, 5, 3)


LAYERS = {
    "dense": (dense(4), (5, 3)),
    "dense no bias": (dense(4, use_bias=False), (5, 3)),
    "dense of one example": (dense(4), (1, 3)),
    "dense over time": (dense(4), (2, 3, 3)),
    "dense without batch": (dense(4), (3,)),
    "general": (general((2, 3)), (2, 4, 5)),
    "general no bias": (general((2, 3), use_bias=False), (2, 4, 5)),
    "general two axes": (general((2, 3), axis=(-2, -1)), (6, 4, 5)),
    "general far axes": (general(3, axis=(-1, 1)), (6, 4, 2, 5)),
    "same": _padded("SAME"),
    "same strided": _padded("SAME", strides=2),
    "same lower": _padded("SAME_LOWER", (2, 4), strides=(2, 1)),
    "valid": _padded("VALID", strides=(1, 3), use_bias=False),
    "circular": _padded("CIRCULAR", (2, 3), kernel_dilation=2),
    "reflect": _padded("REFLECT", strides=2),
    "one number": _padded(2),
    "numbers": _padded((1, (0, 2)), strides=(2, 2)),
    "negative": _padded(((-1, 0), (1, -1))),
    "kernel dilation": _padded("SAME", kernel_dilation=(2, 1)),
    "input dilation": _padded(((1, 2), (2, 1)), input_dilation=(2, 3)),
    "both dilations": _padded(1, input_dilation=2, kernel_dilation=2, strides=3),
    "groups": (conv(6, (3, 2), feature_group_count=2), (2, 5, 4, 4)),
    "depthwise": (conv(4, (3, 3), feature_group_count=4), (2, 5, 4, 4)),
    "depthwise doubled": (
        conv(8, (2, 2), feature_group_count=4, use_bias=False),
        (2, 5, 4, 4),
    ),
    "one axis": (conv(4, 3, strides=2), (2, 7, 3)),
    "causal": (conv(4, (3,), padding="CAUSAL", kernel_dilation=2), (2, 7, 3)),
    "three axes": (conv(2, (2, 3, 2)), (2, 3, 4, 3, 2)),
    "two batch axes": (conv(2, (3, 3)), (2, 3, 4, 4, 2)),
    "no batch axis": (conv(2, (3, 3)), (4, 4, 2)),
    "one by one": (conv(2, (1, 1), strides=2), (2, 4, 4, 3)),
}


class Rows(Observer):
    """Adds to each layer's outputs what is differentiated, and keeps the inputs."""

    def __init__(self, added):
        self.added, self.inputs, self.outputs = added, {}, {}

    def layer(self, kind, layer, module, kernel, inputs, outputs):
        self.inputs[layer.path] = inputs
        self.outputs[layer.path] = outputs
        return outputs + self.added.get(layer.path, 0)


def plain_factors(apply_fn, params, total):
    """A and G of the Dense layers of a network, each called once, from stored rows.

    Args:
      apply_fn: parameters to outputs.
      params: the parameters.
      total: outputs to the scalar whose gradients G is made of.
    """

    def run(params, added):
        rows = Rows(added)
        with nn.intercept_methods(interceptor(rows)):
            return total(apply_fn(params)), (rows.inputs, rows.outputs)

    outputs = jax.eval_shape(run, params, {})[1][1]
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape), outputs)
    (inputs, _), gradients = _rows_and_gradients(run, params, zeros)
    factors = {}
    for path, a in inputs.items():
        a = np.reshape(a, (-1, a.shape[-1]))
        a = np.concatenate([a, np.ones((len(a), 1))], axis=1)
        g = np.reshape(gradients[path], (-1, gradients[path].shape[-1]))
        factors[path] = (a.T @ a / len(a), g.T @ g)
    return factors


@partial(compiled, static_argnums=0)
def _rows_and_gradients(run, params, added):
    gradients, rows = jax.grad(run, argnums=1, has_aux=True)(params, added)
    return rows, gradients


@partial(jax.jit, static_argnums=0)
def drawn_labels(likelihood, outputs, key=KEY):
    """The labels that ``kfac_value_and_grad`` draws from these outputs."""
    return likelihood.sample(jax.random.fold_in(key, _SAMPLES), outputs)


def assert_factors(got, wanted, **tolerances):
    assert set(got) == set(wanted)
    for path, factors in wanted.items():
        for mine, other in zip(got[path], factors, strict=True):
            assert mine.shape == other.shape, path
            np.testing.assert_allclose(mine, other, **tolerances, err_msg=path)


class Mlp(nn.Module):
    """Dense layers with tanh between."""

    widths: tuple[int, ...] = (4, 3)

    @nn.compact
    def __call__(self, x):
        for i, width in enumerate(self.widths):
            x = dense(width)(jnp.tanh(x) if i else x)
        return x


class LinenNet(nn.Module):
    """A convolution, BatchNorm, Dense."""

    @nn.compact
    def __call__(self, x, train=False):
        x = conv(3, (3, 3), strides=2, name="conv")(x)
        x = nn.BatchNorm(
            use_running_average=not train, momentum=0.9, param_dtype=float, name="norm"
        )(x)
        x = nn.relu(x).reshape(len(x), -1)
        return dense(4, name="head")(x)


class NNXNet(nnx.Module):
    """The same in NNX."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(2, 3, (3, 3), strides=2, param_dtype=float, rngs=rngs)
        self.norm = nnx.BatchNorm(3, momentum=0.9, param_dtype=float, rngs=rngs)
        # Flax makes the statistics float32 whatever the parameters
        self.norm.mean = nnx.BatchStat(jnp.zeros(3))
        self.norm.var = nnx.BatchStat(jnp.ones(3))
        self.head = nnx.Linear(12, 4, param_dtype=float, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        return self.head(x.reshape(len(x), -1))


IMAGES = normal((8, 4, 4, 2))
LABELS = np.arange(8) % 4


def linen_net():
    """The Linen network, its parameters and its batch statistics in float64."""
    net = LinenNet()
    variables = net.init(jax.random.key(1), IMAGES)
    stats = jax.tree.map(lambda x: jnp.asarray(x, float), variables["batch_stats"])
    return net, variables["params"], stats
