"""The effective learning rate: by layer, and what it is the rate of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia import explain

PARAMS = {
    "Conv_0": {"kernel": jnp.full((3, 3, 2, 4), 0.5), "bias": jnp.ones(4)},
    "norm": {"scale": jnp.full(4, 2.0)},
    "Dense_0": {"kernel": jnp.arange(6.0).reshape(2, 3)},
}


def test_every_kernel_by_path():
    found = explain.effective_learning_rate(PARAMS, 0.1)
    assert set(found) == {"Conv_0/kernel", "Dense_0/kernel"}
    np.testing.assert_allclose(found["Conv_0/kernel"], 0.1 / (72 * 0.25), rtol=1e-14)
    np.testing.assert_allclose(found["Dense_0/kernel"], 0.1 / 55, rtol=1e-14)
    assert all(value.shape == () for value in found.values())


def test_layers_chosen_by_pattern():
    found = explain.effective_learning_rate(PARAMS, 0.1, pattern="scale|Dense")
    assert set(found) == {"norm/scale", "Dense_0/kernel"}
    np.testing.assert_allclose(found["norm/scale"], 0.1 / 16, rtol=1e-14)


def test_it_is_the_rate_at_which_normalised_weights_turn():
    """Where the loss ignores the norm, scaling the weights by c and the learning rate
    by c^2 gives the same next direction and the same effective rate."""

    def loss(w):
        return jnp.sum(jnp.sin(w / jnp.linalg.norm(w) * jnp.arange(4.0)))

    weights, scale = jnp.array([[1.0, -2.0, 0.5, 3.0]]).reshape(1, 4), 7.0
    turned = []
    for w, rate in ((weights, 0.3), (scale * weights, 0.3 * scale**2)):
        stepped = w - rate * jax.grad(lambda v: loss(v.ravel()))(w)
        turned.append(stepped / jnp.linalg.norm(stepped))
    np.testing.assert_allclose(turned[0], turned[1], rtol=1e-12)
    small = explain.effective_learning_rate({"w": weights}, 0.3)["w"]
    large = explain.effective_learning_rate({"w": scale * weights}, 0.3 * scale**2)["w"]
    np.testing.assert_allclose(small, large, rtol=1e-12)


def test_under_jit_in_low_precision_and_at_zero():
    params = {"a": jnp.full((64, 64), 0.1, jnp.bfloat16), "b": jnp.zeros((2, 2))}
    found = jax.jit(explain.effective_learning_rate)(params, 1.0)
    assert found["a"].dtype == jnp.float32
    exact = 1 / np.sum(np.asarray(params["a"], float) ** 2)
    np.testing.assert_allclose(found["a"], exact, rtol=1e-5)
    assert found["b"] == jnp.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explain.effective_learning_rate(PARAMS, -1.0), "learning_rate must"),
        (lambda: explain.effective_learning_rate({"b": jnp.ones(3)}, 1.0),
         r"no array has two axes; there are \['b'\]"),
        (lambda: explain.effective_learning_rate(PARAMS, 1.0, pattern="lstm"),
         "no array matches 'lstm'"),
    ],
)  # fmt: skip
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
