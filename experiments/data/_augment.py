"""Augmentation as a pure function of a key and a batch."""

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.jit, static_argnames="padding")
def random_shift(
    key: jax.Array, images: jax.typing.ArrayLike, *, padding: int = 1
) -> jax.Array:
    """Pads every image and crops it back at a place drawn for it alone.

    The border repeats the outermost pixels, so that nothing new enters the image
    whatever its normalisation. There is no mirroring: a mirrored digit is not one.

    Args:
      key: a PRNG key; the same key and batch give the same result.
      images: ``(batch, height, width, channels)``.
      padding: the largest shift, in pixels, along either side.

    Returns:
      Images of the same shape and dtype.
    """
    images = jnp.asarray(images)
    batch, height, width, channels = images.shape
    border = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, border, mode="edge")
    corners = jax.random.randint(key, (batch, 2), 0, 2 * padding + 1)

    def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(image, start, (height, width, channels))

    return jax.vmap(crop)(padded, corners)
