"""The training step of an NNX model and its optimiser, which it updates in place."""

from typing import Any

import jax
import optax
from flax import nnx

from optax_ia.flax._accumulate import (
    Parts,
    mean_of,
    refuse_multi_steps,
    split_batch,
)
from optax_ia.flax._kfac_step import capturing_pass
from optax_ia.flax._step_extras import Settings, extra_args, mean_gradient
from optax_ia.gradients import svrg_snapshot_due
from optax_ia.second_order import kfac_factors_due


def _nnx_loss(settings: Settings, model: nnx.Module, wrt: Any, batch: Any):
    """The parameters, and the loss as a function of them alone, all else held.

    Returns:
      The parameters as a tree of arrays, and ``params`` to the loss, the metrics and
      what the pass leaves in the model's other variables (batch statistics, counters of
      random streams).
    """
    graphdef, params, others = nnx.split(model, wrt, ...)
    params, others = nnx.as_pure(params), nnx.as_pure(others)

    def loss_of(params):
        copy = nnx.merge(graphdef, params, others)
        if settings.apply_kwargs is None:
            copy.train()
        outputs = copy(settings.inputs(batch), **(settings.apply_kwargs or {}))
        loss, metrics = settings.loss_and_metrics(outputs, batch)
        left = nnx.as_pure(nnx.split(copy, wrt, ...)[2])
        return loss, (metrics, left)

    return params, loss_of


def _prepared(settings: Settings, key: Any, step: jax.Array, batch: Any) -> Any:
    if key is not None:
        key = jax.random.fold_in(key, step)
    return settings.prepared(key, batch)


def _network_key(key: Any, step: jax.Array) -> Any:
    """The key of the labels that a step draws, apart from the batch's."""
    return None if key is None else jax.random.fold_in(jax.random.fold_in(key, step), 1)


class NnxStep:
    """Step and gradient of an NNX model, compiled once for each."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._step = nnx.jit(self._update, static_argnames="capture")
        self._gradient = nnx.jit(self._gradient_of)
        self._capture: Any = None

    def _update(self, model, optimizer, batch, key, full_gradient, capture=None):
        settings = self._settings
        batch = _prepared(settings, key, optimizer.step[...], batch)
        passes, losses = [], []
        parts = split_batch(batch, settings.accumulate)
        network_key = _network_key(key, optimizer.step[...])
        for i, part in enumerate(parts):
            params, loss_of = _nnx_loss(settings, model, optimizer.wrt, part)
            losses.append(loss_of)
            if capture is None:
                if passes:  # one after the other: memory is that of one part
                    where, _ = jax.lax.optimization_barrier((params, passes[-1]))
                else:
                    where = params
                value, grads = jax.value_and_grad(loss_of, has_aux=True)(where)
                (loss, (metrics, left)), factors = value, {}
                nnx.update(model, left)
            else:
                label_key = network_key
                if label_key is not None and len(parts) > 1:
                    label_key = jax.random.fold_in(label_key, i)
                (loss, aux), gradients, factors = capture(
                    model, part, label_key, wrt=optimizer.wrt
                )
                grads, metrics = nnx.as_pure(gradients), aux.metrics
            passes.append(((loss, metrics), grads, factors))
        (loss, metrics), grads, factors = mean_of(passes)
        # ``nnx.Optimizer`` picks gradients out by the type of their variables
        variables = jax.tree.structure(nnx.state(model, optimizer.wrt))
        gradients = jax.tree.unflatten(variables, jax.tree.leaves(grads))
        extra = extra_args(
            settings.needs,
            Parts(tuple(losses)),
            loss,
            grads,
            params,
            nnx.as_pure(optimizer.opt_state),
            full_gradient,
            factors,
        )
        updates = optimizer.update(model, gradients, **extra)
        metrics = {"loss": loss, **metrics}
        if settings.norms:
            metrics["gradient_norm"] = optax.tree.norm(grads)
            metrics["update_norm"] = optax.tree.norm(updates)
        return metrics

    def _gradient_of(self, model, optimizer, batch, key):
        batch = _prepared(self._settings, key, optimizer.step[...], batch)
        params, loss_of = _nnx_loss(self._settings, model, optimizer.wrt, batch)
        return jax.grad(loss_of, has_aux=True)(params)[0]

    def __call__(self, model, optimizer, batch, key, full_batches) -> Any:
        refuse_multi_steps(self._settings.needs, optimizer.opt_state)
        full_gradient = None
        snapshots = "full_gradient" in self._settings.needs
        if snapshots and svrg_snapshot_due(optimizer.opt_state):
            full_gradient = mean_gradient(
                lambda batch: self._gradient(model, optimizer, batch, key),
                full_batches,
                self._settings.inputs,
            )
        capture = None
        if self._settings.captures and kfac_factors_due(optimizer.opt_state):
            if self._capture is None:
                self._capture = capturing_pass(self._settings, model)
            capture = self._capture
        return self._step(model, optimizer, batch, key, full_gradient, capture)
