"""The plane in which a sequence of weights moves most."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia._src import checks
from optax_ia.landscape._directions import check_alike, wide


class Trajectory(NamedTuple):
    """The plane in which a trajectory moves most.

    Attributes:
      directions: unit vectors, a list of trees, of the largest variance first.
      coordinates: of every iterate along them, shape (iterates, num); the last iterate
        is at the origin.
      explained_variance: share of the iterates' variance along each, shape (num,).
    """

    directions: list[Any]
    coordinates: jax.Array
    explained_variance: jax.Array


def from_trajectory(iterates: Sequence[Any], num: int = 2) -> Trajectory:
    r"""The principal directions of a sequence of weights.

    Directions are the eigenvectors of :math:`\sum_i (w_i - \bar w)(w_i - \bar w)^T` of
    largest eigenvalues, found from the iterates' inner products. The signs are such
    that the first iterate's coordinates are not negative. A surface over them belongs
    around the last iterate.

    Args:
      iterates: the weights along the way, a list of trees, of more than ``num``.
      num: how many directions, >= 1.

    Returns:
      A :class:`Trajectory`.

    Raises:
      ValueError: if there are too few iterates, they differ in structure or shapes, one
        is not finite, or they span fewer than ``num`` dimensions.
      TypeError: if a leaf is complex or of integers.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import landscape
      >>> path = [jnp.array([4.0, 1.0, 5.0]), jnp.array([2.0, -1.0, 5.0]),
      ...         jnp.array([0.0, 0.0, 5.0])]
      >>> found = landscape.from_trajectory(path)
      >>> print([f"{share:.2f}" for share in found.explained_variance])
      ['0.86', '0.14']
      >>> print(found.coordinates[-1], found.directions[0][2])
      [0. 0.] 0.0

    .. note::
      Li et al. take the components of the differences from the last iterate, without
      their mean; here the mean is taken out, as principal components have it.

    References:
      Li, Xu, Taylor, Studer, Goldstein, `Visualizing the Loss Landscape of Neural Nets
      <https://arxiv.org/abs/1712.09913>`_, 2018, section 7.2.
    """
    checks.check_integer("num", num, minimum=1)
    iterates = list(iterates)
    count = len(iterates)
    if count <= num:
        raise ValueError(
            f"{num} directions need at least {num + 1} iterates, got {count}."
        )
    check_alike(iterates, [f"iterate {index}" for index in range(count)])
    leaves = [jax.tree.leaves(tree) for tree in iterates]
    rows = [
        np.stack([np.asarray(leaf, float).ravel() for leaf in same])
        for same in zip(*leaves, strict=True)
    ]
    for index in range(count):
        if not all(np.isfinite(row[index]).all() for row in rows):
            raise ValueError(f"iterate {index} must be finite, got NaN or infinity.")
    rows = [row - row.mean(axis=0) for row in rows]
    values, vectors = np.linalg.eigh(sum(row @ row.T for row in rows))
    values, vectors = values[::-1], vectors[:, ::-1]
    rank = int((values > count * np.finfo(float).eps * values[0]).sum())
    if rank < num:
        raise ValueError(
            f"the iterates span {rank} dimensions, fewer than num={num} directions."
        )
    lengths = np.sqrt(values[:num])
    coordinates = vectors[:, :num] * lengths
    coordinates = coordinates - coordinates[-1]
    sign = np.where(coordinates[0] < 0, -1, 1)
    units = vectors[:, :num] * sign / lengths
    treedef = jax.tree.structure(iterates[0])
    dtypes = [wide(leaf).dtype for leaf in leaves[0]]
    found = [
        treedef.unflatten(
            jnp.asarray((unit @ row).reshape(jnp.shape(leaf)), dtype)
            for row, leaf, dtype in zip(rows, leaves[0], dtypes, strict=True)
        )
        for unit in units.T
    ]
    dtype = jnp.result_type(*dtypes)
    return Trajectory(
        directions=found,
        coordinates=jnp.asarray(coordinates * sign + 0.0, dtype),  # no -0
        explained_variance=jnp.asarray(values[:num] / values.sum(), dtype),
    )
