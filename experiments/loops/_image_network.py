"""The network of an image run: precision, memory, and whose batch statistics."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.configs.settings import TaskConfig
from experiments.errors import ExperimentError
from experiments.parallel import Placement, apply_in_place, per_replica
from optax_ia import models

_COSTLY = ("conv_general_dilated", "dot_general")


def network(
    config: TaskConfig, num_classes: int, placement: Placement | None = None
) -> tuple[nn.Module, Callable[..., Any]]:
    """The network of a task, and the ``apply`` that it is trained with.

    One object each for all tasks that agree in what they depend on: compiled programs
    are found again by the identity of what they were made from.

    Args:
      config: the task.
      num_classes: number of labels.
      placement: the devices; None for one.

    Returns:
      The module and a function of its variables.

    Raises:
      ExperimentError: if the network has no width to choose.
    """
    model, apply_fn = _model(config.model, num_classes, config.width, config.precision)
    if config.remat:
        apply_fn = _recomputing(apply_fn)
    if config.batch_stats == "replica":
        devices = 1 if placement is None else placement.devices
        apply_fn = per_replica(apply_fn, config.replicas or devices, placement)
    if placement is not None:
        apply_fn = apply_in_place(apply_fn, placement)
    return model, apply_fn


@functools.cache
def _model(
    name: str, num_classes: int, width: int | None, precision: str
) -> tuple[nn.Module, Callable[..., Any]]:
    options: dict[str, Any] = {} if width is None else {"width": width}
    if precision == "bf16":  # of the computation; parameters stay float32
        options["dtype"] = jnp.bfloat16
    try:
        model = models.create_model(name, num_classes=num_classes, **options)
    except TypeError as error:
        raise ExperimentError(f"{name} takes no --width: {error}") from error
    return model, model.apply


@functools.cache
def _recomputing(apply_fn: Callable[..., Any]) -> Callable[..., Any]:
    """An ``apply`` of which the backward pass keeps only what is costly to have.

    Those are the outputs of convolutions and matrix products. What lies between them,
    normalised, activated, pooled and padded, is computed again. (On CPU the compiler
    decides by itself what it computes twice, and the whole step takes as much memory
    as before.)
    """

    def keep(primitive: Any, *_: Any, **__: Any) -> bool:
        return primitive.name in _COSTLY

    def apply(
        variables: Any,
        x: jax.Array,
        *,
        train: bool = True,
        rngs: dict[str, jax.Array] | None = None,
        mutable: Any = False,
    ) -> Any:
        @functools.partial(jax.checkpoint, policy=keep)
        def run(variables: Any, x: jax.Array, rngs: Any) -> Any:
            return apply_fn(variables, x, train=train, rngs=rngs, mutable=mutable)

        return run(variables, x, rngs)

    return apply
