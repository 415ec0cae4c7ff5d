"""What every instrument makes of losses and batches: right, or refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia import curvature, landscape

X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
Y = jnp.asarray(np.random.default_rng(1).normal(size=6))
W = jnp.asarray([0.5, -1.0, 2.0])


def logits(w, batch):
    return batch[0] @ w


def squared(outputs, batch):
    return jnp.mean((outputs - batch[1]) ** 2)


def loss(w, batch):
    return squared(logits(w, batch), batch)


def with_metrics(function):
    return lambda *arguments: (function(*arguments), {"metric": 1.0})


INSTRUMENTS = {
    "hessian": lambda f, z, b: curvature.hessian_operator(f, W, b)(W),
    "gauss_newton": lambda f, z, b: curvature.gauss_newton_operator((logits, z), W, b)(
        W
    ),
    "covariance": lambda f, z, b: curvature.gradient_covariance_operator(
        (logits, z), W, b
    )(W),
    "line": lambda f, z, b: landscape.line(f, W, W, b, coordinates=[0.0, 1.0]).losses,
}
every = pytest.mark.parametrize("instrument", INSTRUMENTS.values(), ids=INSTRUMENTS)


@every
def test_a_loss_may_return_metrics(instrument):
    plain = instrument(loss, squared, (X, Y))
    pair = instrument(with_metrics(loss), with_metrics(squared), (X, Y))
    np.testing.assert_allclose(plain, pair, rtol=1e-12)


@every
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value * jnp.ones(2), r"scalar.*got shape \(2,\)"),
        (lambda value: {"loss": value}, "scalar.*got a dict"),
        (lambda value: None, "scalar.*got a NoneType"),
        (lambda value: (value, 1, 2), "scalar.*got a tuple"),
    ],
)
def test_what_is_no_loss_is_refused(instrument, change, message):
    def wrong(function):
        return lambda *arguments: change(function(*arguments))

    with pytest.raises(ValueError, match=message):
        instrument(wrong(loss), wrong(squared), (X, Y))


@every
def test_a_list_of_arrays_is_refused_as_ambiguous(instrument):
    with pytest.raises(ValueError, match=r"list of arrays.*one batch or several"):
        instrument(loss, squared, [X, Y])
    one = instrument(loss, squared, (X, Y))
    halves = [(X[:3], Y[:3]), (X[3:], Y[3:])]
    np.testing.assert_allclose(one, instrument(loss, squared, halves), rtol=1e-9)


def test_a_network_with_several_outputs_is_told_to_select():
    def features(w, batch):
        return logits(w, batch), batch[0]

    with pytest.raises(TypeError, match=r"one array of outputs.*\[0\]"):
        curvature.gauss_newton_operator((features, squared), W, (X, Y))(W)
    with pytest.raises(TypeError, match=r"one array of outputs.*\[0\]"):
        curvature.fisher_operator(
            (features, squared), W, (X, Y), key=jax.random.key(0)
        )(W)
