"""RMSGD over ten epochs against Algorithm 1 in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.reference import evbmf as reference

EPOCHS, STEPS = 10, 3
SHAPES = {
    "Conv_0/kernel": (3, 3, 8, 12),
    "Conv_0/bias": (12,),
    "Dense_0/kernel": (24, 16),
    "Dense_0/bias": (16,),
}
FOLLOWS = {path: path.split("/")[0] + "/kernel" for path in SHAPES}


def problem():
    """Noise that learns directions: gradients towards more and more of them."""
    rng = np.random.default_rng(0)
    params = {path: 0.3 * rng.normal(size=shape) for path, shape in SHAPES.items()}
    directions = {}
    for path, shape in SHAPES.items():
        rows = np.prod(shape[:-1], dtype=int)
        rank = shape[-1] // 4
        low = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, shape[-1]))
        directions[path] = low.reshape(shape) / np.sqrt(max(rank, 1))
    gradients = [
        {
            path: -directions[path] + 0.5 * rng.normal(size=shape)
            for path, shape in SHAPES.items()
        }
        for _ in range(EPOCHS * STEPS)
    ]
    # nothing is learned in the first two epochs: these steps are noise alone
    for gradient in gradients[: 2 * STEPS]:
        for path in gradient:
            gradient[path] = 0.1 * rng.normal(size=SHAPES[path])
    return params, gradients


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta": 0.7, "zeta": 0.5, "momentum": 0.5, "weight_decay": 0.01, "power": 2},
    ],
    ids=["defaults", "options"],
)
def test_ten_epochs(options):
    params, gradients = problem()
    iterates, rates = reference.rmsgd(
        params, gradients, FOLLOWS, epochs=EPOCHS, steps=STEPS, **options
    )
    tx = optax_ia.rmsgd(steps_per_epoch=STEPS, **options)

    @jax.jit
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    now = jax.tree.map(jnp.asarray, params)
    state = tx.init(now)
    used = []
    for grads, expected in zip(gradients, iterates, strict=True):
        now, state = step(now, state, grads)
        used.append({n: r for n, r in optax_ia.diagnostics(state).items() if "/" in n})
        for path, want in expected.items():
            np.testing.assert_allclose(now[path], want, rtol=1e-10, atol=1e-10)
    # the rates of epoch t are those found after epoch t - 1
    for epoch in range(1, EPOCHS):
        for layer, want in rates[epoch - 1].items():
            got = used[epoch * STEPS][f"learning_rate/{layer}"]
            np.testing.assert_allclose(got, want, rtol=1e-10)
    state = optax_ia.update_layer_rates(state, now)
    read = optax_ia.diagnostics(state)
    for layer, want in rates[-1].items():
        np.testing.assert_allclose(read[f"learning_rate/{layer}"], want, rtol=1e-10)
    # the example has all kinds of epochs in it
    history = np.array([list(epoch.values()) for epoch in rates])
    assert (history[0] == 0.03).all()
    assert (np.diff(history, axis=0) > 0).any()
    assert (np.diff(history, axis=0) < 0).any()


def test_the_floor_holds():
    """A rank that is lost costs more than the rate there is."""
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.normal(size=(24, 16))
    kernel = noise + rng.normal(size=(24, 4)) @ rng.normal(size=(4, 16))
    tx = optax_ia.rmsgd(steps_per_epoch=None, beta=0.5, floor=1e-3)
    state = tx.init({"kernel": jnp.asarray(kernel)})
    for params in (kernel, noise, noise):
        state = optax_ia.update_layer_rates(state, {"kernel": jnp.asarray(params)})
    read = optax_ia.diagnostics(state)
    assert read["learning_rate/kernel"] == 1e-3
    assert read["stable_rank/kernel"] == 0
