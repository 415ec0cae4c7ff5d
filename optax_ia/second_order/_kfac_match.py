"""Whether layers and statistics fit the parameters, and which are masked out."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from optax_ia.second_order._kfac_layers import KfacFactors, KfacLayer


def present_layers(
    layers: Iterable[KfacLayer], arrays: Mapping[str, Any], hidden: frozenset[str]
) -> dict[str, KfacLayer]:
    """The layers by path, without what is masked out.

    Args:
      layers: those of the whole network.
      arrays: the leaves of the tree by path.
      hidden: the paths of what is masked out of it.

    Raises:
      ValueError: if a layer names a parameter that is not there.
    """
    layers = tuple(layers)
    names = {name for layer in layers for name in layer.leaves}
    absent = sorted(names - set(arrays) - hidden)
    if absent:
        raise ValueError(
            f"layers name parameters that are not there: {', '.join(absent)}; the "
            f"parameters are {', '.join(arrays)}."
        )
    found = {}
    for layer in layers:
        if layer.bias is not None and layer.leaf(layer.bias) in hidden:
            layer = dataclasses.replace(layer, bias=None)
        if layer.leaf(layer.kernel) in arrays:
            found[layer.path] = layer
    return found


def _without_bias(
    layer: KfacLayer, inputs: jax.Array, wanted: tuple[int, ...]
) -> jax.Array:
    """A factor of the inputs without the row of a bias that is masked out."""
    if inputs.shape[-1] != wanted[-1] + 1:
        return inputs
    return inputs[..., :-1] if layer.diagonal_inputs else inputs[..., :-1, :-1]


def matched_factors(
    given: Mapping[str, KfacFactors | None],
    layers: Mapping[str, KfacLayer],
    arrays: Mapping[str, Any],
    hidden: frozenset[str],
) -> dict[str, KfacFactors]:
    """The statistics of the layers that have some, checked against the parameters.

    Args:
      given: layer path to statistics, None for a layer that has none.
      layers: the layers of the parameters.
      arrays: the parameters, or their gradients, by path.
      hidden: the paths of the parameters that are masked out.

    Returns:
      Layer path to statistics.

    Raises:
      ValueError: if a layer has no entry, an entry no layer, or a factor another shape,
        listing the paths.
    """
    if not isinstance(given, Mapping):
        raise ValueError(
            "kfac_factors must be a dict of layer path to KfacFactors, got "
            f"{type(given).__name__}."
        )

    def masked(path):
        return any(name.rpartition("/")[0] == path for name in hidden)

    missing = [path for path in layers if path not in given]
    unknown = [
        path
        for path, factors in given.items()
        if factors is not None and path not in layers and not masked(path)
    ]
    if missing or unknown:
        raise ValueError(
            "kfac_factors must have an entry for every layer of the parameters, None "
            f"for one without statistics; missing: {missing}, not among the "
            f"parameters: {unknown}."
        )
    matched, wrong = {}, []
    for path, layer in layers.items():
        factors = given[path]
        if factors is None:
            continue
        if not isinstance(factors, KfacFactors):
            raise ValueError(
                f"kfac_factors must hold KfacFactors, {path or 'the root'} has "
                f"{type(factors).__name__}."
            )
        wanted = layer.factor_shapes(jnp.shape(arrays[layer.leaf(layer.kernel)]))
        inputs, outputs = factors
        if masked(path):
            inputs = _without_bias(layer, inputs, wanted[0])
        if (inputs.shape, outputs.shape) != wanted:
            wrong.append(
                f"{path or 'the root'} has {inputs.shape} and {outputs.shape}, not "
                f"{wanted[0]} and {wanted[1]}"
            )
        matched[path] = KfacFactors(inputs, outputs)
    if wrong:
        raise ValueError(
            "kfac_factors do not have the shapes that the parameters tell: "
            f"{'; '.join(wrong)}. If these are the network's, pass "
            "layers=optax_ia.flax.kfac_layers(model, ...) to the optimiser."
        )
    return matched
