"""Hugging Face's RoBERTa weights as parameters of ours."""

import re
from collections.abc import Iterator
from typing import Any

from optax_ia.models._roberta import RobertaForMaskedLM
from optax_ia.models._torch_weights import Weight, converted, named_arrays

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


def _weights(layers: int) -> Iterator[Weight]:
    """All weights of a network with so many layers."""
    dense = {"lm_head.dense": ("head_dense",)}
    norms = dict(_NORMS)
    for index in range(layers):
        theirs, ours = f"roberta.encoder.layer.{index}", f"layer_{index}"
        dense |= {f"{theirs}.{k}": (ours, *v) for k, v in _LAYER_DENSE.items()}
        norms |= {f"{theirs}.{k}": (ours, v) for k, v in _LAYER_NORMS.items()}
    for theirs, ours in _EMBEDDINGS.items():
        yield Weight(f"{theirs}.weight", (*ours, "embedding"))
    for theirs, ours in norms.items():
        yield Weight(f"{theirs}.weight", (*ours, "scale"))
        yield Weight(f"{theirs}.bias", (*ours, "bias"))
    for theirs, ours in dense.items():
        heads_in = ours[-1] == "out"  # heads stand apart here, side by side there
        yield Weight(f"{theirs}.weight", (*ours, "kernel"), inputs=2 if heads_in else 1)
        yield Weight(f"{theirs}.bias", (*ours, "bias"))
    yield Weight("lm_head.bias", ("decoder_bias",))


def roberta_from_torch(model: RobertaForMaskedLM, state_dict: Any) -> dict[str, Any]:
    """The parameters of a RoBERTa from the weights of Hugging Face's.

    Args:
      model: the network that the parameters are for; its sizes must be theirs.
      state_dict: of a ``RobertaForMaskedLM``, as for :func:`from_torch`. The names of
        shared weights are optional.

    Returns:
      The tree for ``model.apply({"params": ...}, tokens)``, in float32.

    Raises:
      ValueError: if names are missing or unexpected, if shapes differ, or if the
        decoder's matrix differs from the embedding to which it is tied.
    """
    weights = list(_weights(model.num_layers))
    state_dict = {
        name: value
        for name, value in named_arrays(state_dict, [w.name for w in weights]).items()
        if not _BUFFERS.fullmatch(name)
    }
    return converted(model, weights, state_dict, _TIED)
