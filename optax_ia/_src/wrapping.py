"""What every wrapper does with the transformation it is given."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def with_extra_args(
    inner: optax.GradientTransformation | optax.MultiSteps,
) -> optax.GradientTransformationExtraArgs:
    """A transformation that accepts extra arguments, whatever it is given.

    ``optax.with_extra_args_support`` drops the extra arguments of an
    ``optax.MultiSteps``, which is no ``GradientTransformation`` but accepts them.
    """
    if isinstance(inner, optax.GradientTransformation):
        return optax.with_extra_args_support(inner)
    return optax.GradientTransformationExtraArgs(inner.init, inner.update)  # pyright: ignore


def copied(tree: Any) -> Any:
    """The tree with buffers of its own: nothing in it dies by another's donation."""

    def copy(x):
        return jnp.copy(x) if isinstance(x, jax.Array) else x

    return jax.tree.map(copy, tree)
