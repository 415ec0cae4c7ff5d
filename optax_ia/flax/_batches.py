"""What a pass over data takes from each batch."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_INPUT_KEYS = ("image", "inputs", "x")


def default_inputs(batch: Any) -> Any:
    """A tuple's first element, a mapping's "image", "inputs" or "x", or an array."""
    if isinstance(batch, Mapping):
        for key in _INPUT_KEYS:
            if key in batch:
                return batch[key]
        raise ValueError(
            f"a batch with the keys {', '.join(map(repr, batch))} has none of "
            f"{', '.join(map(repr, _INPUT_KEYS))}: pass inputs=, a function of a batch."
        )
    if isinstance(batch, tuple | list):
        return batch[0]
    return batch


@contextlib.contextmanager
def advice_on_train(apply_kwargs: Any) -> Iterator[None]:
    """Says what to do where a module does not take the ``train`` that is the default.

    Args:
      apply_kwargs: the user's; None for the default.
    """
    try:
        yield
    except TypeError as error:
        if apply_kwargs is None and "unexpected keyword argument 'train'" in str(error):
            raise TypeError(
                f"{error}: pass apply_kwargs={{}} for a module without that argument."
            ) from error
        raise


def iterate_inputs(
    batches: Iterable[Any], inputs: Callable[[Any], Any] | None
) -> Iterator[tuple[Any, int]]:
    """Yields each batch's model inputs and its number of examples.

    Args:
      batches: arrays, (inputs, ...) tuples or mappings; at least one.
      inputs: takes the model's inputs from a batch; None takes a tuple's first element,
        a mapping's "image", "inputs" or "x", and an array itself.

    Raises:
      ValueError: if there is no batch, or its inputs cannot be told.
      TypeError: if ``batches`` is an array, which would be read example by example.
    """
    if isinstance(batches, jax.Array | np.ndarray):
        raise TypeError(
            "batches must be an iterable of batches, got one array: pass [array]."
        )
    take = inputs or default_inputs
    empty = True
    for batch in batches:
        empty = False
        x = take(batch)
        yield x, jnp.shape(jax.tree.leaves(x)[0])[0]
    if empty:
        raise ValueError("batches must hold at least one batch, got none.")
