"""A GAN of a few weights on digits, which several files of tests train."""

import dataclasses
import functools

import jax
import numpy as np

from experiments.configs.p4.gan import GanRun
from experiments.loops import gan

TINY = GanRun(
    features=2,
    extra_layers=0,
    latent=3,
    epochs=2,
    epoch_steps=2,
    batch_size=8,
    critic_steps=2,
    average_every=1,
    learning_rate=1e-3,
    critic_learning_rate=1e-3,
)


@functools.cache
def digits():
    return gan.load(TINY)


def task(samples=None, *, skip=False, placement=None, **changes):
    config = dataclasses.replace(TINY, **changes)
    return gan.GanTask(config, digits(), samples, skip, placement)


def rounds(made, number):
    """The training after a number of rounds."""
    training, batches = made.init(), made.batches()
    for step in range(number):
        training = made.step(training, next(batches), step)
    return training


def same(one, other):
    """Whether two trees agree to the last bit."""
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)
