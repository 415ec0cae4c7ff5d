"""Augmentation as a pure function of a key and a batch."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.data._dataset import Augment

Border = tuple[float, ...] | None
"""What an image is padded with: a colour, one number a channel in the units of the
images, or None for its own outermost pixels."""


@functools.partial(jax.jit, static_argnames=("padding", "border"))
def random_shift(
    key: jax.Array,
    images: jax.typing.ArrayLike,
    *,
    padding: int = 1,
    border: Border = None,
) -> jax.Array:
    """Pads every image and crops it back at a place drawn for it alone.

    There is no mirroring: a mirrored digit is not one.

    Args:
      key: a PRNG key; the same key and batch give the same result.
      images: ``(batch, height, width, channels)``.
      padding: the largest shift, in pixels, along either side.
      border: the colour around the image; None repeats its outermost pixels, so that
        nothing new enters it.

    Returns:
      Images of the same shape and dtype.
    """
    images = jnp.asarray(images)
    batch, height, width, channels = images.shape
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, sides, mode="edge")
    if border is not None:
        colour = jnp.asarray(border, images.dtype)
        inside = jnp.pad(jnp.ones((1, height, width, 1), bool), sides)
        padded = jnp.where(inside, padded, colour.reshape(1, 1, 1, -1))
    corners = jax.random.randint(key, (batch, 2), 0, 2 * padding + 1)

    def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(image, start, (height, width, channels))

    return jax.vmap(crop)(padded, corners)


@functools.partial(jax.jit, static_argnames="border")
def shift_and_flip(
    key: jax.Array, images: jax.typing.ArrayLike, *, border: Border = None
) -> jax.Array:
    """:func:`random_shift` by up to 4 pixels, and every other image mirrored.

    Args:
      key: a PRNG key; the same key and batch give the same result.
      images: ``(batch, height, width, channels)``.
      border: as there.

    Returns:
      Images of the same shape and dtype.
    """
    first, second = jax.random.split(key)
    shifted = random_shift(first, images, padding=4, border=border)
    mirrored = jax.random.bernoulli(second, shape=(shifted.shape[0], 1, 1, 1))
    return jnp.where(mirrored, shifted[:, :, ::-1], shifted)


@functools.cache
def with_border(augment: Callable[..., jax.Array], border: Border) -> Augment:
    """An augmentation whose images are padded with a colour.

    Args:
      augment: takes it as ``border``.
      border: the colour.

    Returns:
      The same object for the same arguments, which compiled steps are found by.
    """
    return functools.partial(augment, border=border)


@functools.partial(jax.jit, static_argnames="size")
def cutout(key: jax.Array, images: jax.typing.ArrayLike, *, size: int) -> jax.Array:
    """Sets a square of each image to zero, at a place drawn for it alone.

    The centre is anywhere in the image, so that the square may reach beyond its border
    and hide less. Zero is the mean of normalised images.

    Args:
      key: a PRNG key; the same key and batch give the same result.
      images: ``(batch, height, width, channels)``.
      size: side of the square, in pixels.

    Returns:
      Images of the same shape and dtype.

    References:
      DeVries and Taylor, `Improved Regularization of Convolutional Neural Networks with
      Cutout <https://arxiv.org/abs/1708.04552>`_, 2017; P4, table 8.
    """
    images = jnp.asarray(images)
    batch, height, width, _ = images.shape
    centres = jax.random.randint(key, (batch, 2), 0, jnp.array([[height, width]]))

    def hidden(length: int, centre: jax.Array) -> jax.Array:
        offset = jnp.arange(length)[None] - (centre[:, None] - size // 2)
        return (offset >= 0) & (offset < size)

    rows, columns = hidden(height, centres[:, 0]), hidden(width, centres[:, 1])
    inside = rows[:, :, None] & columns[:, None, :]
    return jnp.where(inside[..., None], jnp.zeros_like(images), images)


@functools.cache
def with_cutout(augment: Augment, size: int) -> Augment:
    """An augmentation followed by :func:`cutout`; itself if ``size`` is 0.

    Args:
      augment: comes first.
      size: side of the square, in pixels.

    Returns:
      The same object for the same arguments, which compiled steps are found by.
    """
    if size == 0:
        return augment

    def augment_and_cut(key: jax.Array, images: jax.typing.ArrayLike) -> jax.Array:
        first, second = jax.random.split(key)
        return cutout(second, augment(first, images), size=size)

    return augment_and_cut
