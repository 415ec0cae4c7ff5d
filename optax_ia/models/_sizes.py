"""Images that are too small for a network: found where a feature map vanishes."""

import contextvars
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

LARGEST = 1024
"""The largest size tried when the least size of a network is looked for."""

_PROBING = contextvars.ContextVar("probing", default=False)
"""Whether the least size is being looked for: a failure is then an answer."""

Call = TypeVar("Call", bound=Callable[..., Any])


class TooSmall(ValueError):
    """A feature map has no entries left."""


def check_map(x: jax.Array) -> jax.Array:
    """The feature map; raises :class:`TooSmall` if it has no height or width."""
    if 0 in x.shape[1:3]:
        raise TooSmall(f"a feature map of shape {x.shape} has no entries.")
    return x


def _fits(module: nn.Module, channels: int, height: int, width: int) -> bool:
    images = jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)
    probing = _PROBING.set(True)
    try:
        jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), images)
    except ValueError:  # TooSmall, or what a network says of its own sizes
        return False
    finally:
        _PROBING.reset(probing)
    return True


def least_size(module: nn.Module, channels: int) -> int | None:
    """The least height and width of square images that a network takes.

    None if there is none up to ``LARGEST``.
    """
    fitting = 1
    while not _fits(module, channels, fitting, fitting):
        fitting *= 2
        if fitting > LARGEST:
            return None
    small = fitting // 2  # does not fit, or is 0
    while fitting - small > 1:
        middle = (small + fitting) // 2
        if _fits(module, channels, middle, middle):
            fitting = middle
        else:
            small = middle
    return fitting


def takes_images(call: Call) -> Call:
    """Decorates ``__call__`` of a network of images, above ``nn.compact``.

    Images of another rank, and those that vanish on the way through the network, raise
    a ValueError that names the network, the shape and the least size.
    """

    @functools.wraps(call)
    def checked(self: nn.Module, x: jax.Array, *args: Any, **kwargs: Any) -> Any:
        name = type(self).__name__
        if jnp.ndim(x) != 4:
            raise ValueError(
                f"{name} takes images of shape (batch, height, width, channels), got "
                f"shape {jnp.shape(x)}."
            )
        try:
            return call(self, x, *args, **kwargs)
        except TooSmall:
            if _PROBING.get():
                raise
            height, width, channels = x.shape[1:]
        least = least_size(self.clone(parent=None, name=None), channels)
        known = f"at least {least} x {least}" if least else "larger"
        raise ValueError(
            f"{name} needs images that are {known}, got {height} x {width}: resize "
            "them, or choose a network with fewer poolings (optax_ia.models."
            "list_models())."
        )

    return checked  # pyright: ignore[reportReturnType]
