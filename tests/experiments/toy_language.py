"""A language of few words, each of which says much about the next; small networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.configs.language import LanguageRun
from experiments.data.text import TextCorpus
from experiments.loops import _language_step as steps
from experiments.loops._language_read import Read, apply_of

VOCABULARY = 11
COLUMNS, SIZE = 3, 7

CONFIG = LanguageRun(
    model="awd_lstm_1",
    embedding_size=4,
    embedding_dropout=0.0,
    input_dropout=0.0,
    output_dropout=0.1,
    weight_dropout=0.0,
    epochs=4,
    batch_size=COLUMNS,
    bptt=5,
    bptt_deviation=1.0,
    validation_columns=2,
    learning_rate=0.1,
    weight_decay=1e-6,
    nonmonotone=1,
    patience=1,
)


def text(count, seed=0, vocabulary=VOCABULARY):
    """A word is followed by one of two, alike."""
    rng = np.random.default_rng(seed)
    return (np.cumsum(rng.integers(1, 3, count)) % vocabulary).astype(np.int32)


def corpus_of(train, validation, test, vocabulary=VOCABULARY):
    """A corpus of so many words."""
    words = tuple(f"word{number}" for number in range(vocabulary))
    sizes = train, validation, test
    parts = [text(size, seed, vocabulary) for seed, size in enumerate(sizes)]
    return TextCorpus("toy", words, *parts, sha256="5e3")


def params_of(model):
    """Fresh parameters, always the same."""
    return steps.init_params(model, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))


def read(window, model, carry=None):
    """What a step is given, by default from a state of zeros."""
    if carry is None:
        carry = model.initial_carry(len(window.tokens))
    return Read(window, carry, jnp.float32(1))


@functools.partial(jax.jit, static_argnames="model")
def apply(model, params, given):
    """Outputs with dropout off."""
    return apply_of(model)({"params": params}, given, train=False)
