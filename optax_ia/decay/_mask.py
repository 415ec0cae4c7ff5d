"""Masks that pick parameters by the name of their path."""

import re
from collections.abc import Callable
from typing import Any

import optax

from optax_ia._src.masks import paths_matching


def path_mask(pattern: str | re.Pattern[str]) -> Callable[[optax.Params], Any]:
    """Makes a mask that is True where a parameter's path matches a pattern.

    Paths read ``"block_0/conv/kernel"``, for Linen and for NNX. The pattern is looked
    for anywhere in the path (``re.search``).

    Args:
      pattern: a regular expression, for example ``r"kernel$"`` (no biases, no norms)
        or ``r"^(?!head/)"`` (everything outside the head).

    Returns:
      A function of the parameters that gives the tree of bools, for ``mask=`` of any
      transformation here and in Optax.

    Raises:
      ValueError: if the pattern is no regular expression; when the mask is used, if it
        matches no parameter, with the paths there are.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> params = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
      >>> optax_ia.path_mask(r"kernel$")(params)
      {'dense': {'bias': False, 'kernel': True}}
    """
    return paths_matching(pattern)
