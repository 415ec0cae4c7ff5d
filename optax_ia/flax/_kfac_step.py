"""The pass of a training step that captures Kronecker factors."""

from collections.abc import Callable, Mapping
from typing import Any

from optax_ia.flax._kfac_capture import kfac_value_and_grad
from optax_ia.flax._step_extras import Settings

OPTIONS = ("likelihood", "weights", "empirical", "layers", "max_dim")


def check_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments of ``kfac_value_and_grad`` that a training step takes.

    Raises:
      ValueError: if one is none of them, or the step itself decides it.
    """
    options = dict(options or {})
    for name in options:
        if name not in OPTIONS:
            raise ValueError(f"kfac may hold {', '.join(OPTIONS)}, got {name!r}.")
    return options


def capturing_pass(settings: Settings, model: Any) -> Callable[..., Any]:
    """``kfac_value_and_grad`` with the loss and the inputs of a training step.

    Args:
      settings: those of the step.
      model: ``apply`` of a Linen module, or an NNX model.
    """
    return kfac_value_and_grad(
        model,
        loss_fn=settings.loss_fn,
        inputs=settings.inputs,
        apply_kwargs=settings.apply_kwargs,
        rngs=settings.rngs,
        **settings.kfac,
    )
