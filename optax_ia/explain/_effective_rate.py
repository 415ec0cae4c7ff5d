"""The learning rate that a layer under normalisation feels."""

import re
from typing import Any

import jax
import jax.numpy as jnp

from optax_ia._src import checks
from optax_ia._src.paths import path_string


def effective_learning_rate(
    params: Any,
    learning_rate: jax.typing.ArrayLike,
    *,
    pattern: str | None = None,
) -> dict[str, jax.Array]:
    r"""The effective learning rate of every layer.

    .. math::
      \alpha_{\text{eff}} = \frac{\alpha}{\|w_l\|^2}

    A layer followed by batch normalisation gives the same output whatever the norm of
    its weights; a gradient step turns them by as much as this rate says. Decay keeps it
    up by keeping the norm down.

    Args:
      params: the weights, a tree of arrays.
      learning_rate: :math:`\alpha` >= 0 at that time, a number; evaluate a schedule
        first.
      pattern: a regular expression, searched in paths such as ``"Conv_0/kernel"``:
        which arrays count; None takes all of two or more axes, which leaves out biases
        and the scales of norms.

    Returns:
      A dict of scalars by path, in float32 or wider. Infinite for weights of zero.

    Raises:
      ValueError: if ``learning_rate`` is negative, or no array counts, listing paths.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import explain
      >>> params = {"conv": {"kernel": jnp.full((2, 2), 5.0), "bias": jnp.ones(2)}}
      >>> print(explain.effective_learning_rate(params, 0.5))
      {'conv/kernel': Array(0.005, dtype=float32)}

    .. note::
      P0's figure 5 shows one number a network, of which only layers under batch
      normalisation make sense: choose them by ``pattern``.

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Method, 2021, section 3.2 and figure 5; Hoffer, Banner, Golan, Soudry, `Norm
      Matters <https://arxiv.org/abs/1803.01814>`_, 2018.
    """
    checks.check_number("learning_rate", learning_rate, minimum=0)
    leaves = [
        (path_string(path), jnp.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    chosen = {
        name: leaf
        for name, leaf in leaves
        if (leaf.ndim >= 2 if pattern is None else re.search(pattern, name))
    }
    if not chosen:
        wanted = "has two axes" if pattern is None else f"matches {pattern!r}"
        raise ValueError(
            f"no array {wanted}; there are {[name for name, _ in leaves]}."
        )
    rate = jnp.asarray(learning_rate)
    return {name: rate / _squared_norm(leaf) for name, leaf in chosen.items()}


def _squared_norm(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x.astype(jnp.promote_types(x.dtype, jnp.float32))))
