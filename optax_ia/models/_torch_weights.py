"""PyTorch's weights as parameter trees, for models of tokens."""

import math
from collections.abc import Callable, Iterable, Mapping
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


def as_array(value: Any) -> np.ndarray:
    """An array on the host; of a PyTorch parameter, without its graph."""
    detach: Callable[[], Any] | None = getattr(value, "detach", None)
    if detach is not None:
        value = detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # which NumPy does not know
            value = value.float()
    return np.asarray(value)


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
      ValueError: if names are missing or unexpected, or shapes differ, of which it
        lists all, or if a second name holds something else.
    """
    weights = list(weights)
    given, wanted = set(state_dict), {weight.name for weight in weights}
    problems = []
    for what, names in (
        ("missing from", wanted - given),
        ("unexpected in", given - wanted - set(tied)),
    ):
        if names:
            problems.append(f"{what} the state_dict: {', '.join(sorted(names))}")
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
        params[weight.path] = jnp.asarray(value.reshape(shape), jnp.float32)
    if wrong:
        raise ValueError(f"shapes differ from the model's: {'; '.join(wrong)}.")
    return traverse_util.unflatten_dict(params)
