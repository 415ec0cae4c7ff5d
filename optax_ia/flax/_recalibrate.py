"""Re-estimation of BatchNorm statistics in one pass, for Linen and NNX."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from optax_ia._src.scalars import default_float
from optax_ia.flax._batches import iterate_inputs


def _fold(mean: jax.Array, new: jax.Array, count: jax.Array, size: int) -> jax.Array:
    """The running mean after ``size`` more examples with statistic ``new``."""
    wide = jnp.promote_types(mean.dtype, jnp.float32)
    mean, new = mean.astype(wide), new.astype(wide)
    weight = size / (count.astype(wide) + size)
    return jnp.where(count == 0, new, mean + weight * (new - mean))


def _finite(x: jax.Array) -> jax.Array:
    """Without NaN and infinity, which a momentum of 0 would carry on (0 * nan)."""
    return jnp.where(jnp.isfinite(x), x, 0)


@functools.partial(jax.jit, static_argnames=("apply_fn", "apply_kwargs", "size"))
def _linen_step(variables, means, count, x, rngs, *, apply_fn, apply_kwargs, size):
    """Folds one batch's statistics into ``means``, a tree like ``batch_stats``."""
    trained: set[tuple[str, ...]] = set()

    def with_batch_statistics(next_fun, args, kwargs, context):
        """Runs a BatchNorm with momentum 0: it stores the batch's own statistics."""
        module = context.module
        if not isinstance(module, nn.BatchNorm) or context.method_name != "__call__":
            return next_fun(*args, **kwargs)
        frozen = args[1] if len(args) > 1 else kwargs.get("use_running_average")
        if frozen is None:
            frozen = module.use_running_average
        if frozen:
            return next_fun(*args, **kwargs)
        trained.add(module.path)
        for name in ("mean", "var"):
            value = module.get_variable("batch_stats", name)
            module.put_variable("batch_stats", name, _finite(value))
        momentum = module.momentum
        object.__setattr__(module, "momentum", 0.0)  # Linen modules are frozen
        try:
            return next_fun(*args, **kwargs)
        finally:
            object.__setattr__(module, "momentum", momentum)

    with nn.intercept_methods(with_batch_statistics):
        _, updated = apply_fn(
            variables, x, mutable=["batch_stats"], rngs=rngs, **dict(apply_kwargs)
        )
    if not trained:
        raise ValueError(
            "no BatchNorm ran in training mode: pass the arguments that select it, "
            f"apply_kwargs={dict(apply_kwargs)!r} did not."
        )

    def fold(path, mean, new):
        module_path = tuple(key.key for key in path[:-1])
        return _fold(mean, new, count, size) if module_path in trained else mean

    return jax.tree_util.tree_map_with_path(fold, means, dict(updated["batch_stats"]))


def _recalibrate_linen(apply_fn, variables, batches, apply_kwargs, inputs, rngs):
    if not jax.tree.leaves(variables.get("batch_stats", {})):
        return dict(variables)
    if isinstance(apply_fn, nn.Module):
        apply_fn = apply_fn.apply
    kwargs = {"train": True} if apply_kwargs is None else apply_kwargs
    means = stats = nn.meta.unbox(dict(variables["batch_stats"]))
    count = 0
    for x, size in iterate_inputs(batches, inputs):
        keys = None
        if rngs is not None:
            keys = {name: jax.random.fold_in(key, count) for name, key in rngs.items()}
        means = _linen_step(
            dict(variables),
            means,
            jnp.asarray(count, default_float()),
            x,
            keys,
            apply_fn=apply_fn,
            apply_kwargs=tuple(sorted(kwargs.items())),
            size=size,
        )
        count += size
    fresh = jax.tree.map(lambda mean, old: mean.astype(old.dtype), means, stats)
    return {**variables, "batch_stats": fresh}


def _batch_norms(model: nnx.Module) -> list[nnx.BatchNorm]:
    return [m for _, m in nnx.iter_modules(model) if isinstance(m, nnx.BatchNorm)]


@functools.partial(jax.jit, static_argnames=("graphdef", "apply_kwargs", "size"))
def _nnx_step(state, means, count, x, *, graphdef, apply_kwargs, size):
    """Folds one batch's statistics into ``means``, a (mean, var) pair a BatchNorm."""
    model = nnx.merge(graphdef, state)
    norms = _batch_norms(model)
    for norm in norms:
        norm.mean[...] = _finite(norm.mean[...])
        norm.var[...] = _finite(norm.var[...])
    model(x, **dict(apply_kwargs))
    new = [(norm.mean[...], norm.var[...]) for norm in norms]
    means = jax.tree.map(lambda m, n: _fold(m, n, count, size), means, new)
    return nnx.split(model)[1], means


def _recalibrate_nnx(model, batches, apply_kwargs, inputs):
    norms = _batch_norms(model)
    if not norms:
        return model
    twin = nnx.merge(
        *nnx.split(model), copy=True
    )  # the caller's mode and rngs stay as they are
    twin.train()
    for norm in _batch_norms(twin):
        norm.momentum = 0.0
    graphdef, state = nnx.split(twin)
    means = [(norm.mean[...], norm.var[...]) for norm in norms]
    count = 0
    for x, size in iterate_inputs(batches, inputs):
        state, means = _nnx_step(
            state,
            means,
            jnp.asarray(count, default_float()),
            x,
            graphdef=graphdef,
            apply_kwargs=tuple(sorted((apply_kwargs or {}).items())),
            size=size,
        )
        count += size
    for norm, (mean, var) in zip(norms, means, strict=True):
        norm.mean[...] = mean.astype(norm.mean[...].dtype)
        norm.var[...] = var.astype(norm.var[...].dtype)
    return model


@overload
def recalibrate_batch_stats(
    model: nnx.Module,
    batches: Iterable[Any],
    /,
    *,
    apply_kwargs: Mapping[str, Any] | None = None,
    inputs: Callable[[Any], Any] | None = None,
) -> nnx.Module: ...


@overload
def recalibrate_batch_stats(
    apply_fn: Callable[..., Any] | nn.Module,
    variables: Mapping[str, Any],
    batches: Iterable[Any],
    /,
    *,
    apply_kwargs: Mapping[str, Any] | None = None,
    inputs: Callable[[Any], Any] | None = None,
    rngs: Mapping[str, jax.Array] | None = None,
) -> dict[str, Any]: ...


def recalibrate_batch_stats(
    model, *arguments, apply_kwargs=None, inputs=None, rngs=None
):
    r"""Re-estimates BatchNorm statistics for given parameters, in one pass over data.

    Call it as ``recalibrate_batch_stats(apply_fn, variables, batches)`` for Linen and
    as ``recalibrate_batch_stats(model, batches)`` for NNX. With :math:`s_b` a statistic
    (mean or variance) of batch b in training mode and :math:`n_b` its number of
    examples, the new statistic is

    .. math::
      s = \sum_b n_b\, s_b \Big/ \sum_b n_b,

    whatever the layers' momentum and the statistics before. No parameter changes. The
    average of iterates needs this: statistics gathered along the way belong to none of
    its weights.

    Args:
      model: Linen's ``module.apply`` (or the module), or an NNX module. Pass the same
        object each time: the compiled pass is kept for it.
      *arguments: for Linen the variables, a dict with "params" and "batch_stats", and
        the batches; for NNX the batches. Batches are an iterable, read once, of arrays,
        (inputs, ...) tuples or mappings. Each different batch size compiles once.
      apply_kwargs: what selects training mode, hashable values. None is
        ``{"train": True}`` for Linen and nothing for NNX, whose ``train()`` is called
        on a copy.
      inputs: takes the model's inputs from a batch; None takes a tuple's first element,
        a mapping's "image", "inputs" or "x", and an array itself.
      rngs: keys for Linen layers that draw random numbers, as {"dropout": key}; folded
        with the number of examples seen.

    Returns:
      For Linen new variables with fresh "batch_stats"; for NNX the model, updated in
      place. A network without BatchNorm comes back as it is.

    Raises:
      ValueError: if there is no batch, its inputs cannot be told, or no BatchNorm ran
        in training mode.
      TypeError: if ``batches`` is an array, or the arguments fit neither form.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, optax_ia.flax
      >>> class Net(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, x, train):
      ...         return nn.BatchNorm(use_running_average=not train)(x)
      >>> net = Net()
      >>> variables = net.init(jax.random.key(0), jnp.ones((1, 1)), train=False)
      >>> batches = [jnp.array([[1.0], [3.0]]), jnp.array([[8.0]])]
      >>> fresh = optax_ia.flax.recalibrate_batch_stats(net.apply, variables, batches)
      >>> print(fresh["batch_stats"]["BatchNorm_0"]["mean"])  # (2 * 2 + 1 * 8) / 3
      [4.]

    .. note::
      ``torch.optim.swa_utils.update_bn`` weighs all batches equally, a smaller last one
      too, and averages unbiased variances; Flax's variances are biased. The spread of
      the batches' means is in neither: use the batch size of training.

    References:
      Izmailov et al., `Averaging Weights Leads to Wider Optima and Better
      Generalization <https://arxiv.org/abs/1803.05407>`_, 2018, section 3.2; Granziol,
      Wan, Albanie, Roberts, Beyond SGD, 2021, section 2.
    """
    if isinstance(model, nnx.Module) and len(arguments) == 1:
        if rngs is not None:
            raise TypeError("rngs is for Linen: an NNX model holds its own.")
        return _recalibrate_nnx(model, arguments[0], apply_kwargs, inputs)
    if not isinstance(model, nnx.Module) and len(arguments) == 2:
        return _recalibrate_linen(model, *arguments, apply_kwargs, inputs, rngs)
    raise TypeError(
        "recalibrate_batch_stats takes (apply_fn, variables, batches) for Linen and "
        f"(model, batches) for NNX, got a {type(model).__name__} and {len(arguments)} "
        "more."
    )
