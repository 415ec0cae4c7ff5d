"""One training step for every optimiser, Linen and NNX."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax
import optax
from flax import nnx

from optax_ia._src import checks
from optax_ia.flax._accumulate import (
    Parts,
    mean_of,
    refuse_multi_steps,
    split_batch,
)
from optax_ia.flax._batches import advice_on_train, default_inputs
from optax_ia.flax._kfac_step import capturing_pass, check_options
from optax_ia.flax._nnx_step import NnxStep
from optax_ia.flax._step_extras import (
    LossFn,
    Settings,
    extra_args,
    mean_gradient,
    needs_of,
)
from optax_ia.flax._train_state import TrainState
from optax_ia.gradients import svrg_snapshot_due
from optax_ia.registry import OptimizerRecord
from optax_ia.second_order import kfac_factors_due


def _linen_loss(settings: Settings, state: TrainState, batch: Any, key: Any):
    """The loss as a function of the parameters alone, everything else held."""
    rngs = None
    if key is not None and settings.rngs:
        keys = jax.random.split(key, len(settings.rngs))
        rngs = dict(zip(settings.rngs, keys, strict=True))
    kwargs = {"train": True}
    if settings.apply_kwargs is not None:
        kwargs = settings.apply_kwargs
    has_stats = bool(jax.tree.leaves(state.batch_stats))

    def loss_of(params):
        with advice_on_train(settings.apply_kwargs):
            outputs, stats = applied(params)
        loss, metrics = settings.loss_and_metrics(outputs, batch)
        return loss, (metrics, stats)

    def applied(params):
        variables = {"params": params}
        if has_stats:
            outputs, updated = state.apply_fn(
                variables | {"batch_stats": state.batch_stats},
                settings.inputs(batch),
                rngs=rngs,
                mutable=["batch_stats"],
                **kwargs,
            )
            return outputs, updated["batch_stats"]
        outputs = state.apply_fn(variables, settings.inputs(batch), rngs=rngs, **kwargs)
        return outputs, state.batch_stats

    return loss_of


def _step_keys(key: jax.Array | None, step: jax.Array) -> tuple[Any, Any]:
    """The keys of one step, for preparing the batch and for the network."""
    if key is None:
        return None, None
    prepare_key, network_key = jax.random.split(jax.random.fold_in(key, step))
    return prepare_key, network_key


class _LinenStep:
    """Step and gradient of a :class:`TrainState`, compiled once for each."""

    def __init__(self, settings: Settings, donate: bool):
        self._settings = settings
        self._step = jax.jit(
            self._update,
            static_argnames="capturing",
            donate_argnums=(0,) if donate else (),
        )
        self._gradient = jax.jit(self._gradient_of)
        self._captures: dict[Any, Any] = {}

    def _captured(self, state, batch, key):
        """The pass that captures Kronecker factors, on the same keys as any other."""
        settings = self._settings
        if state.apply_fn not in self._captures:
            self._captures[state.apply_fn] = capturing_pass(settings, state.apply_fn)
        value_and_grad = self._captures[state.apply_fn]
        (loss, aux), grads, factors = value_and_grad(
            state.params, batch, key, state.batch_stats
        )
        return (loss, (aux.metrics, aux.batch_stats)), grads, factors

    def _update(self, state, batch, key, full_gradient, capturing=False):
        settings = self._settings
        prepare_key, network_key = _step_keys(key, state.step)
        batch = settings.prepared(prepare_key, batch)
        passes, losses, current = [], [], state
        parts = split_batch(batch, settings.accumulate)
        for i, part in enumerate(parts):
            key = network_key
            if key is not None and len(parts) > 1:
                key = jax.random.fold_in(key, i)
            loss_of = _linen_loss(settings, current, part, key)
            losses.append(loss_of)
            if passes:  # one after the other, so that memory is that of one part
                current, _ = jax.lax.optimization_barrier((current, passes[-1]))
            if capturing:
                found = self._captured(current, part, key)
            else:
                differentiate = jax.value_and_grad(loss_of, has_aux=True)
                found = (*differentiate(current.params), {})
            (loss, (metrics, stats)), grads, factors = found
            passes.append(((loss, metrics), grads, factors))
            current = current.replace(batch_stats=stats)
        (loss, metrics), grads, factors = mean_of(passes)
        stats = current.batch_stats
        extra = extra_args(
            settings.needs,
            Parts(tuple(losses)),
            loss,
            grads,
            state.params,
            state.opt_state,
            full_gradient,
            factors,
        )
        after = state.apply_gradients(grads=grads, batch_stats=stats, **extra)
        metrics = {"loss": loss, **metrics}
        if settings.norms:
            metrics["gradient_norm"] = optax.tree.norm(grads)
            update = optax.tree.sub(after.params, state.params)
            metrics["update_norm"] = optax.tree.norm(update)
        return after, metrics

    def _gradient_of(self, state, batch, key):
        prepare_key, network_key = _step_keys(key, state.step)
        batch = self._settings.prepared(prepare_key, batch)
        loss_of = _linen_loss(self._settings, state, batch, network_key)
        return jax.grad(loss_of, has_aux=True)(state.params)[0]

    def __call__(self, state, batch, key, full_batches):
        refuse_multi_steps(self._settings.needs, state.opt_state)
        full_gradient = None
        snapshots = "full_gradient" in self._settings.needs
        if snapshots and svrg_snapshot_due(state.opt_state):
            full_gradient = mean_gradient(
                lambda batch: self._gradient(state, batch, key),
                full_batches,
                self._settings.inputs,
            )
        due = self._settings.captures and bool(kfac_factors_due(state.opt_state))
        return self._step(state, batch, key, full_gradient, capturing=due)


def build_train_step(
    optimizer: str | OptimizerRecord | Collection[str],
    loss_fn: LossFn,
    *,
    inputs: Callable[[Any], Any] | None = None,
    prepare: Callable[[jax.Array, Any], Any] | None = None,
    apply_kwargs: Mapping[str, Any] | None = None,
    rngs: Collection[str] = ("dropout",),
    full_batches: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
    kfac: Mapping[str, Any] | None = None,
    norms: bool = False,
    accumulate: int = 1,
    donate: bool = True,
) -> Callable[..., Any]:
    r"""Builds the compiled training step of any optimiser, whatever it needs.

    The registry's record says which extra arguments the optimiser's ``update`` cannot
    do without, and the step supplies them: ``value`` and ``value_fn`` to a line search,
    ``grad_fn`` to :func:`sam`, ``grad_fn`` and ``full_gradient`` to :func:`svrg`, the
    Hessian's product ``matvec`` to :func:`lanczos_newton`, ``kfac_factors`` to
    :func:`kfac`, by a program of its own for the steps that use them. All
    evaluations of one step see the same batch, the same random keys and the same batch
    statistics; the statistics that the first one leaves behind are kept.

    The step is called as

    - ``state, metrics = train_step(state, batch, key)`` with a :class:`TrainState`, or
    - ``metrics = train_step(model, optimizer, batch, key)`` with an NNX model and its
      ``nnx.Optimizer``, which are updated in place.

    ``key`` is one for the whole run, from which the step's number makes that of each
    step; it may be left out where nothing draws from it. An NNX model's dropout draws
    from the model's own streams.

    Args:
      optimizer: a name of :func:`list_optimizers`, its record, or the names of the
        extra arguments that a transformation of your own needs, among ``value``,
        ``grad``, ``grad_fn``, ``value_fn``, ``full_gradient``, ``matvec`` and
        ``kfac_factors``; ``()`` if none.
      loss_fn: ``loss_fn(outputs, batch)`` gives the mean loss over the batch, a scalar,
        or a pair of it and a dict of metrics.
      inputs: takes the model's inputs from a batch; None takes a tuple's first element,
        a mapping's "image", "inputs" or "x", and an array itself.
      prepare: ``prepare(key, batch)`` changes the batch inside the compiled step, as an
        augmentation does.
      apply_kwargs: what selects training mode. None is ``{"train": True}`` for Linen,
        and for NNX ``train()`` on a copy; pass ``{}`` for a module without that
        argument.
      rngs: names of the random streams of a Linen module.
      full_batches: for :func:`svrg`, all batches of the data, or those of a large
        batch: an iterable that can be read again, or a function that gives one.
      kfac: for :func:`kfac`, what :func:`kfac_value_and_grad` captures: its arguments
        ``likelihood``, ``weights``, ``empirical``, ``layers`` and ``max_dim``, where
        they are not the defaults.
      norms: add ``gradient_norm`` and ``update_norm`` to the metrics.
      accumulate: n >= 1 micro-batches: the batch's first axis is cut into n equal
        parts, and everything that the optimiser needs (gradient, ``value_fn``,
        ``grad_fn``, ``matvec``, ``kfac_factors``) is evaluated on all of them, one
        after the other. For a loss that is a mean over examples the step equals that of
        the whole batch. Batch normalisation sees one part at a time, the running
        statistics follow the parts in turn, and each part has a dropout key of its own.
        Static: compile time grows with n.
      donate: reuse the memory of ``state`` for the new one (Linen): do not use the old
        state afterwards. :meth:`TrainState.create` copies what it is given, so
        ``variables`` stay usable.

    Returns:
      The step. Its metrics are a dict of scalars: ``loss`` and those of ``loss_fn``.
      Pass the same step all along: programs are compiled once for each.

    Raises:
      ValueError: if the optimiser is unknown or needs what no step can supply, or
        ``kfac`` holds another name; by the step, if the loss is no scalar, ``prepare``
        has no key, a snapshot is due and there are no ``full_batches``, ``accumulate``
        does not divide the batch, or an optimiser with needs of its own is inside
        ``optax.MultiSteps``.

    Example:
      The same lines train with any optimiser, a sharpness-aware one here:

      >>> import flax.linen as nn, jax, jax.numpy as jnp, optax, optax_ia, optax_ia.flax
      >>> model = nn.Dense(1)
      >>> x = jnp.array([[1.0], [2.0], [3.0]])
      >>> name = "sam_sgd"
      >>> state = optax_ia.flax.TrainState.create(
      ...     apply_fn=model.apply,
      ...     params=model.init(jax.random.key(0), x)["params"],
      ...     tx=optax_ia.get_optimizer(name, learning_rate=0.02),
      ... )
      >>> train_step = optax_ia.flax.build_train_step(
      ...     name,
      ...     lambda outputs, batch: jnp.mean((outputs - batch[1]) ** 2),
      ...     apply_kwargs={},
      ... )
      >>> for _ in range(200):
      ...     state, metrics = train_step(state, (x, 2 * x + 1))
      >>> bool(metrics["loss"] < 1e-2)
      True

    References:
      The wrappers it serves: :func:`sam`, :func:`svrg`, :func:`sls`.
    """
    checks.check_integer("accumulate", accumulate, minimum=1)
    settings = Settings(
        needs=needs_of(optimizer),
        loss_fn=loss_fn,
        inputs=inputs or default_inputs,
        prepare=prepare,
        apply_kwargs=None if apply_kwargs is None else dict(apply_kwargs),
        rngs=tuple(rngs),
        norms=norms,
        accumulate=accumulate,
        kfac=check_options(kfac),
    )
    linen = _LinenStep(settings, donate)
    in_place = NnxStep(settings)

    def train_step(first: Any, *arguments: Any, key: jax.Array | None = None) -> Any:
        if isinstance(first, nnx.Module):
            names = ("model", "optimizer", "batch", "key")
        else:
            names = ("state", "batch", "key")
        given: Any = (first, *arguments)
        if not len(names) - 1 <= len(given) <= len(names):
            raise TypeError(
                f"train_step takes ({', '.join(names)}), got {len(given)} arguments."
            )
        if len(given) == len(names):
            if key is not None:
                raise TypeError("train_step got key twice, by position and by name.")
            *given, key = given
        step: Any = in_place if isinstance(first, nnx.Module) else linen
        return step(*given, key, full_batches)

    return train_step
