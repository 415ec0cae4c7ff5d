"""The layers' figures: files that are pictures, with what they are said to show."""

import struct

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.report import _layer_figures as figures
from optax_ia.explain import LayerMetrics, UnfoldingMetrics


def unfolding(rank, quality=0.5):
    return UnfoldingMetrics(
        rank=jnp.int32(rank),
        stable_rank=jnp.float32(0.1 * rank),
        condition=jnp.float32(0.3),
        quality=jnp.float32(quality if rank else 0),
        sigma2=jnp.float32(0.01),
    )


def history(epochs=5, layers=12):
    """Layer n has a rank from epoch n on: 1, then 2..."""
    return [
        {
            f"Conv_{n}/kernel": LayerMetrics(
                unfolding(max(0, epoch - n), 0.2 * epoch), unfolding(0)
            )
            for n in range(layers)
        }
        for epoch in range(1, epochs + 1)
    ]


def size(content):
    assert content.startswith(b"\x89PNG")
    return struct.unpack(">II", content[16:24])


def test_layers_are_in_the_order_of_their_numbers():
    layers = figures._layers(history())
    assert layers == [f"Conv_{n}/kernel" for n in range(12)]


def test_values_are_of_the_unfoldings_with_a_rank():
    values = figures._of_layers(history(), "quality")
    assert values.shape == (12, 5)
    np.testing.assert_allclose(values[0], 0.2 * np.arange(1, 6), rtol=1e-6)
    assert np.isnan(values[5:]).all()
    assert np.isnan(values[3, :3]).all()
    rows, columns = figures._flagged(history())
    assert list(zip(rows, columns, strict=True)) == [(n, n) for n in range(5)]
    both = LayerMetrics(unfolding(3), unfolding(1))
    assert figures._flagged([{"a": both}]) == ([0], [0])
    mean = figures._mean(np.array([[np.nan, 1.0], [np.nan, 3.0]]))
    assert np.isnan(mean[0])
    assert mean[1] == 2


def test_maps_and_curves_are_pictures():
    runs = {"sgd": history(), "rmsgd": history(layers=40)}
    one, two = (size(figures.quality_map(part)) for part in ({"sgd": history()}, runs))
    assert two[0] > one[0]
    assert two[1] > one[1]
    rates = [{"learning_rate": 0.1, "learning_rate/Conv_0/kernel": 0.2}] * 5
    without = size(figures.metrics_evolution(runs))
    with_rates = size(figures.metrics_evolution(runs, {"rmsgd": rates}))
    assert with_rates[0] > without[0]
    untrained = [{"a/kernel": LayerMetrics(unfolding(0), unfolding(0))}]
    size(figures.quality_map({"x": untrained}))
    size(figures.metrics_evolution({"x": untrained}, {"x": [{"learning_rate": 0.1}]}))


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="no epoch to draw of anything"):
        figures.quality_map({})
    with pytest.raises(ValueError, match=r"no epoch to draw of \['a'\]"):
        figures.metrics_evolution({"a": []})
    with pytest.raises(ValueError, match=r"runs without metrics: \['b'\]"):
        figures.metrics_evolution({"a": history()}, {"b": []})
