"""Generator and critic of a GAN, and the state that both are trained in."""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from experiments.parallel import Placement
from optax_ia import models
from optax_ia.flax import TrainState


@flax.struct.dataclass
class GanState:
    """Both networks with their optimisers.

    Attributes:
      generator: its step counts the rounds.
      critic: its step counts all updates.
    """

    generator: TrainState
    critic: TrainState


def variables_of(state: TrainState) -> dict[str, Any]:
    """Parameters and batch statistics, if there are any."""
    return {"params": state.params, "batch_stats": state.batch_stats}


@functools.cache
def networks(
    size: int,
    channels: int,
    features: int,
    extra_layers: int,
    constraint: str,
    precision: str = "float32",
) -> tuple[nn.Module, nn.Module]:
    """Generator and critic, one object each for the same arguments.

    With a gradient penalty the critic normalises over examples, not batches.
    """
    shared: dict[str, Any] = {
        "size": size,
        "features": features,
        "extra_layers": extra_layers,
    }
    if precision == "bf16":  # of the computation; parameters stay float32
        shared["dtype"] = jnp.bfloat16
    norm = "batch" if constraint == "clip" else "layer"
    return (
        models.create_model("wgan_generator", channels=channels, **shared),
        models.create_model("wgan_critic", norm=norm, **shared),
    )


@functools.partial(jax.jit, static_argnames="module")
def init_variables(module: nn.Module, key: jax.Array, inputs: jax.Array) -> Any:
    """Fresh variables."""
    return module.init(key, inputs, train=False)


def put_together(tree: Any, placement: Placement | None) -> Any:
    """What is cut over the devices, whole on each of them.

    So are variables to be used: else the compiler may cut a layer's inputs as the layer
    is cut, by pixels, and put the whole batch together on every device to do so.

    Args:
      tree: of arrays, such as the variables of a network.
      placement: the devices; None for one.

    Returns:
      The same values.
    """
    return tree if placement is None else _whole(tree, placement)


@functools.partial(jax.jit, static_argnames="placement")
def _whole(tree: Any, placement: Placement) -> Any:
    return jax.lax.with_sharding_constraint(tree, placement.replicated)


def apply_network(
    module: nn.Module,
    variables: Any,
    inputs: jax.typing.ArrayLike,
    placement: Placement | None = None,
) -> np.ndarray:
    """Outputs in evaluation mode, whole in the memory of every host.

    Args:
      module: generator or critic.
      variables: its parameters and batch statistics, whole on every device.
      inputs: rows, any number of them; the same on every host.
      placement: the devices, which take equal parts of the rows; None for one.

    Returns:
      A row for each.
    """
    if placement is None:
        return np.asarray(_apply(module, variables, inputs, None))
    rows = np.asarray(inputs)
    missing = -len(rows) % placement.devices
    padded = np.pad(rows, ((0, missing), *[(0, 0)] * (rows.ndim - 1)))
    outputs = _apply(module, variables, placement.whole(padded), placement)
    return np.asarray(outputs)[: len(rows)]


@functools.partial(jax.jit, static_argnames=("module", "placement"))
def _apply(
    module: nn.Module, variables: Any, inputs: Any, placement: Placement | None
) -> jax.Array:
    return put_together(module.apply(variables, inputs, train=False), placement)
