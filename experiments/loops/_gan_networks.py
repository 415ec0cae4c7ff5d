"""Generator and critic of a GAN, and the state that both are trained in."""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax

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
    size: int, channels: int, features: int, extra_layers: int, constraint: str
) -> tuple[nn.Module, nn.Module]:
    """Generator and critic, one object each for the same arguments.

    With a gradient penalty the critic normalises over examples, not batches.
    """
    shared = {"size": size, "features": features, "extra_layers": extra_layers}
    norm = "batch" if constraint == "clip" else "layer"
    return (
        models.create_model("wgan_generator", channels=channels, **shared),
        models.create_model("wgan_critic", norm=norm, **shared),
    )


@functools.partial(jax.jit, static_argnames="module")
def init_variables(module: nn.Module, key: jax.Array, inputs: jax.Array) -> Any:
    """Fresh variables."""
    return module.init(key, inputs, train=False)


@functools.partial(jax.jit, static_argnames="module")
def apply_network(module: nn.Module, variables: Any, inputs: jax.Array) -> jax.Array:
    """In evaluation mode."""
    return module.apply(variables, inputs, train=False)  # pyright: ignore[reportReturnType]
