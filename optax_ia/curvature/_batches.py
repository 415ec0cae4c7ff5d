"""One batch, or many, each with its weight in a mean over the data set."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Batches = Any
"""One batch, a list of batches, an iterable of them, or a function that gives one."""


def _is_array(node: Any) -> bool:
    return isinstance(node, jax.Array | np.ndarray | np.generic)


def _is_one_batch(batches: Any) -> bool:
    """An array, a mapping, or a tuple that holds an array; all else is a sequence.

    Batches of a sequence are alike, so ``(images, {"label": labels})`` is no two.
    """
    if _is_array(batches) or isinstance(batches, Mapping):
        return True
    return isinstance(batches, tuple) and any(map(_is_array, batches))


def num_examples(batch: Any) -> int:
    """The size of the leading axis of a batch's first array.

    Raises:
      ValueError: if the batch holds no array with an axis.
    """
    leaves = [leaf for leaf in jax.tree.leaves(batch) if jnp.ndim(leaf)]
    if not leaves:
        raise ValueError("a batch must hold arrays with a leading axis of examples.")
    size = jnp.shape(leaves[0])[0]
    if size == 0:
        raise ValueError("a batch must hold at least one example, got none.")
    return size


def as_batches(batches: Batches) -> Callable[[], Iterator[tuple[Any, float]]]:
    """What gives all batches with their weights, as often as it is called.

    Args:
      batches: one batch (an array, a dict or a tuple that holds an array; any other in
        a list), a sequence or iterator of batches, which is read once and kept, or a
        function that returns an iterable, which is called for each pass and keeps
        nothing. A list of bare arrays is refused.

    Returns:
      A function that yields each batch with its share of all examples.

    Raises:
      ValueError: if there is no batch, or a list of bare arrays, which may be one batch
        or several.
    """
    kept: Any = batches
    if isinstance(batches, list) and any(map(_is_array, batches)):
        shapes = [np.shape(x) for x in batches if _is_array(x)][:5]
        raise ValueError(
            f"a list of arrays (of shapes {shapes}) may be one batch or several: pass "
            "a tuple (x, y) for one batch, a list of tuples [(x, y), ...] for several, "
            "or for several that are each one array [(x,), ...] or an iterator."
        )
    if not callable(batches):
        kept = [batches] if _is_one_batch(batches) else list(batches)

    def once() -> Any:
        return kept() if callable(kept) else kept

    total = _total(once())

    def iterate():
        for batch in once():
            yield batch, num_examples(batch) / total

    return iterate


def _total(batches: Iterable[Any]) -> int:
    total = sum(num_examples(batch) for batch in batches)
    if total == 0:
        raise ValueError("batches must hold at least one batch, got none.")
    return total
