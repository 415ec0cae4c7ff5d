"""AWD-LSTM and AWD-QRNN weights of the authors' PyTorch code as parameters of ours."""

from collections.abc import Iterator, Mapping
from typing import Any

from optax_ia.models._awd_qrnn import AWDQRNN
from optax_ia.models._regularised import RegularisedLanguageModel
from optax_ia.models._torch_weights import Weight, converted, named_arrays


def _plain_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Without what dropping weights did to the names.

    The wrapper puts ``module.`` into them and ``_raw`` behind that of the matrix, whose
    own name then holds the last one that was dropped.
    """
    plain = {}
    for name in sorted(state_dict, key=lambda name: name.endswith("_raw")):
        plain[name.replace("module.", "").removesuffix("_raw")] = state_dict[name]
    return plain


def _weights(model: RegularisedLanguageModel) -> Iterator[Weight]:
    """All weights of a network."""
    yield Weight("encoder.weight", ("embedding", "embedding"))
    for index in range(model.num_layers):
        theirs, ours = f"rnns.{index}", f"layer_{index}"
        if isinstance(model, AWDQRNN):
            yield Weight(f"{theirs}.linear.weight", (ours, "gates", "kernel"), inputs=1)
            yield Weight(f"{theirs}.linear.bias", (ours, "gates", "bias"))
            continue
        yield Weight(f"{theirs}.weight_ih_l0", (ours, "input", "kernel"), inputs=1)
        yield Weight(f"{theirs}.bias_ih_l0", (ours, "input", "bias"))
        yield Weight(f"{theirs}.weight_hh_l0", (ours, "recurrent_kernel"), inputs=1)
        yield Weight(f"{theirs}.bias_hh_l0", (ours, "recurrent_bias"))
    if model.tied:
        yield Weight("decoder.bias", ("decoder_bias",))
    else:
        yield Weight("decoder.weight", ("decoder", "kernel"), inputs=1)
        yield Weight("decoder.bias", ("decoder", "bias"))


def awd_from_torch(model: RegularisedLanguageModel, state_dict: Any) -> dict[str, Any]:
    """The parameters of an AWD-LSTM or AWD-QRNN from its authors' code.

    That is ``salesforce/awd-lstm-lm``, where each layer (``rnns.0``, ``rnns.1`` and so
    on) is a ``torch.nn.LSTM`` or a ``QRNNLayer``, with weights dropped or not.

    Args:
      model: the network that the parameters are for; its sizes must be theirs.
      state_dict: of the authors' model, as for :func:`from_torch`.

    Returns:
      The tree for ``model.apply({"params": ...}, tokens)``, in float32.

    Raises:
      ValueError: if names are missing or unexpected, if shapes differ, or if the
        decoder's matrix differs from the embedding to which it is tied.
    """
    tied = {"decoder.weight": "encoder.weight"} if model.tied else {}
    weights = list(_weights(model))
    given = named_arrays(state_dict, [weight.name for weight in weights])
    return converted(model, weights, _plain_names(given), tied)
