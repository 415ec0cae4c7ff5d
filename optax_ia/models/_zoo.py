"""The models by name: list, look up, create, count."""

import fnmatch
import inspect
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from optax_ia._src.checks import check_choice
from optax_ia.models._record import ModelRecord
from optax_ia.models._records import RECORDS

_FLAX_OWN = ("parent", "name")
"""Attributes that every Flax module has."""


def list_models(pattern: str = "*", *, kind: str | None = None) -> list[str]:
    """Names of the models that match a shell-style pattern, sorted.

    Args:
      pattern: as in :func:`fnmatch.fnmatch`.
      kind: "image", "language" or "generative"; None for all.

    Returns:
      A sorted list of names. What is known of each, its papers for one, is in
      :func:`get_model_record`; :func:`count_parameters` tells its size.

    Raises:
      ValueError: if there is no such kind.

    Example:
      >>> from optax_ia import models
      >>> models.list_models("vgg_[st]*")
      ['vgg_small', 'vgg_tiny', 'vgg_tiny_plain']
    """
    if kind is not None:
        check_choice("kind", kind, ("image", "language", "generative"))
    return sorted(
        name
        for name in fnmatch.filter(RECORDS, pattern)
        if kind in (None, RECORDS[name].kind)
    )


def get_model_record(name: str) -> ModelRecord:
    """The record of one model.

    Args:
      name: one of :func:`list_models`.

    Returns:
      Its :class:`ModelRecord`.

    Raises:
      ValueError: if there is no such model; the message names the choices.

    Example:
      >>> from optax_ia import models
      >>> models.get_model_record("vgg_tiny").summary
      'VGG with batch normalisation, 2 narrow convolutions, for tests.'
    """
    if name not in RECORDS:
        choices = ", ".join(list_models())
        raise ValueError(f"unknown model {name!r}; choose one of: {choices}")
    return RECORDS[name]


def create_model(name: str, **kwargs: Any) -> nn.Module:
    """A Linen module from the zoo.

    Every image network is called as ``model.apply(variables, images, train=...)`` with
    images ``(batch, height, width, channels)`` and returns logits, in float32 at least.
    In train mode pass ``mutable=["batch_stats"]`` where there is batch normalisation
    and ``rngs={"dropout": key}`` where there is dropout. Language models take tokens
    ``(batch, length)``; the AWD ones also a carry, from ``model.initial_carry(batch)``,
    and return a :class:`LanguageOutput`.

    Args:
      name: one of :func:`list_models`.
      **kwargs: attributes of the module, such as ``num_classes`` (``vocab_size`` of
        language models) and ``dtype`` (what it computes in; parameters are float32).

    Returns:
      The module, not yet initialised.

    Raises:
      ValueError: if there is no such model; the message names the choices.
      TypeError: if the module has no such attribute; the message names those it has.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import models
      >>> model = models.create_model("vgg_tiny", num_classes=3)
      >>> images = jnp.zeros((2, 8, 8, 1))
      >>> variables = model.init(jax.random.key(0), images, train=False)
      >>> model.apply(variables, images, train=False).shape
      (2, 3)
    """
    factory = get_model_record(name).factory
    options = inspect.signature(factory).parameters
    unknown = [option for option in kwargs if option not in options]
    if unknown:
        choices = ", ".join(option for option in options if option not in _FLAX_OWN)
        raise TypeError(
            f"{name} has no option {', '.join(unknown)}; choose from: {choices}"
        )
    return factory(**kwargs)


def abstract_variables(name: str, **kwargs: Any) -> Any:
    """Shapes and dtypes of a model's variables, with nothing computed.

    Args:
      name: one of :func:`list_models`.
      **kwargs: attributes of the module, as for :func:`create_model`.

    Returns:
      The tree that ``init`` returns, of :class:`jax.ShapeDtypeStruct`.

    Raises:
      ValueError: if there is no such model.

    Example:
      >>> from optax_ia import models
      >>> variables = models.abstract_variables("resnet50")
      >>> variables["params"]["head"]["kernel"].shape
      (2048, 1000)
    """
    record = get_model_record(name)
    model = create_model(name, **kwargs)
    example = jnp.zeros((1, *record.input_shape), record.input_dtype)
    return jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), example
    )


def count_parameters(name: str, **kwargs: Any) -> int:
    """The number of parameters of a model, with nothing computed.

    Args:
      name: one of :func:`list_models`.
      **kwargs: attributes of the module, as for :func:`create_model`.

    Returns:
      The number of numbers in ``params``; batch statistics do not count.

    Raises:
      ValueError: if there is no such model.

    Example:
      >>> from optax_ia import models
      >>> models.count_parameters("vgg_tiny", num_classes=3)
      447
    """
    params = abstract_variables(name, **kwargs)["params"]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
