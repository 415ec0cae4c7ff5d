"""A real loss for the world suite: softmax regression on the iris measurements."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_iris

import optax_ia

X, Y = load_iris(return_X_y=True)
_ORDER = np.random.default_rng(0).permutation(len(X))
X = jnp.asarray((X[_ORDER] - X.mean(0)) / X.std(0))
Y = jnp.asarray(Y[_ORDER])
BATCHES = [(X[i : i + 30], Y[i : i + 30]) for i in range(0, 150, 30)]


def initial():
    """Fresh parameters, float64."""
    return {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}


def loss(params, batch):
    outputs = batch[0] @ params["kernel"] + params["bias"][None]
    return optax.softmax_cross_entropy_with_integer_labels(outputs, batch[1]).mean()


def extra_args(needs, params, batch):
    """What a record's update needs beside the gradient, of the whole batch."""
    gradient = jax.grad(loss)
    known = {
        "value": lambda: loss(params, batch),
        "grad_fn": lambda: functools.partial(_swapped(gradient), batch),
        "value_fn": lambda: functools.partial(_swapped(loss), batch),
        "full_gradient": lambda: gradient(params, (X, Y)),
        "matvec": lambda: (
            lambda v: jax.jvp(lambda p: gradient(p, batch), (params,), (v,))[1]
        ),
        "kfac_factors": lambda: {
            layer.path: optax_ia.KfacFactors(*map(jnp.eye, layer.sizes((4, 3))))
            for layer in optax_ia.infer_kfac_layers(params)
        },
    }
    return {name: known[name]() for name in needs}


def _swapped(function):
    return lambda batch, params: function(params, batch)


def make_step(case, tx):
    """A compiled update on one batch: ``(params, state, batch)`` to the next."""

    @jax.jit
    def step(params, state, batch):
        grads = jax.grad(loss)(params, batch)
        extra = extra_args(case.needs, params, batch)
        updates, state = tx.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    return step
