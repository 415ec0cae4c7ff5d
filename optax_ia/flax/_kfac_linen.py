"""Observing the layers of an unmodified Linen module."""

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from optax_ia.flax._batches import advice_on_train
from optax_ia.flax._kfac_observe import Observer
from optax_ia.flax._step_extras import Settings
from optax_ia.second_order._kfac_layers import KfacLayer


def _body(layer: type[nn.Module]) -> Any:
    """A layer's own ``__call__``, which subclasses may inherit or call."""
    return inspect.unwrap(layer.__call__)


_KINDS = {
    _body(nn.Dense): "dense",
    _body(nn.DenseGeneral): "general",
    _body(nn.Conv): "conv",
    _body(nn.Embed): "embed",
}


def _layer(module: nn.Module, path: str, kind: str) -> tuple[KfacLayer, Any]:
    """A layer's path and names, and the kernel that it sees."""
    params = nn.meta.unbox(module.variables["params"])
    if kind == "embed":
        layer = KfacLayer(path, num_input_axes=1, kernel="embedding")
    else:
        bias = "bias" if "bias" in params else None
        layer = KfacLayer(path, num_input_axes=1, bias=bias)
    return layer, params[layer.kernel]


def interceptor(observer: Observer) -> Callable[..., Any]:
    """For ``nn.intercept_methods``: shows every call of a layer to the observer."""

    def intercept(next_fun, args, kwargs, context):
        module, method = context.module, context.method_name
        path = "/".join(module.path)
        if method == "attend" and isinstance(module, nn.Embed):
            observer.refuse(path, "used as an output layer too (attend)")
        if method != "__call__":
            return next_fun(*args, **kwargs)
        observer.called(path, type(module).__name__)
        if isinstance(module, nn.WeightNorm | nn.SpectralNorm):
            with observer.changed_kernels(type(module).__name__):
                return next_fun(*args, **kwargs)
        kind = _KINDS.get(context.orig_method.func)
        outputs = next_fun(*args, **kwargs)
        if kind is None or isinstance(module, nn.ConvLocal):
            return outputs
        layer, kernel = _layer(module, path, kind)
        inputs = args[0] if args else kwargs["inputs"]
        return observer.layer(kind, layer, module, kernel, inputs, outputs)

    return intercept


def network_keys(
    key: jax.Array | None, names: tuple[str, ...]
) -> dict[str, jax.Array] | None:
    """A key for each random stream of a module, as the training step draws them."""
    if key is None or not names:
        return None
    return dict(zip(names, jax.random.split(key, len(names)), strict=True))


def linen_pass(
    settings: Settings,
    apply_fn: Callable[..., Any],
    params: Any,
    batch: Any,
    key: jax.Array | None,
    batch_stats: Any,
    observer: Observer,
) -> tuple[Any, Any]:
    """One observed pass in training mode.

    Args:
      settings: inputs, keyword arguments and random streams.
      apply_fn: ``module.apply``.
      params: the parameters.
      batch: what the inputs are taken from.
      key: of the random streams, or None.
      batch_stats: the "batch_stats" collection; None or empty if there is none.
      observer: sees the layers.

    Returns:
      The outputs, and the batch statistics after the pass.
    """
    variables = {"params": params}
    kwargs = {"train": True} if settings.apply_kwargs is None else settings.apply_kwargs
    inputs, rngs = settings.inputs(batch), network_keys(key, settings.rngs)
    advice = advice_on_train(settings.apply_kwargs)
    with advice, nn.intercept_methods(interceptor(observer)):
        if not jax.tree.leaves(batch_stats):
            outputs = apply_fn(variables, inputs, rngs=rngs, **kwargs)
            return outputs, batch_stats
        outputs, updated = apply_fn(
            variables | {"batch_stats": batch_stats},
            inputs,
            rngs=rngs,
            mutable=["batch_stats"],
            **kwargs,
        )
    return outputs, updated["batch_stats"]
