"""A semicircle beside a spike of eigenvalues at one place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

from optax_ia import curvature


@functools.cache
def spiked(spikes):
    """Eigenvalues of a spiked model of noise with a standard deviation of 0.5."""
    noise = np.random.default_rng(0).normal(size=(400, 400))
    matrix = 0.5 * (noise + noise.T) / 800**0.5
    for index, spike in enumerate(spikes):
        matrix[index, index] += spike
    return np.linalg.eigvalsh(matrix)


def spectrum(*, zeros=3600, spikes=(5.0, 2.0), place=0.0):
    """The same in a space where all other directions are flat."""
    return np.append(spiked(spikes), np.zeros(zeros)) + place


@pytest.mark.parametrize("zeros", [0, 400, 3600, 39600])
@pytest.mark.parametrize("place", [0.0, -0.3])
def test_a_spike_of_any_weight_does_not_draw_the_fit_into_it(zeros, place):
    values = spectrum(zeros=zeros, place=place)
    bulk = curvature.fit_bulk(values, spike=place)
    assert bulk.num_outliers == 2
    assert bulk.outlier_weight == pytest.approx(2 / len(values))
    assert bulk.sigma == pytest.approx(0.5, rel=0.03)
    assert bulk.centre == place
    assert bulk.lower == pytest.approx(place - 1, abs=0.03)
    assert bulk.upper == pytest.approx(place + 1, abs=0.03)
    assert bulk.spike_weight == pytest.approx(zeros / len(values), abs=0.03)
    assert bulk.distance < 0.1
    if zeros > 400:  # which is why there is such a fit
        plain = curvature.fit_bulk(values)
        assert plain.sigma < 1e-6
        assert plain.num_outliers >= 390


def test_outliers_above_change_nothing_and_one_below_widens_the_law():
    alone = curvature.fit_bulk(spectrum(spikes=()), spike=0.0)
    many = curvature.fit_bulk(spectrum(spikes=(2.0, 3.0, 5.0, 8.0, 100.0)), spike=0.0)
    assert alone.num_outliers == 0
    assert many.num_outliers == 5
    assert many.sigma == pytest.approx(alone.sigma, rel=0.02)
    below = curvature.fit_bulk(spectrum(spikes=(-3.0,)), spike=0.0)
    assert below.sigma > 1.1 * alone.sigma


def test_quadrature_nodes_give_the_eigenvalues_law():
    values = jnp.asarray(spectrum())
    density = curvature.spectral_density(
        lambda v: values * v, values, num_probes=4, num_steps=60, key=jax.random.key(0)
    )
    bulk = curvature.fit_bulk(
        density.nodes, density.weights, num_params=len(values), spike=0.0
    )
    assert bulk.num_outliers == 2
    assert bulk.sigma == pytest.approx(0.5, abs=bulk.margin / 2)
    assert bulk.margin < 0.15
    assert bulk.spike_weight == pytest.approx(0.9, abs=0.03)


def test_a_trained_networks_bulk_reaches_as_far_as_its_negative_eigenvalues():
    images, labels = load_digits(return_X_y=True)
    images, labels = images[:400] / 16, labels[:400]
    rng = np.random.default_rng(0)
    params = {
        "hidden": jnp.asarray(rng.normal(size=(64, 6)) / 8),
        "out": jnp.asarray(rng.normal(size=(6, 10)) / 6**0.5),
    }
    start, unravel = ravel_pytree(params)

    def loss(flat, images, labels):
        weights = unravel(flat)
        logits = jnp.tanh(images @ weights["hidden"]) @ weights["out"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    tx = optax.adam(1e-2)

    @jax.jit
    def trained_hessian(flat, images, labels):
        def step(carry, _):
            flat, state = carry
            updates, state = tx.update(jax.grad(loss)(flat, images, labels), state)
            return (optax.apply_updates(flat, updates), state), None

        carry = (flat, tx.init(flat))
        flat = jax.lax.scan(step, carry, length=300)[0][0]
        return jax.hessian(loss)(flat, images, labels)

    values = np.linalg.eigvalsh(trained_hessian(start, images, labels))
    plain = curvature.fit_bulk(values)
    assert plain.upper < 1e-12  # in the peak of directions that no image has
    assert plain.num_outliers > 0.9 * len(values)
    bulk = curvature.fit_bulk(values, spike=0.0)
    assert bulk.upper == pytest.approx(-values[0], rel=0.25)
    assert bulk.num_outliers == pytest.approx((values > -values[0]).sum(), rel=0.3)
    assert bulk.distance < 0.4  # no semicircle, and not far from one


def test_no_eigenvalue_below_the_spike_is_a_law_of_no_width():
    bulk = curvature.fit_bulk([0.0, 0.0, 0.0, 2.0], spike=0.0)
    assert (bulk.sigma, bulk.lower, bulk.upper) == (0, 0, 0)
    assert (bulk.num_outliers, bulk.spike_weight) == (1, 0.75)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "marchenko-pastur"}, "a spike is for the semicircle"),
        ({"spike": np.inf}, "spike must be finite"),
    ],
)
def test_bad_spikes(arguments, message):
    with pytest.raises(ValueError, match=message):
        curvature.fit_bulk([1.0, 2.0], **{"spike": 0.0, **arguments})
