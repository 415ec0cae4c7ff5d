"""Averaged evaluation for models trained with ``nnx.Optimizer``."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from flax import nnx

from optax_ia._src.wrapping import copied
from optax_ia.averaging import averaged_params
from optax_ia.flax._recalibrate import recalibrate_batch_stats

Model = TypeVar("Model", bound=nnx.Module)


def averaged_model(
    model: Model,
    optimizer: nnx.Optimizer,
    batches: Iterable[Any] | None = None,
    *,
    apply_kwargs: Mapping[str, Any] | None = None,
    inputs: Callable[[Any], Any] | None = None,
) -> Model:
    """A copy of a model with the averaged parameters, ready to evaluate.

    Args:
      model: the model being trained; it is not changed.
      optimizer: its ``nnx.Optimizer``, whose transformation averages.
      batches: training batches for :func:`recalibrate_batch_stats`; None keeps the
        batch statistics, which is right only for networks without BatchNorm.
      apply_kwargs: see :func:`recalibrate_batch_stats`.
      inputs: see :func:`recalibrate_batch_stats`.

    Returns:
      A new model in evaluation mode (``eval()``).

    Raises:
      ValueError: if the optimiser's state holds no average or several.

    Example:
      >>> import jax.numpy as jnp, optax_ia, optax_ia.flax
      >>> from flax import nnx
      >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
      >>> tx = optax_ia.swa(0.1, start=1)
      >>> optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
      >>> for _ in range(3):
      ...     grads = nnx.grad(lambda m: jnp.sum(m(jnp.ones((1, 2))) ** 2))(model)
      ...     _ = optimizer.update(model, grads)
      >>> averaged = optax_ia.flax.averaged_model(model, optimizer)
      >>> bool(jnp.allclose(averaged.bias[...], model.bias[...]))
      False
    """
    params = averaged_params(optimizer.opt_state, nnx.state(model, optimizer.wrt))
    copy = nnx.merge(*nnx.split(model), copy=True)
    nnx.update(copy, params)
    # nnx.merge copies variables, not buffers: the next step may donate the model's
    nnx.update(copy, copied(nnx.state(copy)))
    if batches is not None:
        recalibrate_batch_stats(copy, batches, apply_kwargs=apply_kwargs, inputs=inputs)
    copy.eval()
    return copy
