"""Logits as the instruments take them."""

from typing import Any

import jax
import jax.numpy as jnp


def wide_logits(name: str, logits: Any, *, axes: int) -> jax.Array:
    """Logits in float32 or wider.

    Raises:
      ValueError: if there are fewer than ``axes`` axes, or an axis is empty.
      TypeError: if they are complex.
    """
    logits = jnp.asarray(logits)
    if jnp.iscomplexobj(logits):
        raise TypeError(f"{name} must be real, got {logits.dtype}.")
    if logits.ndim < axes or logits.size == 0:
        shape = "(models, ..., classes)" if axes == 2 else "(..., classes)"
        raise ValueError(f"{name} must have shape {shape}, got {logits.shape}.")
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
