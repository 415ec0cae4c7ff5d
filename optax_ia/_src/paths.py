"""Parameter paths as strings, the same for Linen dictionaries and NNX states."""

from typing import Any

import jax


def path_string(path: tuple[Any, ...]) -> str:
    """The path of a leaf as ``"block/dense/kernel"``.

    ``tx.init`` under ``nnx.Optimizer`` sees variables, whose paths end in an attribute
    ``value``, and ``tx.update`` sees bare arrays: the attribute is dropped, so that
    both give the same string.
    """
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")
