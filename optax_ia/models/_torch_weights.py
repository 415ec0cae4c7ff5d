"""Read PyTorch weights, and convert those of language models to parameters."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util


class Weight(NamedTuple):
    """One weight there and here.

    Attributes:
      name: theirs.
      path: ours.
      inputs: number of axes of our kernel that are inputs, the others being outputs,
        which theirs has as (outputs, inputs); None for a table or a vector, which are
        the same but for axes that stand apart here.
    """

    name: str
    path: tuple[str, ...]
    inputs: int | None = None

    def their_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape there, from the one here."""
        if self.path[-1] == "embedding":
            return shape
        if self.inputs is None:
            return (math.prod(shape),)
        return math.prod(shape[self.inputs :]), math.prod(shape[: self.inputs])


_CONTAINERS = ("state_dict", "model_state_dict", "model")
"""Keys under which checkpoints keep the state dict, beside epoch and optimizer."""

_NOT_WEIGHTS = ("n_averaged",)
"""Buffers of wrappers, such as the counter of PyTorch's ``AveragedModel``."""


def _state_dict(source: Any) -> dict[str, Any]:
    """The names and arrays of a module, a state dict or a checkpoint around one."""
    if not isinstance(source, Mapping):
        state_dict = getattr(source, "state_dict", None)
        if not callable(state_dict):
            raise TypeError(
                "state_dict must be a mapping from names to arrays or an object with "
                f"a state_dict() method, got {type(source).__name__}; for a file, "
                "pass the result of torch.load(path)."
            )
        return _state_dict(state_dict())
    for key in _CONTAINERS:
        inner = source.get(key)
        if isinstance(inner, Mapping) or callable(getattr(inner, "state_dict", None)):
            return _state_dict(inner)
    return {str(name): value for name, value in source.items()}


def named_arrays(source: Any, wanted: Collection[str]) -> dict[str, Any]:
    """The state dict in ``source``, without a prefix that all its names share.

    Data parallelism, ``torch.compile`` and Lightning put ``module.``, ``_orig_mod.``
    and ``model.`` before every name, also one after the other.

    Args:
      source: a state dict, a checkpoint that contains one, or a module.
      wanted: names that the model has. A prefix is removed only if a wanted name is
        left, so that error messages show the names as they are in the file.
    """
    given = _state_dict(source)
    for name in _NOT_WEIGHTS:
        given.pop(name, None)
    stripped = given
    while stripped and not any(name in wanted for name in stripped):
        prefixes = {name.partition(".")[0] for name in stripped}
        if len(prefixes) > 1 or not all("." in name for name in stripped):
            return given
        stripped = {name.partition(".")[2]: x for name, x in stripped.items()}
    return stripped


def as_array(value: Any) -> np.ndarray:
    """An array on the host; of a PyTorch parameter, without its graph."""
    detach: Callable[[], Any] | None = getattr(value, "detach", None)
    if detach is not None:
        value = detach().cpu()
        # NumPy has neither bfloat16 nor the 8-bit floats.
        if str(value.dtype).startswith(("torch.bfloat16", "torch.float8")):
            value = value.float()
    return np.asarray(value)


def as_float32(value: np.ndarray) -> jax.Array:
    """A copy in float32: JAX may share the memory of a NumPy array on the CPU."""
    return jnp.asarray(np.array(value, np.float32, order="C"))


def first_five(items: Iterable[str]) -> str:
    """The first five items in order, and how many more there are."""
    items = sorted(items)
    more = f" and {len(items) - 5:,} more" if len(items) > 5 else ""
    return ", ".join(items[:5]) + more


def params_shapes(model: nn.Module) -> dict[tuple[str, ...], Any]:
    """Path to shape and dtype of the parameters of a model of tokens."""
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    variables = jax.eval_shape(
        lambda key, tokens: nn.unbox(model.init(key, tokens, train=False)),
        jax.random.key(0),
        tokens,
    )
    return dict(traverse_util.flatten_dict(variables["params"]))


def converted(
    model: nn.Module,
    weights: Iterable[Weight],
    state_dict: Mapping[str, Any],
    tied: Mapping[str, str],
) -> dict[str, Any]:
    """The parameters of a model of tokens.

    Args:
      model: the network that they are for.
      weights: all of them.
      state_dict: name to what NumPy reads.
      tied: second names of shared weights to the first ones: they may be there or not.

    Returns:
      The tree, in float32.

    Raises:
      ValueError: if names are missing or unexpected, or shapes differ, with the first
        five and their number, or if a second name holds something else.
    """
    weights = list(weights)
    given, wanted = set(state_dict), {weight.name for weight in weights}
    problems = []
    for what, names in (
        ("missing from", wanted - given),
        ("unexpected in", given - wanted - set(tied)),
    ):
        if names:
            problems.append(f"{what} the state_dict: {first_five(names)}")
    if problems:
        raise ValueError(f"{'; '.join(problems)}.")
    for second, first in tied.items():
        if second in given and not np.array_equal(
            as_array(state_dict[second]), as_array(state_dict[first])
        ):
            raise ValueError(
                f"{second} must equal {first}: the model shares them, but they differ."
            )
    shapes, params, wrong = params_shapes(model), {}, []
    for weight in weights:
        value, shape = as_array(state_dict[weight.name]), shapes[weight.path].shape
        expected = weight.their_shape(shape)
        if value.shape != expected:
            wrong.append(f"{weight.name} is {value.shape} and should be {expected}")
            continue
        value = value if weight.inputs is None else value.T
        params[weight.path] = as_float32(value.reshape(shape))
    if wrong:
        raise ValueError(f"shapes differ from the model's: {first_five(wrong)}.")
    return traverse_util.unflatten_dict(params)
