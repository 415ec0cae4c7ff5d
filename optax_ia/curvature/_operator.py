"""A symmetric linear map on trees shaped like the parameters."""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia._src.paths import path_string


def check_real(params: Any) -> Any:
    """The parameters, if every leaf is a real floating-point array.

    Raises:
      ValueError: if there is none.
      TypeError: if a leaf is of another kind, naming its path and dtype.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ValueError("params must hold at least one array, got an empty tree.")
    for path, leaf in leaves:
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                "params must be real floating-point arrays, got "
                f"{path_string(path) or 'a bare array'} of {dtype}."
            )
    return params


def _check_like(vector: Any, params: Any) -> None:
    """Raises ValueError if a vector is not shaped like the parameters."""
    given, wanted = jax.tree.structure(vector), jax.tree.structure(params)
    if given != wanted:
        raise ValueError(
            f"a vector must be a tree like the parameters, {wanted}, got {given}."
        )
    for (path, leaf), like in zip(
        jax.tree_util.tree_leaves_with_path(vector),
        jax.tree.leaves(params),
        strict=True,
    ):
        if jnp.shape(leaf) != jnp.shape(like):
            raise ValueError(
                f"{path_string(path) or 'the vector'} must have shape "
                f"{jnp.shape(like)}, got {jnp.shape(leaf)}."
            )


def flattened(tree: Any, dtype: Any = float) -> np.ndarray:
    """All entries of a tree in one vector of NumPy's, leaf by leaf."""
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.asarray(leaf).astype(dtype).ravel() for leaf in leaves])


def unflattened(flat: Any, like: Any) -> Any:
    """The tree of a vector's entries, with the shapes and dtypes of another."""
    leaves, treedef = jax.tree.flatten(like)
    ends = np.cumsum([math.prod(jnp.shape(leaf)) for leaf in leaves])
    parts = np.split(np.asarray(flat).ravel(), ends[:-1])
    # shaped, cast and put by NumPy: else each shape is a program of its own
    return jax.device_put(
        treedef.unflatten(
            part.reshape(jnp.shape(leaf)).astype(jnp.result_type(leaf))
            for part, leaf in zip(parts, leaves, strict=True)
        )
    )


class Operator:
    """A symmetric linear map on trees like the parameters, given by its product.

    Call it with a vector, a tree like ``params``. Made by :func:`hessian_operator` and
    its siblings; made by hand from any such function.

    Attributes:
      params: the tree whose structure and shapes vectors have.
      dimension: number of parameters P.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import curvature
      >>> double = curvature.Operator(lambda v: 2 * v, jnp.zeros(3))
      >>> print(double(jnp.array([1.0, 2.0, 3.0])), double.dimension)
      [2. 4. 6.] 3
    """

    def __init__(self, product: Callable[[Any], Any], params: Any):
        """Wraps a product.

        Args:
          product: a vector to the map's value there.
          params: a tree of real floating-point arrays.

        Raises:
          ValueError: if ``params`` is empty.
          TypeError: if a leaf is complex or of integers, naming it.
        """
        self.params = check_real(params)
        self._product = product

    @property
    def dimension(self) -> int:
        """Number of parameters P."""
        return sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(self.params))

    def __call__(self, vector: Any) -> Any:
        """The product with a vector.

        Args:
          vector: a tree like ``params``.

        Returns:
          A tree like ``params``.

        Raises:
          ValueError: if the vector's structure or a shape is another.
        """
        _check_like(vector, self.params)
        return self._product(vector)

    def block(self, pattern: str) -> "Operator":
        r"""The diagonal block of the parameters whose paths match: one layer's part.

        Args:
          pattern: a regular expression, searched in paths such as
            ``"Dense_0/kernel"``.

        Returns:
          An operator on a dict of those parameters by path.

        Raises:
          ValueError: if no path matches, listing those there are.

        Example:
          >>> import jax.numpy as jnp
          >>> from optax_ia import curvature
          >>> params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
          >>> identity = curvature.Operator(lambda v: v, params)
          >>> list(identity.block("^a").params), identity.block("^a").dimension
          (['a'], 2)
        """
        leaves, treedef = jax.tree_util.tree_flatten_with_path(self.params)
        names = [path_string(path) for path, _ in leaves]
        chosen = [bool(re.search(pattern, name)) for name in names]
        if not any(chosen):
            raise ValueError(f"no path matches {pattern!r}; there are {names}.")

        def product(vector):
            full = [
                vector[name] if inside else jnp.zeros_like(leaf)
                for name, inside, (_, leaf) in zip(names, chosen, leaves, strict=True)
            ]
            value = jax.tree.leaves(self(treedef.unflatten(full)))
            return {
                name: leaf
                for name, inside, leaf in zip(names, chosen, value, strict=True)
                if inside
            }

        params = {
            name: leaf
            for name, inside, (_, leaf) in zip(names, chosen, leaves, strict=True)
            if inside
        }
        return Operator(product, params)

    def to_scipy(self) -> Any:
        """The operator for SciPy, on flat NumPy vectors.

        The entries are those of the leaves in order, each ravelled, as
        ``jax.flatten_util.ravel_pytree`` has them.

        Returns:
          A ``scipy.sparse.linalg.LinearOperator`` of shape (P, P).

        Raises:
          ModuleNotFoundError: if SciPy is not there.

        Example:
          >>> import jax.numpy as jnp, numpy as np
          >>> from scipy.sparse.linalg import eigsh
          >>> from optax_ia import curvature
          >>> stretch = jnp.arange(1.0, 9.0)
          >>> operator = curvature.Operator(lambda v: stretch * v, stretch)
          >>> print(np.round(eigsh(operator.to_scipy(), k=1)[0], 4))
          [8.]
        """
        from scipy.sparse.linalg import LinearOperator

        leaves = jax.tree.leaves(self.params)
        dtype = np.result_type(*(leaf.dtype for leaf in leaves), np.float32)

        def product(flat):
            return flattened(self(unflattened(flat, self.params)), dtype)

        shape = (self.dimension, self.dimension)
        # SciPy's annotations want the shape as a type parameter
        make: Any = LinearOperator
        return make(shape, matvec=product, rmatvec=product, dtype=dtype)
