"""The models by name: one frozen record each."""

import dataclasses
import fnmatch
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from optax_ia.models import _vgg


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """What the zoo knows about a model.

    Attributes:
      name: the name :func:`create_model` takes.
      factory: makes the Linen module from keyword arguments.
      summary: one line.
    """

    name: str
    factory: Callable[..., nn.Module]
    summary: str


_RECORDS = {
    record.name: record
    for record in (
        ModelRecord(
            name="vgg_small",
            factory=_vgg.vgg_small,
            summary="VGG with batch normalisation, 4 convolutions, for 8x8 images.",
        ),
        ModelRecord(
            name="vgg_tiny",
            factory=_vgg.vgg_tiny,
            summary="VGG with batch normalisation, 2 narrow convolutions, for tests.",
        ),
        ModelRecord(
            name="vgg_tiny_plain",
            factory=_vgg.vgg_tiny_plain,
            summary="VGG without normalisation, 2 narrow convolutions.",
        ),
    )
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models that match a shell-style pattern, sorted.

    Args:
      pattern: as in :func:`fnmatch.fnmatch`.

    Returns:
      A sorted list of names.

    Example:
      >>> from optax_ia import models
      >>> models.list_models("vgg_*")
      ['vgg_small', 'vgg_tiny', 'vgg_tiny_plain']
    """
    return sorted(fnmatch.filter(_RECORDS, pattern))


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
    if name not in _RECORDS:
        choices = ", ".join(list_models())
        raise ValueError(f"unknown model {name!r}; choose one of: {choices}")
    return _RECORDS[name]


def create_model(name: str, **kwargs: Any) -> nn.Module:
    """A Linen module from the zoo.

    Every model is called as ``model.apply(variables, images, train=...)`` with
    images ``(batch, height, width, channels)`` and returns logits.

    Args:
      name: one of :func:`list_models`.
      **kwargs: attributes of the module, such as ``num_classes``.

    Returns:
      The module, not yet initialised.

    Raises:
      ValueError: if there is no such model; the message names the choices.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import models
      >>> model = models.create_model("vgg_tiny", num_classes=3)
      >>> images = jnp.zeros((2, 8, 8, 1))
      >>> variables = model.init(jax.random.key(0), images, train=False)
      >>> model.apply(variables, images, train=False).shape
      (2, 3)
    """
    return get_model_record(name).factory(**kwargs)
