"""LanczosOPT against dense Newton steps and its formula in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

import optax_ia
import optax_ia.flax

RNG = np.random.default_rng(0)
DIMENSION = 12
SIZES = ((64, 16), (16, 10))
BASIS, _ = np.linalg.qr(RNG.normal(size=(DIMENSION, DIMENSION)))
GRADIENT = {"a": RNG.normal(size=(2, 3)), "b": RNG.normal(size=(6,))}


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def matvec_of(spectrum):
    matrix = jnp.asarray(BASIS @ np.diag(spectrum) @ BASIS.T)

    def matvec(vector):
        joined = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(vector)])
        value = matrix @ joined
        return {"a": value[:6].reshape(2, 3), "b": value[6:]}

    return matvec


def step(tx, spectrum):
    grads = jax.tree.map(jnp.asarray, GRADIENT)
    matvec = matvec_of(spectrum)
    update = jax.jit(lambda g, s: tx.update(g, s, matvec=matvec))
    return update(grads, tx.init(grads))


@pytest.mark.parametrize("num_steps", [DIMENSION, 50])
@pytest.mark.parametrize("damping", [1e-3, 1.0])
@pytest.mark.parametrize("sharp_scale", [1.0, 10.0])
def test_full_order_is_damped_newton(num_steps, damping, sharp_scale):
    spectrum = np.linspace(0.1, 20.0, DIMENSION)
    tx = optax_ia.lanczos_newton(0.3, damping, num_steps, sharp_scale=sharp_scale)
    updates, state = step(tx, spectrum)
    scaled = BASIS @ np.diag(1 / (sharp_scale * spectrum + damping)) @ BASIS.T
    np.testing.assert_allclose(
        flat(updates), -0.3 * scaled @ flat(GRADIENT), rtol=1e-8, atol=1e-10
    )
    read = optax_ia.diagnostics(state)
    np.testing.assert_allclose(read["largest_eigenvalue"], 20.0, rtol=1e-9)
    np.testing.assert_allclose(read["smallest_eigenvalue"], 0.1, rtol=1e-7)


def test_few_steps_find_the_outliers_and_leave_the_rest_to_sgd():
    """Two outliers over a bulk at zero: three steps span all that is sharp."""
    spectrum = np.zeros(DIMENSION)
    spectrum[:2] = 50.0, 30.0
    damping, scale = 0.5, 3.0
    tx = optax_ia.lanczos_newton(1.0, damping, 3, sharp_scale=scale)
    updates, _ = step(tx, spectrum)
    g = flat(GRADIENT)
    expected = g / damping
    for value, vector in zip(spectrum[:2], BASIS.T[:2], strict=True):
        factor = 1 / (scale * value + damping) - 1 / damping
        expected = expected + factor * vector * (vector @ g)
    np.testing.assert_allclose(flat(updates), -expected, rtol=1e-8, atol=1e-10)


def test_repeated_eigenvalues_and_schedules():
    tx = optax_ia.lanczos_newton(lambda count: 1.0 / (1 + count), 0.5, 5)
    updates, state = step(tx, np.full(DIMENSION, 2.0))
    # one dimension of the Krylov space and four drawn anew, seven left to SGD
    g = flat(GRADIENT)
    assert (np.abs(flat(updates)) > 0).all()
    assert flat(updates) @ g < 0
    assert optax_ia.diagnostics(state)["learning_rate"] == 1.0


def test_the_step_builder_supplies_the_product():
    def loss_fn(outputs, batch):
        return jnp.mean((outputs - batch[1]) ** 2) / 2

    x = jnp.asarray(RNG.normal(size=(20, 3)))
    y = x @ jnp.array([[1.0], [10.0], [-2.0]])
    state = optax_ia.flax.TrainState.create(
        apply_fn=lambda variables, x, rngs: x @ variables["params"]["w"],
        params={"w": jnp.zeros((3, 1))},
        tx=optax_ia.lanczos_newton(1.0, 1e-9),
    )
    train_step = optax_ia.flax.build_train_step(
        "lanczos_newton", loss_fn, apply_kwargs={}
    )
    state, _ = train_step(state, (x, y))
    _, metrics = train_step(state, (x, y))
    assert metrics["loss"] < 1e-12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"damping": 0.0}, "damping must be > 0, got 0"),
        ({"num_steps": 0}, "num_steps must be >= 1, got 0"),
        ({"num_steps": 1.5}, "num_steps must be a whole number, got 1.5"),
        ({"sharp_scale": 0.0}, "sharp_scale must be > 0, got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be >= 0, got -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        optax_ia.lanczos_newton(**arguments)


def test_a_missing_product_is_named():
    tx = optax_ia.lanczos_newton()
    w = jnp.ones(2)
    with pytest.raises(ValueError, match=r"needs matvec: call update\(.*matvec=matvec"):
        tx.update(w, tx.init(w), w)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_defaults_train_a_perceptron(seed):
    """Its Hessian has negative eigenvalues, which a small damping would invert."""
    images, labels = load_digits(return_X_y=True)
    batch = jnp.asarray(images[:200] / 16), jnp.asarray(labels[:200])
    keys = jax.random.split(jax.random.key(seed))
    params = [
        jax.random.normal(k, s) / s[0] ** 0.5 for k, s in zip(keys, SIZES, strict=True)
    ]

    def loss(params):
        outputs = jnp.tanh(batch[0] @ params[0]) @ params[1]
        return optax.softmax_cross_entropy_with_integer_labels(outputs, batch[1]).mean()

    def train(**arguments):
        tx = optax_ia.lanczos_newton(num_steps=8, **arguments)

        def step(carry, _):
            params, state = carry
            grads = jax.grad(loss)(params)
            updates, state = tx.update(
                grads,
                state,
                matvec=lambda v: jax.jvp(jax.grad(loss), (params,), (v,))[1],
            )
            return (optax.apply_updates(params, updates), state), None

        run = jax.jit(lambda c: jax.lax.scan(step, c, length=100)[0])
        return float(loss(run((params, tx.init(params)))[0]))

    first = float(loss(params))
    assert train() < first / 2
    assert not train(learning_rate=0.01, damping=1e-3) < first  # the earlier defaults
