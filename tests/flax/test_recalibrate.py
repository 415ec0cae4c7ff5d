"""Re-estimated batch statistics, Linen and NNX, against NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from optax_ia.flax import recalibrate_batch_stats
from tests.flax.problem import (
    FEATURES,
    NNXNet,
    as_numpy,
    batches,
    linen_variables,
    numpy_statistics,
)


def linen_statistics(data, *, seed=0, momentum=0.9, spoil=lambda stats: stats, **kw):
    net, variables = linen_variables(seed, momentum)
    variables = {**variables, "batch_stats": spoil(variables["batch_stats"])}
    fresh = recalibrate_batch_stats(net.apply, variables, data, **kw)
    assert set(fresh) == set(variables)
    for old, new in zip(
        jax.tree.leaves(variables["params"]),
        jax.tree.leaves(fresh["params"]),
        strict=True,
    ):
        np.testing.assert_array_equal(new, old)
    expected = numpy_statistics(as_numpy(variables["params"]), batches_of(data))
    return [fresh["batch_stats"][f"norm_{i}"] for i in range(2)], expected


def nnx_statistics(data, *, seed=0, momentum=0.9, spoil=lambda stats: stats, **kw):
    model = NNXNet(nnx.Rngs(seed), momentum)
    for norm in (model.norm_0, model.norm_1):
        stats = spoil({"mean": norm.mean[...], "var": norm.var[...]})
        norm.mean[...], norm.var[...] = stats["mean"], stats["var"]
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    result = recalibrate_batch_stats(model, data, **kw)
    assert result is model
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    jax.tree.map(np.testing.assert_array_equal, after, before)
    assert model.norm_0.momentum == momentum
    expected = numpy_statistics(as_numpy(before), batches_of(data))
    stats = [
        {"mean": norm.mean[...], "var": norm.var[...]}
        for norm in (model.norm_0, model.norm_1)
    ]
    return stats, expected


def batches_of(data):
    return [batch[0] if isinstance(batch, tuple) else batch for batch in data]


both = pytest.mark.parametrize(
    "statistics", [linen_statistics, nnx_statistics], ids=["linen", "nnx"]
)


def assert_statistics(actual, expected):
    for got, want in zip(actual, expected, strict=True):
        for name in ("mean", "var"):
            assert got[name].dtype == jnp.float32
            np.testing.assert_allclose(got[name], want[name], rtol=2e-5, atol=1e-5)


@both
class TestBothForms:
    @pytest.mark.parametrize("sizes", [(8,), (8, 8), (8, 8, 3), (1, 7, 2)])
    def test_equals_the_mean_weighted_by_batch_size(self, statistics, sizes):
        assert_statistics(*statistics(batches(sizes)))

    @pytest.mark.parametrize("momentum", [0.0, 0.1, 0.99, 1.0])
    def test_the_momentum_is_irrelevant(self, statistics, momentum):
        assert_statistics(*statistics(batches(), momentum=momentum))

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -5.0])
    def test_the_old_statistics_are_irrelevant(self, statistics, value):
        def spoil(stats):
            return jax.tree.map(lambda leaf: jnp.full_like(leaf, value), stats)

        assert_statistics(*statistics(batches(), spoil=spoil))

    def test_labels_are_ignored(self, statistics):
        data = [(x, np.zeros(len(x), int)) for x in batches()]
        assert_statistics(*statistics(data))

    def test_mappings_and_the_inputs_argument(self, statistics):
        net_inputs = batches()
        actual, expected = statistics(net_inputs)
        assert_statistics(actual, expected)
        wrapped = [({"ids": x},) for x in net_inputs]
        taken, _ = statistics_without_reference(
            statistics, wrapped, lambda b: b[0]["ids"]
        )
        for a, b in zip(jax.tree.leaves(taken), jax.tree.leaves(actual), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_jax_arrays_and_lists(self, statistics):
        assert_statistics(*statistics([jnp.asarray(x) for x in batches()]))

    def test_the_order_of_the_batches_is_irrelevant(self, statistics):
        forward, _ = statistics(batches())
        backward, _ = statistics(batches()[::-1])
        for a, b in zip(
            jax.tree.leaves(forward), jax.tree.leaves(backward), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    def test_no_batches_is_refused(self, statistics):
        with pytest.raises(ValueError, match="at least one batch"):
            statistics_without_reference(statistics, [])

    def test_a_single_array_is_refused(self, statistics):
        with pytest.raises(TypeError, match="iterable of batches"):
            statistics_without_reference(statistics, batches()[0])


def statistics_without_reference(statistics, data, inputs=None):
    if statistics is linen_statistics:
        net, variables = linen_variables()
        fresh = recalibrate_batch_stats(net.apply, variables, data, inputs=inputs)
        return [fresh["batch_stats"][f"norm_{i}"] for i in range(2)], None
    model = recalibrate_batch_stats(NNXNet(nnx.Rngs(0)), data, inputs=inputs)
    return [
        {"mean": norm.mean[...], "var": norm.var[...]}
        for norm in (model.norm_0, model.norm_1)
    ], None


def test_batches_are_read_once():
    reads = []

    def stream():
        for x in batches():
            reads.append(len(x))
            yield x

    net, variables = linen_variables()
    recalibrate_batch_stats(net.apply, variables, stream())
    assert reads == [8, 8, 3]


def test_linen_leaves_the_variables_it_was_given_alone():
    net, variables = linen_variables()
    before = jax.tree.map(np.array, variables)
    recalibrate_batch_stats(net.apply, variables, batches())
    jax.tree.map(np.testing.assert_array_equal, variables, before)


def test_linen_accepts_the_module_itself():
    net, variables = linen_variables()
    by_module = recalibrate_batch_stats(net, variables, batches())
    by_apply = recalibrate_batch_stats(net.apply, variables, batches())
    jax.tree.map(np.testing.assert_array_equal, by_module, by_apply)


def test_linen_convolutions_count_every_position():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.BatchNorm(use_running_average=not train)(x)

    rng = np.random.default_rng(0)
    data = [rng.normal(size=(n, 5, 4, 2)).astype(np.float32) + n for n in (4, 2)]
    net = Net()
    variables = net.init(jax.random.key(0), data[0])
    fresh = recalibrate_batch_stats(net.apply, variables, data)
    stats = fresh["batch_stats"]["BatchNorm_0"]
    for name, statistic in (("mean", np.mean), ("var", np.var)):
        expected = sum(len(x) * statistic(x, axis=(0, 1, 2)) for x in data) / 6
        np.testing.assert_allclose(stats[name], expected, rtol=1e-5)


def test_linen_other_arguments_and_random_layers():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, is_training=False):
            x = nn.BatchNorm(use_running_average=not is_training)(x)
            return nn.Dropout(0.5, deterministic=not is_training)(x)

    net = Net()
    data = batches()
    variables = net.init(jax.random.key(0), data[0])
    fresh = recalibrate_batch_stats(
        net.apply,
        variables,
        data,
        apply_kwargs={"is_training": True},
        rngs={"dropout": jax.random.key(1)},
    )
    expected = sum(x.sum(axis=0) for x in data) / sum(map(len, data))
    np.testing.assert_allclose(
        fresh["batch_stats"]["BatchNorm_0"]["mean"], expected, rtol=1e-5
    )


def test_linen_evaluation_mode_is_an_error_not_a_silent_nothing():
    net, variables = linen_variables()
    with pytest.raises(ValueError, match="training mode"):
        recalibrate_batch_stats(
            net.apply, variables, batches(), apply_kwargs={"train": False}
        )


def test_linen_network_without_batch_norm_comes_back():
    net = nn.Dense(1)
    variables = net.init(jax.random.key(0), jnp.ones((1, FEATURES)))
    fresh = recalibrate_batch_stats(net.apply, variables, batches())
    jax.tree.map(np.testing.assert_array_equal, fresh, dict(variables))


def test_linen_half_precision_keeps_its_dtypes():
    """bfloat16 sums of a thousand examples would be off in the first digit."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.BatchNorm(use_running_average=not train, dtype=jnp.bfloat16)(x)

    net = Net()
    data = [np.full((8, 2), float(i % 2), np.float32) for i in range(64)]
    variables = net.init(jax.random.key(0), data[0])
    fresh = recalibrate_batch_stats(net.apply, variables, data)
    mean = fresh["batch_stats"]["BatchNorm_0"]["mean"]
    assert mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, 0.5, rtol=1e-6)


def test_nnx_mode_and_random_streams_are_left_alone():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(FEATURES, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.dropout(self.norm(x))

    for mode in ("train", "eval"):
        model = Net(nnx.Rngs(0))
        getattr(model, mode)()
        count = np.asarray(jax.tree.leaves(nnx.state(model, nnx.RngCount))[0])
        recalibrate_batch_stats(model, batches())
        assert model.norm.use_running_average is (mode == "eval")
        assert model.dropout.deterministic is (mode == "eval")
        after = np.asarray(jax.tree.leaves(nnx.state(model, nnx.RngCount))[0])
        np.testing.assert_array_equal(after, count)
        expected = sum(x.sum(axis=0) for x in batches()) / 19
        np.testing.assert_allclose(model.norm.mean[...], expected, rtol=1e-5)


def test_nnx_model_without_batch_norm_comes_back():
    model = nnx.Linear(FEATURES, 1, rngs=nnx.Rngs(0))
    assert recalibrate_batch_stats(model, batches()) is model


def test_evaluation_after_it_is_that_of_the_whole_data_for_one_norm():
    """One norm, equal-sized batches: the mean over batches is the mean over all."""
    net = nn.BatchNorm(use_running_average=None)
    data = batches((8, 8))
    variables = net.init(jax.random.key(0), data[0], use_running_average=True)

    def apply(variables, x, train=False, **kw):
        return net.apply(variables, x, use_running_average=not train, **kw)

    fresh = recalibrate_batch_stats(apply, variables, data)
    np.testing.assert_allclose(
        fresh["batch_stats"]["mean"], np.concatenate(data).mean(axis=0), rtol=1e-5
    )


@pytest.mark.parametrize(
    "arguments", [(1,), (1, 2), (NNXNet, {}, [], [])], ids=["one", "two", "many"]
)
def test_wrong_arguments_say_what_is_taken(arguments):
    with pytest.raises(TypeError, match=r"apply_fn|model"):
        recalibrate_batch_stats(*arguments)
