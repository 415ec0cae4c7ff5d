"""Checksums of arrays, where they are: exact, and the same however they are sharded.

Storage has checksums of its own for some of what it writes, not for the numbers
themselves: a flipped bit in a parameter would be read without complaint.
"""

import json
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def checksums_of(tree: Any) -> jax.Array:
    r"""A checksum of every array of a tree.

    With the words :math:`w_i` of 32 bits that an array consists of, it is
    :math:`\sum_i (2 i + 1) w_i` modulo :math:`2^{32}`: one pass, any order of addition.
    The factors are odd, so that no single flipped bit goes unnoticed.

    Args:
      tree: of arrays, random keys included; traced or not.

    Returns:
      uint32 ``(arrays,)``, in the order of ``jax.tree.leaves``.
    """
    leaves = jax.tree.leaves(tree)
    return jnp.stack([_checksum(leaf) for leaf in leaves]).astype(jnp.uint32)


_compiled = jax.jit(checksums_of)


def checksums_in_json(tree: Any) -> list[int]:
    """The checksums of a tree as JSON can hold them.

    Args:
      tree: of arrays, however they are sharded.

    Returns:
      An integer for every array.
    """
    return np.asarray(_compiled(tree)).tolist()


def _checksum(leaf: jax.Array) -> jax.Array:
    words = _words(leaf)
    place = jnp.zeros(words.shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(words.ndim)):
        index = lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        place += index * jnp.uint32(stride % 2**32)
        stride *= words.shape[axis]
    return jnp.sum((2 * place + 1) * words, dtype=jnp.uint32)


def _words(leaf: jax.Array) -> jax.Array:
    """The bits of an array as uint32."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        leaf = jnp.stack([leaf.real, leaf.imag])
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    bits = 8 * leaf.dtype.itemsize
    if bits == 64:  # a last axis of two words
        return lax.bitcast_convert_type(leaf, jnp.uint32)
    same_size = {8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}[bits]
    return lax.bitcast_convert_type(leaf, same_size).astype(jnp.uint32)


def checksum_of_json(value: Any) -> int:
    """A checksum of what JSON can hold.

    Args:
      value: the value; the order of keys does not matter.

    Returns:
      CRC-32.
    """
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())
