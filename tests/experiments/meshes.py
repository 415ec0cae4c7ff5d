"""Meshes that cut tiny networks, and the comparison of what came out on them."""

import dataclasses

import jax
import numpy as np

from experiments.parallel import place_over


def cutting(devices=8):
    """Everything of eight elements or more is cut, so that a tiny network is."""
    return dataclasses.replace(place_over(devices, "full"), smallest=8)


def assert_close(actual, expected, tolerance=2e-6):
    """The arrays of two trees, whatever devices they lie on."""
    for one, other in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        np.testing.assert_allclose(
            np.asarray(one), np.asarray(other), rtol=10 * tolerance, atol=tolerance
        )
