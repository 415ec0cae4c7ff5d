"""Hugging Face's RoBERTa weights as parameters of ours."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from optax_ia.models._roberta import RobertaForMaskedLM

Path = tuple[str, ...]

_EMBEDDINGS = {
    "roberta.embeddings.word_embeddings": ("embeddings", "word"),
    "roberta.embeddings.position_embeddings": ("embeddings", "position"),
    "roberta.embeddings.token_type_embeddings": ("embeddings", "token_type"),
}
_NORMS = {
    "roberta.embeddings.LayerNorm": ("embeddings", "layer_norm"),
    "lm_head.layer_norm": ("head_norm",),
}
_LAYER_NORMS = {
    "attention.output.LayerNorm": "attention_norm",
    "output.LayerNorm": "output_norm",
}
_LAYER_DENSE = {
    "attention.self.query": ("attention", "query"),
    "attention.self.key": ("attention", "key"),
    "attention.self.value": ("attention", "value"),
    "attention.output.dense": ("attention", "out"),
    "intermediate.dense": ("intermediate",),
    "output.dense": ("output",),
}
_BUFFERS = re.compile(r"roberta\.embeddings\.(position_ids|token_type_ids)")
_TIED = {
    "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
}
"""Second names of shared weights: some files hold them, some do not."""


def _names(layers: int) -> Iterator[tuple[str, Path, bool]]:
    """Their name, our path, and whether the matrix is transposed."""
    dense = {"lm_head.dense": ("head_dense",)}
    norms = dict(_NORMS)
    for index in range(layers):
        theirs, ours = f"roberta.encoder.layer.{index}", f"layer_{index}"
        dense |= {f"{theirs}.{k}": (ours, *v) for k, v in _LAYER_DENSE.items()}
        norms |= {f"{theirs}.{k}": (ours, v) for k, v in _LAYER_NORMS.items()}
    for theirs, ours in _EMBEDDINGS.items():
        yield f"{theirs}.weight", (*ours, "embedding"), False
    for theirs, ours in norms.items():
        yield f"{theirs}.weight", (*ours, "scale"), False
        yield f"{theirs}.bias", (*ours, "bias"), False
    for theirs, ours in dense.items():
        yield f"{theirs}.weight", (*ours, "kernel"), True
        yield f"{theirs}.bias", (*ours, "bias"), False
    yield "lm_head.bias", ("decoder_bias",), False


def _array(value: Any) -> np.ndarray:
    """An array on the host; of a PyTorch parameter, without its graph."""
    detach: Callable[[], Any] | None = getattr(value, "detach", None)
    if detach is not None:
        value = detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # which NumPy does not know
            value = value.float()
    return np.asarray(value)


def _flat(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Our shape with the heads, an axis of their own, side by side as theirs."""
    if path[-1] == "embedding":
        return shape
    if path[-1] != "kernel":
        return (math.prod(shape),)
    inputs = len(shape) - 1 if path[-2] == "out" else 1
    return math.prod(shape[:inputs]), math.prod(shape[inputs:])


def roberta_from_torch(
    model: RobertaForMaskedLM, state_dict: Mapping[str, Any]
) -> dict[str, Any]:
    """The parameters of a RoBERTa from the weights of Hugging Face's.

    Args:
      model: the network that the parameters are for; its sizes must be theirs.
      state_dict: of a ``RobertaForMaskedLM``: name to PyTorch tensor, NumPy array or
        anything that NumPy reads. The names of shared weights may be there or not.

    Returns:
      The tree for ``model.apply({"params": ...}, tokens)``, in float32.

    Raises:
      ValueError: if names are missing or unexpected, which it lists, if shapes differ,
        or if the decoder's matrix is not that of the embedding.

    Example:
      >>> from optax_ia import models
      >>> model = models.create_model("roberta_tiny")
      >>> try:
      ...     models.roberta_from_torch(model, {"lm_head.bias": [0.0] * 50})
      ... except ValueError as error:
      ...     print(str(error)[:60])
      missing from the state_dict: lm_head.dense.bias, lm_head.den
    """
    names = list(_names(model.num_layers))
    given = {name for name in state_dict if not _BUFFERS.fullmatch(name)}
    wanted = {name for name, _, _ in names}
    problems = {
        "missing from the state_dict": wanted - given,
        "unexpected in the state_dict": given - wanted - set(_TIED),
    }
    lines = [
        f"{what}: {', '.join(sorted(who))}" for what, who in problems.items() if who
    ]
    if lines:
        raise ValueError("; ".join(lines) + ".")
    for second, first in _TIED.items():
        if second in given and not np.array_equal(
            _array(state_dict[second]), _array(state_dict[first])
        ):
            raise ValueError(
                f"{second} must equal {first}: the decoder is tied, but they differ."
            )
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    variables = jax.eval_shape(
        lambda key, tokens: nn.unbox(model.init(key, tokens, train=False)),
        jax.random.key(0),
        tokens,
    )
    shapes: dict[Path, Any] = dict(traverse_util.flatten_dict(variables["params"]))
    params, wrong = {}, []
    for name, path, transpose in names:
        value, shape = _array(state_dict[name]), shapes[path].shape
        expected = _flat(path, shape)
        expected = expected[::-1] if transpose else expected
        if value.shape != expected:
            wrong.append(f"{name} is {value.shape} and should be {expected}")
            continue
        value = value.T if transpose else value
        params[path] = jnp.asarray(value.reshape(shape), jnp.float32)
    if wrong:
        raise ValueError(f"shapes differ from the model's: {'; '.join(wrong)}.")
    return traverse_util.unflatten_dict(params)
