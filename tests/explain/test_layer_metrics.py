"""Metrics of layers against their transcription, for all kinds of kernels and trees."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from optax_ia import explain
from tests.reference import evbmf as reference

SHAPES = {
    "conv/kernel": (3, 3, 8, 16),
    "line/kernel": (5, 12, 10),
    "dense/kernel": (40, 24),
    "point/kernel": (1, 1, 16, 30),
    "first/kernel": (3, 3, 3, 32),
    "depth/kernel": (3, 3, 1, 16),
}


def learned(rng, shape):
    """A kernel with some directions above its noise."""
    matrix = np.moveaxis(rng.normal(size=shape), -1, 0).reshape(shape[-1], -1)
    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    rank = max(1, len(u) // 4)
    matrix = 0.2 * matrix + u[:, :rank] * np.linspace(30, 10, rank) @ vt[:rank]
    return np.moveaxis(matrix.reshape(shape[-1], *shape[:-1]), 0, -1)


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    tree = {
        "norm": {"scale": np.ones(16)},
        "fresh": {"kernel": rng.normal(size=(9, 9))},
    }
    for path, shape in SHAPES.items():
        name, leaf = path.split("/")
        tree[name] = {leaf: learned(rng, shape), "bias": np.zeros(shape[-1])}
    return tree


@pytest.fixture(scope="module")
def metrics(params):
    return explain.layer_metrics(params)


def expected(kernel, power=1):
    """Rank, stable rank, condition and quality of both unfoldings."""
    for matrix in reference.unfold(kernel):
        d, _ = reference.evbmf(matrix)
        length = min(matrix.shape)
        q = reference.quality(d, length, power)
        stable = reference.stable_rank(d, length, power)
        yield len(d), stable, reference.condition(d), 0.0 if q is None else q


def test_all_unfoldings_agree_with_the_transcription(params, metrics):
    assert set(metrics) == {*SHAPES, "fresh/kernel"}
    for path in SHAPES:
        kernel = params[path.split("/")[0]]["kernel"]
        for found, want in zip(metrics[path], expected(kernel), strict=True):
            assert found.rank == want[0], path
            np.testing.assert_allclose(found[1:4], want[1:], rtol=1e-7, err_msg=path)
            assert all(value.shape == () for value in found)
    ranks = [layer.outputs.rank for layer in metrics.values()]
    assert len(set(map(int, ranks))) > 2


def test_layers_combine_their_unfoldings(metrics):
    layer = metrics["conv/kernel"]
    ranks = [layer.inputs.stable_rank, layer.outputs.stable_rank]
    np.testing.assert_allclose(layer.stable_rank, np.mean(ranks), rtol=1e-12)
    qualities = [layer.inputs.quality, layer.outputs.quality]
    square = np.mean(np.square(qualities))
    np.testing.assert_allclose(layer.quality, np.sqrt(square), rtol=1e-12)
    conditions = [layer.inputs.condition, layer.outputs.condition]
    np.testing.assert_allclose(layer.condition, np.mean(conditions), rtol=1e-12)
    # one row of inputs has no rank and does not count
    depth = metrics["depth/kernel"]
    assert depth.inputs.rank == 0
    assert depth.outputs.rank > 0
    np.testing.assert_allclose(depth.quality, depth.outputs.quality, rtol=1e-12)
    np.testing.assert_allclose(depth.condition, depth.outputs.condition, rtol=1e-12)
    assert metrics["dense/kernel"].inputs == metrics["dense/kernel"].outputs


def test_the_networks_quality_leaves_out_what_has_no_rank(params, metrics):
    every = [one for layer in metrics.values() for one in layer]
    q = np.array([one.quality for one in every if one.rank > 0])
    assert 3 <= len(every) - len(q) <= 5  # both of "fresh", the inputs of "depth"
    want = np.linalg.norm(q) / np.sqrt(len(q))
    np.testing.assert_allclose(explain.network_quality(metrics), want, rtol=1e-12)
    np.testing.assert_allclose(explain.network_quality(params), want, rtol=1e-12)
    q = np.array([one.quality for one in every if one.rank > 1])
    want = np.linalg.norm(q) / np.sqrt(len(q))
    found = explain.network_quality(metrics, min_rank=2)
    np.testing.assert_allclose(found, want, rtol=1e-12)
    fresh = metrics["fresh/kernel"]
    assert fresh.stable_rank == fresh.quality == fresh.inputs.condition == 0
    untrained = explain.network_quality({"fresh/kernel": fresh})
    assert untrained == 0
    assert untrained.shape == ()


def test_orthogonal_matrices_are_perfect():
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 8)))
    tree = {"tall": q, "wide": q.T, "square": np.eye(8)}
    found = explain.layer_metrics(tree, sigma2=0.0)
    for layer in found.values():
        for one in layer:
            assert one.rank == 8
            np.testing.assert_allclose(one.stable_rank, 1, rtol=1e-12)
            np.testing.assert_allclose(one.condition, 0, atol=1e-12)
            np.testing.assert_allclose(one.quality, np.pi / 2, rtol=1e-12)
    # by itself EVBMF takes equal values for noise
    assert explain.layer_metrics(tree)["tall"].outputs.rank == 0


def test_both_powers(params):
    kernel = params["dense"]["kernel"]
    found = explain.layer_metrics({"kernel": kernel}, power=2)["kernel"].outputs
    _, stable, _, quality = next(expected(kernel, power=2))
    np.testing.assert_allclose(found.stable_rank, stable, rtol=1e-7)
    np.testing.assert_allclose(found.quality, quality, rtol=1e-7)
    values = reference.evbmf(kernel)[0]
    ratio = np.sum(values**2) / values[0] ** 2 / 24
    np.testing.assert_allclose(stable, ratio, rtol=1e-12)


def test_rank_one_is_flagged():
    rng = np.random.default_rng(0)
    kernel = 5 * np.outer(rng.normal(size=24), rng.normal(size=40))
    found = explain.layer_metrics({"kernel": kernel + 0.1 * rng.normal(size=(24, 40))})
    one = found["kernel"].outputs
    assert one.rank == 1
    assert one.condition == 0
    np.testing.assert_allclose(one.quality, np.pi / 2)
    np.testing.assert_allclose(explain.network_quality(found), np.pi / 2)
    assert explain.network_quality(found, min_rank=2) == 0


def test_what_is_not_finite_shows(params):
    gap = params["dense"]["kernel"].copy()
    gap[0, 0] = np.nan
    tree = {"gap": gap, "dense": params["dense"]["kernel"]}
    found = explain.layer_metrics(tree)
    assert found["gap"].outputs.rank == 0
    assert np.isnan(found["gap"].outputs[1:]).all()
    assert np.isnan(explain.network_quality(found))
    assert found["dense"].outputs.rank > 0


def test_the_svd_gives_the_same(params, metrics):
    found = explain.layer_metrics(params, method="svd")
    for path, layer in metrics.items():
        for got, want in zip(found[path], layer, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-12)


def test_metrics_stack_under_scan_and_keep_narrow_types(params):
    kernels = {
        "a": jnp.asarray(params["dense"]["kernel"], jnp.bfloat16),
        "b": jnp.asarray(params["dense"]["kernel"], jnp.float32),
    }

    def body(kernels, scale):
        scaled = jax.tree.map(lambda x: (scale * x).astype(x.dtype), kernels)
        return kernels, explain.layer_metrics(scaled)

    scales = jnp.array([0.0, 1.0, 4.0], jnp.float32)
    _, stacked = jax.jit(lambda k: jax.lax.scan(body, k, scales))(kernels)
    for layer in stacked.values():
        assert layer.outputs.rank.shape == (3,)
        assert layer.outputs.stable_rank.dtype == jnp.float32
        assert layer.outputs.rank[0] == layer.outputs.stable_rank[0] == 0
        # a power of two changes no digit
        np.testing.assert_array_equal(
            layer.outputs.quality[1], layer.outputs.quality[2]
        )
        # of a stack, what combines unfoldings is a stack too
        for combined in (layer.stable_rank, layer.condition, layer.quality):
            assert combined.shape == (3,)
        np.testing.assert_allclose(layer.quality, layer.outputs.quality, rtol=1e-6)
    quality = explain.network_quality(stacked)
    assert quality.shape == (3,)
    assert quality[0] == 0
    last = explain.network_quality(jax.tree.map(lambda x: x[2], stacked))
    np.testing.assert_allclose(quality[1:], np.stack([last] * 2), rtol=1e-6)


def test_a_condition_is_never_below_zero():
    """One direction: its value over itself may be rounded up."""
    keys = jax.random.split(jax.random.key(0), 2)
    left, right = jax.random.normal(keys[0], (40, 12, 1)), jnp.ones((40, 1, 30))
    matrices = left @ right + 0.1 * jax.random.normal(keys[1], (40, 12, 30))
    params = {str(i): matrix.astype(jnp.float32) for i, matrix in enumerate(matrices)}
    for layer in explain.layer_metrics(params).values():
        assert layer.inputs.rank == 1
        assert layer.inputs.condition >= 0
        assert layer.inputs.quality <= np.float32(np.pi / 2)


def test_linen_and_nnx_trees_have_readable_paths():
    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(4, (3, 3))(x)
            return nn.Dense(3)(x.mean((1, 2)))

    class Nnx(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(6, 4, rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)

    variables = Linen().init(jax.random.key(0), jnp.zeros((1, 4, 4, 2)))
    assert set(explain.layer_metrics(variables["params"])) == {
        "Conv_0/kernel",
        "Dense_0/kernel",
    }
    state = nnx.state(Nnx(nnx.Rngs(0)), nnx.Param)
    assert set(explain.layer_metrics(state)) == {"dense/kernel"}


def test_heads_of_attention_count_with_their_features():
    rng = np.random.default_rng(0)
    matrix = learned(rng, (24, 40))
    tree = {
        "query": {"kernel": matrix.reshape(24, 5, 8)},
        "out": {"kernel": matrix.T.reshape(5, 8, 24)},
        "plain": {"kernel": matrix},
    }
    found = explain.layer_metrics(tree)
    want = found.pop("plain/kernel").outputs
    for layer in found.values():
        for one in layer:
            np.testing.assert_allclose(one, want, rtol=1e-10)


def test_patterns_and_errors(params):
    chosen = explain.layer_metrics(params, pattern=r"^fresh/")
    assert list(chosen) == ["fresh/kernel"]
    with pytest.raises(ValueError, match=r"has two axes and matches 'x'; .*conv"):
        explain.layer_metrics(params, pattern="x")
    with pytest.raises(ValueError, match=r"no array has two axes; there are \['b'\]"):
        explain.network_quality({"b": jnp.ones(3)})
    with pytest.raises(ValueError, match="min_rank must be >= 1, got 0"):
        explain.network_quality(params, min_rank=0)
    with pytest.raises(ValueError, match="power must be 1 or 2, got 3"):
        explain.layer_metrics(params, power=3)
    with pytest.raises(ValueError, match="method must be one of"):
        explain.layer_metrics(params, method="qr")
    with pytest.raises(ValueError, match=r"sigma2 must be >= 0, got -0\.5"):
        explain.layer_metrics(params, sigma2=-0.5)
