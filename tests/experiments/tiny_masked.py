"""A little language of its own, and a RoBERTa that compiles in a second."""

import dataclasses
import functools

import numpy as np

from experiments.configs.p2 import masked as config
from experiments.loops import masked

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "to", "it", ".")

SIZES = {
    "dataset": "text_folder",
    "vocab_size": 280,
    "max_length": 16,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_layers": 1,
    "batch_size": 16,
    "epochs": 2,
    "average_every": 2,
}


def write_texts(folder):
    """Three texts: 190 sequences of training, 26 of validation."""
    rng = np.random.default_rng(0)
    for name, number in (("train", 1500), ("valid", 200), ("test", 200)):
        words = " ".join(rng.choice(WORDS, number))
        (folder / f"{name}.txt").write_text(words)
    return folder


@functools.cache
def settings(folder):
    return config.MaskedRun(**SIZES, data_dir=str(folder))


def task(folder, *, placement=None, skip=False, **changes):
    run = dataclasses.replace(settings(folder), **changes)
    return masked.MaskedTask(run, masked.load(run), skip=skip, placement=placement)


def flags(folder, **changes):
    """The same on the command line."""
    given = SIZES | {"data_dir": folder} | changes
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
