"""Small scalars of optimiser states: counters, floats, and reading them back."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def default_float() -> Any:
    """float64 where 64-bit types are enabled, float32 elsewhere."""
    return jax.dtypes.canonicalize_dtype(float)


def increment(count: jax.Array) -> jax.Array:
    """``count + 1``, staying at the largest value once there."""
    return jnp.asarray(optax.safe_increment(count))


def bare_scalar(value: Any) -> jax.Array:
    """A scalar of a state, also where a framework wraps it in a variable."""
    (leaf,) = jax.tree.leaves(value)
    return leaf
