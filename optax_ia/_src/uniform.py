"""Makes a transformation indifferent to the dtypes it is called with.

Gradients in float32 of parameters in bfloat16, Python floats and NumPy scalars as
parameters, weakly typed scalars: whatever comes in, the state keeps the dtypes that
``init`` gave it, so that a scan accepts it, jit does not compile again and a checkpoint
can be restored; and the updates have the gradients' dtypes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_ia._src.paths import path_string
from optax_ia._src.wrapping import with_extra_args


def _is_plain(x: Any) -> bool:
    """Whether a leaf is a Python or NumPy value, or a weakly typed array."""
    if isinstance(x, jax.Array):
        return x.weak_type
    return isinstance(x, (bool, int, float, complex, np.ndarray, np.generic))


def as_arrays(tree: Any) -> Any:
    """The tree with Python and NumPy leaves as arrays of a dtype of their own."""

    def convert(x):
        return jnp.asarray(x, jnp.asarray(x).dtype) if _is_plain(x) else x

    return jax.tree.map(convert, tree)


def _cast_like(tree: Any, like: Any) -> Any:
    """``tree`` in the dtypes of ``like`` where both hold floating point numbers."""

    def cast(x, old):
        if not (isinstance(x, jax.Array) and hasattr(old, "dtype")):
            return x
        if x.dtype != old.dtype:
            both = all(jnp.issubdtype(a.dtype, jnp.inexact) for a in (x, old))
            return x.astype(old.dtype) if both else x
        return jnp.asarray(x, x.dtype) if x.weak_type else x

    return jax.tree.map(cast, tree, like)


def _refuse_complex(name: str, tree: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = getattr(leaf, "dtype", None)
        if dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating):
            raise TypeError(
                f"{name} does not support complex parameters, got {dtype} at "
                f"{path_string(path) or 'the root'!r}. Optimise real and imaginary "
                "parts as two real parameters: "
                "optax.contrib.split_real_and_imaginary(optimizer)."
            )


def uniform(
    inner: optax.GradientTransformation, name: str, complex_params: bool
) -> optax.GradientTransformationExtraArgs:
    """Wraps a transformation so that its state does not depend on the dtypes given.

    Args:
      inner: the transformation.
      name: its factory, for messages.
      complex_params: whether it is right for complex parameters.

    Returns:
      The transformation, with the same state.
    """
    inner = with_extra_args(inner)

    def init_fn(params):
        params = as_arrays(params)
        if not complex_params:
            _refuse_complex(name, params)
        return as_arrays(inner.init(params))

    def update_fn(updates, state, params=None, **extra_args):
        updates, params = as_arrays(updates), as_arrays(params)
        if not complex_params:
            _refuse_complex(name, updates)
        new_updates, new_state = inner.update(updates, state, params, **extra_args)
        return _cast_like(new_updates, updates), _cast_like(new_state, state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
