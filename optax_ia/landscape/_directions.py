"""Directions in which a loss is looked at."""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from optax_ia._src import checks
from optax_ia._src.paths import path_string
from optax_ia._src.types import Mask
from optax_ia.curvature._lanczos import random_like
from optax_ia.curvature._operator import check_real


def wide(x: Any) -> jax.Array:
    return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))


def check_alike(trees: Sequence[Any], names: Sequence[str]) -> None:
    """Raises ValueError if the trees are not of one structure and one set of shapes."""
    first = check_real(trees[0])
    for name, tree in zip(names[1:], trees[1:], strict=True):
        check_real(tree)
        if jax.tree.structure(tree) != jax.tree.structure(first):
            raise ValueError(
                f"{name} must be a tree like {names[0]}, "
                f"{jax.tree.structure(first)}, got {jax.tree.structure(tree)}."
            )
        for (path, leaf), like in zip(
            jax.tree_util.tree_leaves_with_path(tree),
            jax.tree.leaves(first),
            strict=True,
        ):
            if jnp.shape(leaf) != jnp.shape(like):
                raise ValueError(
                    f"{path_string(path) or name} must have shape {jnp.shape(like)} "
                    f"in {name} as in {names[0]}, got {jnp.shape(leaf)}."
                )


def _ignored(params: Any, ignore: Any) -> list[bool]:
    """Whether each leaf's direction is zero."""
    leaves, treedef = jax.tree.flatten(params)
    if ignore is None:
        return [False] * len(leaves)
    if isinstance(ignore, str):
        checks.check_choice("ignore", ignore, ("vectors",))
        return [jnp.ndim(leaf) < 2 for leaf in leaves]
    tree = ignore(params) if callable(ignore) else ignore
    if jax.tree.structure(tree) != treedef:
        raise ValueError(
            f"ignore must be a tree of bools like params, {treedef}, got "
            f"{jax.tree.structure(tree)}."
        )
    return [bool(leaf) for leaf in jax.tree.leaves(tree)]


def _norm(x: jax.Array, kind: str) -> jax.Array:
    """The norm of each output channel (the last axis), or of the whole."""
    axes = tuple(range(x.ndim - 1)) if kind == "filter" else None
    return jnp.sqrt(jnp.sum(x * x, axis=axes, keepdims=True))


def directions(
    params: Any,
    *,
    kind: Literal["random", "filter", "layer"] = "filter",
    key: jax.Array,
    num: int = 2,
    ignore: Mask | Literal["vectors"] = "vectors",
) -> list[Any]:
    r"""Random directions, with norms that make losses at different weights comparable.

    A Gaussian direction d takes the norms of the weights w,

    .. math::
      d_{l,j} \leftarrow \frac{d_{l,j}}{\|d_{l,j}\|}\, \|w_{l,j}\|

    for every output channel j of every array l ("filter"), for every array ("layer")
    or once for the whole tree ("random"). So a coordinate of 1 changes the weights by
    as much as they are. Networks with normalisation do not notice the scale of their
    kernels: without this, larger weights look flatter.

    Args:
      params: the weights, a tree of real floating-point arrays.
      kind: which parts take the norms of the weights. Channels are the last axis, as
        Flax has them; each entry of a bias is a channel of its own.
      key: draws the directions.
      num: how many, >= 1.
      ignore: where the direction is zero: "vectors" for all arrays of fewer than two
        axes (biases, scales of norms), None for nowhere, or a tree of bools or function
        of the parameters that gives one, as :func:`optax_ia.path_mask` does.

    Returns:
      A list of trees like ``params``, in their dtypes.

    Raises:
      ValueError: if ``num`` is below 1, ``kind`` is unknown or ``ignore`` does not fit.
      TypeError: if a leaf is complex or of integers.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import landscape
      >>> params = {"kernel": jnp.array([[3.0, 0.0], [4.0, 1.0]]), "bias": jnp.ones(2)}
      >>> d, _ = landscape.directions(params, key=jax.random.key(0))
      >>> print(jnp.linalg.norm(d["kernel"], axis=0).round(3), d["bias"])
      [5. 1.] [0. 0.]

    .. note::
      P2 takes plain Gaussian directions. "random" is one with a unit of its own: only
      the labels of the axis differ.

    References:
      Li, Xu, Taylor, Studer, Goldstein, `Visualizing the Loss Landscape of Neural Nets
      <https://arxiv.org/abs/1712.09913>`_, 2018, section 4; Syrek, The Optimisation of
      Gradient Descent, section 5.3.
    """
    check_real(params)
    checks.check_choice("kind", kind, ("random", "filter", "layer"))
    checks.check_integer("num", num, minimum=1)
    ignored = tuple(_ignored(params, ignore))
    return _drawn(key, params, kind=kind, num=num, ignored=ignored)


@functools.partial(jax.jit, static_argnames=("kind", "num", "ignored"))
def _drawn(key, params, *, kind, num, ignored):
    leaves, treedef = jax.tree.flatten(params)
    weights = [
        jnp.zeros_like(wide(leaf)) if skip else wide(leaf)
        for leaf, skip in zip(leaves, ignored, strict=True)
    ]
    found = []
    for direction_key in jax.random.split(key, num):
        drawn = [
            jnp.zeros_like(w) if skip else d
            for d, w, skip in zip(
                random_like(direction_key, weights), weights, ignored, strict=True
            )
        ]
        if kind == "random":
            scaled = _scaled_whole(drawn, weights)
        else:
            scaled = [_scaled(d, w, kind) for d, w in zip(drawn, weights, strict=True)]
        found.append(
            treedef.unflatten(
                d.astype(jnp.result_type(leaf))
                for d, leaf in zip(scaled, leaves, strict=True)
            )
        )
    return found


def _scaled(d: jax.Array, w: jax.Array, kind: str) -> jax.Array:
    norm = _norm(d, kind)
    return d * (_norm(w, kind) / jnp.where(norm > 0, norm, 1))


def _scaled_whole(drawn: list[jax.Array], weights: list[jax.Array]) -> list[jax.Array]:
    def norm(parts):
        return sum(jnp.sum(x * x) for x in parts) ** 0.5

    length = norm(drawn)
    scale = norm(weights) / jnp.where(length > 0, length, 1)
    return [d * scale.astype(d.dtype) for d in drawn]


def between(start: Any, *ends: Any) -> list[Any]:
    """The directions from one solution to others.

    With the first as ``params``, a line's coordinates 0 and 1 are the two solutions; of
    a surface through three, (0, 0), (1, 0) and (0, 1).

    Args:
      start: the weights at the origin.
      *ends: one or more others, trees like it.

    Returns:
      A list of the differences ``end - start``, in float32 or wider.

    Raises:
      ValueError: if there is no end, or structures or shapes differ.
      TypeError: if a leaf is complex or of integers.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import landscape
      >>> print(landscape.between(jnp.array([1.0, 2.0]), jnp.array([4.0, 2.0]))[0])
      [3. 0.]

    References:
      Syrek, The Optimisation of Gradient Descent, equation 37; Garipov et al., `Loss
      Surfaces, Mode Connectivity, and Fast Ensembling of DNNs
      <https://arxiv.org/abs/1802.10026>`_, 2018.
    """
    if not ends:
        raise ValueError("between takes at least two solutions, got one.")
    names = ["start", *(f"end {index}" for index in range(1, len(ends) + 1))]
    check_alike([start, *ends], names)
    return [jax.tree.map(lambda a, b: wide(b) - wide(a), start, end) for end in ends]


def from_eigenvectors(eigenpairs: Any, num: int = 2) -> list[Any]:
    """The first eigenvectors as directions: those of the sharpest curvature.

    Args:
      eigenpairs: what :func:`optax_ia.curvature.top_eigenpairs` found.
      num: how many, from 1 to those there are.

    Returns:
      A list of trees, unit vectors.

    Raises:
      ValueError: if ``num`` is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import curvature, landscape
      >>> stretch = jnp.array([1.0, 9.0, 4.0])
      >>> top = curvature.top_eigenpairs(
      ...     lambda v: stretch * v, stretch, 2, key=jax.random.key(0)
      ... )
      >>> print([abs(d).round(2) + 0 for d in landscape.from_eigenvectors(top)])
      [Array([0., 1., 0.], dtype=float32), Array([0., 0., 1.], dtype=float32)]
    """
    checks.check_integer("num", num, minimum=1)
    checks.check_number("num", num, maximum=len(eigenpairs.eigenvalues))
    return [
        jax.tree.map(lambda leaf, row=row: leaf[row], eigenpairs.eigenvectors)
        for row in range(num)
    ]
