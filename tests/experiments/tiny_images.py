"""Image runs that take seconds."""

import dataclasses

from experiments.configs.settings import RunConfig
from experiments.loops import image

CONFIG = RunConfig(
    dataset="digits",
    model="vgg_tiny",
    epochs=2,  # of 14 steps
    batch_size=64,
    optimizer="gadamx",
    average_from=0.0,
    learning_rate=0.01,
)
PLAIN = dataclasses.replace(CONFIG, model="mlp_tiny", optimizer="sgd")


def trained(config, data, placement, steps):
    task = image.ImageTask(config, data, placement=placement)
    training, batches = task.init(), task.batches()
    for step in range(steps):
        training = task.step(training, next(batches), step)
    batches.close()
    return task, training


def visible(state):
    return state.params, state.batch_stats, state.opt_state
