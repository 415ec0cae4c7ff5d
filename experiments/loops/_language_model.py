"""The network of a language run."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from experiments.configs.language import LanguageTask
from optax_ia import models

_MODEL_FIELDS = (
    "embedding_size",
    "hidden_size",
    "embedding_dropout",
    "input_dropout",
    "hidden_dropout",
    "output_dropout",
    "weight_dropout",
)


def list_models() -> list[str]:
    """The networks that carry a state: those of the AWD family."""
    return [name for name in models.list_models(kind="language") if "awd" in name]


@functools.cache
def _shared_model(name: str, **options: Any) -> nn.Module:
    """A model, one object for each setting: compiled programs are found by it."""
    return models.create_model(name, **options)


def model_of(config: LanguageTask, vocab_size: int) -> nn.Module:
    """The network of a task."""
    given = {name: getattr(config, name) for name in _MODEL_FIELDS}
    options = {name: value for name, value in given.items() if value is not None}
    if config.precision == "bf16":
        options["dtype"] = jnp.bfloat16
    return _shared_model(config.model, vocab_size=vocab_size, **options)
