"""The shared layers against NumPy, padded as PyTorch pads."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia.models import _layers
from optax_ia.models._mobilenet import divisible
from optax_ia.models._pyramidnet import pad_shortcut
from optax_ia.models._resnet import Shortcut
from optax_ia.models._shufflenet import shuffle


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


def convolved(x, kernel, stride, padding):
    """NumPy's: x (batch, height, width, in), kernel (height, width, in, out)."""
    rows, columns = kernel.shape[:2]
    x = np.pad(x, ((0, 0), *((p, p) for p in padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (rows, columns), (1, 2))
    windows = windows[:, ::stride, ::stride]
    return np.einsum("bijchw,hwco->bijo", windows, kernel)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "pads"),
    [
        (3, 2, None, (1, 1)),
        ((1, 7), 1, None, (0, 3)),
        (5, 1, 0, (0, 0)),
        (3, 1, (0, 1), (0, 1)),
    ],
)
def test_convolutions_pad_both_sides(kernel, stride, padding, pads):
    x = normal(2, 8, 7, 3)
    layer = _layers.conv(4, kernel, stride, padding=padding)
    variables = layer.init(jax.random.key(0), x)
    weights = np.asarray(variables["params"]["kernel"], float)
    assert list(variables["params"]) == ["kernel"]
    got = layer.apply(variables, x)
    np.testing.assert_allclose(got, convolved(x, weights, stride, pads), rtol=1e-5)


def test_he_initialisation_counts_outputs():
    kernel = _layers.he_fan_out(jax.random.key(0), (3, 3, 8, 64))
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.05)
    kernel = _layers.uniform_fan_in(jax.random.key(0), (64, 50))
    assert np.abs(kernel).max() == pytest.approx(1 / 8, rel=0.02)


@pytest.mark.parametrize(("height", "width", "size"), [(7, 7, 7), (2, 5, 3), (9, 4, 2)])
def test_adaptive_pooling(height, width, size):
    x = normal(2, height, width, 3)
    wanted = np.empty((2, size, size, 3))
    for i in range(size):
        for j in range(size):
            rows = slice(i * height // size, -(-(i + 1) * height // size))
            columns = slice(j * width // size, -(-(j + 1) * width // size))
            wanted[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(_layers.adaptive_avg_pool(jnp.asarray(x), size), wanted)


def test_pooling_counts_padded_zeros_in_means_alone():
    x = -np.ones((1, 4, 4, 1))
    assert (_layers.max_pool(x, 3, 2, 1) == -1).all()
    means = _layers.avg_pool(x, 3, 1, 1)
    np.testing.assert_allclose(means[0, 0, 0, 0], -4 / 9)
    np.testing.assert_allclose(means[0, 1, 1, 0], -1)


def test_pooling_side_by_side_is_the_reduction_with_its_derivatives():
    x = np.round(normal(2, 5, 7, 3))  # many ties; a row and a column are left over

    @jax.jit
    def ours_and_theirs(x):
        found = []
        for pool in (
            lambda x: _layers.max_pool(x, 2, 2),
            lambda x: nn.max_pool(x, (2, 2), (2, 2)),
        ):

            def total(x, pool=pool):
                return jnp.sum(jnp.sin(x) * jnp.arange(x.size).reshape(x.shape)) + (
                    jnp.sum(jnp.exp(pool(x)))
                )

            product = jax.jvp(jax.grad(total), (x,), (jnp.cos(x),))
            found.append((pool(x), *product))
        return found

    ours, theirs = ours_and_theirs(jnp.asarray(x))
    for own, their in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(own, their)
    for place in range(4):
        x[:, place // 2, place % 2] = np.nan
        values = ours_and_theirs(jnp.asarray(x))[0][0]
        assert np.isnan(values[:, 0, 0]).all()
        assert np.isnan(values).sum() == 2 * 3  # of two images with three channels
        x[:, place // 2, place % 2] = 0


def test_squeeze_and_excitation():
    x = normal(2, 3, 3, 4)
    layer = _layers.SqueezeExcite(2, _layers.conv)
    params = layer.init(jax.random.key(0), x)["params"]
    params = jax.tree.map(np.asarray, params)
    gate = x.mean((1, 2))
    reduced = gate @ params["reduce"]["kernel"][0, 0] + params["reduce"]["bias"]
    gate = np.maximum(reduced, 0) @ params["expand"]["kernel"][0, 0]
    gate = 1 / (1 + np.exp(-(gate + params["expand"]["bias"])))
    wanted = x * gate[:, None, None]
    np.testing.assert_allclose(layer.apply({"params": params}, x), wanted, rtol=1e-6)


def test_stochastic_depth_drops_whole_examples():
    x = jnp.ones((400, 2, 2, 3))
    layer = _layers.DropPath(0.25, deterministic=False)
    y = np.asarray(layer.apply({}, x, rngs={"dropout": jax.random.key(0)}))
    per_example = y.reshape(400, -1)
    assert (per_example == per_example[:, :1]).all()
    assert set(np.unique(y)) == {0, 4 / 3}
    assert (per_example[:, 0] == 0).mean() == pytest.approx(0.25, abs=0.07)
    same = _layers.DropPath(0.25, deterministic=True).apply({}, x)
    np.testing.assert_array_equal(same, x)


def test_shortcuts_without_parameters():
    x = normal(1, 5, 4, 2)
    pad = Shortcut(3, 2, "pad", conv=None, norm=None)
    got, variables = pad.init_with_output(jax.random.key(0), x)
    assert not variables
    np.testing.assert_array_equal(got[..., :2], x[:, ::2, ::2])
    np.testing.assert_array_equal(got[..., 2:], np.zeros((1, 3, 2, 1)))
    same = Shortcut(2, 1, "projection", conv=None, norm=None)
    assert same.apply({}, x) is x
    # a last row that stands alone is its own mean
    pooled = pad_shortcut(jnp.asarray(x), 3, 2)
    np.testing.assert_allclose(pooled[0, 2, 0, :2], x[0, 4, :2].mean(0))
    np.testing.assert_allclose(pooled[0, 0, 1, :2], x[0, :2, 2:].mean((0, 1)))
    assert pooled.shape == (1, 3, 2, 3)
    assert not pooled[..., 2].any()


def test_shuffle_interleaves():
    x = jnp.arange(6.0).reshape(1, 1, 1, 6)
    np.testing.assert_array_equal(shuffle(x).ravel(), [0, 3, 1, 4, 2, 5])


@pytest.mark.parametrize(
    ("value", "wanted"), [(32, 32), (11.2, 16), (8.4, 8), (35.2, 32), (3, 8)]
)
def test_divisible_by_eight(value, wanted):
    # 11.2 would fall to 8, more than a tenth below: so 16
    assert divisible(value) == wanted


def test_stems():
    x = normal(1, 32, 32, 3)
    for kind, side, kernel in (("cifar", 32, 3), ("imagenet", 8, 7)):
        norm = _layers.batch_norm(False, None)
        stem = _layers.Stem(4, kind, _layers.conv, norm)
        y, variables = jax.eval_shape(stem.init_with_output, jax.random.key(0), x)
        assert y.shape == (1, side, side, 4)
        assert variables["params"]["conv"]["kernel"].shape == (kernel, kernel, 3, 4)
        assert set(variables["params"]) == {"conv", "norm"}
    plain = _layers.Stem(4, "cifar", _layers.conv, None)
    assert set(plain.init(jax.random.key(0), x)["params"]) == {"conv"}


def test_outputs_are_float32_at_least():
    for given, wanted in (("bfloat16", "float32"), ("float64", "float64")):
        assert _layers.logits(jnp.ones(2, given)).dtype == wanted
