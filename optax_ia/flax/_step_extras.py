"""What a training step hands to an optimiser beside the gradient."""

import functools
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia import registry
from optax_ia._src.scalars import default_float
from optax_ia._src.states import find_state
from optax_ia.flax._accumulate import Parts
from optax_ia.gradients import SvrgState

LossFn = Callable[[Any, Any], Any]
"""``(outputs, batch)`` to a scalar mean loss, or to it and a dict of metrics."""

KNOWN = (
    "value",
    "grad",
    "grad_fn",
    "value_fn",
    "full_gradient",
    "matvec",
    "kfac_factors",
)


class Settings(NamedTuple):
    """The arguments of ``build_train_step`` that both forms of a step need.

    Attributes:
      needs: names of the extra arguments.
      loss_fn: of outputs and batch.
      inputs: takes the model's inputs from a batch.
      prepare: changes a batch, given a key; None changes nothing.
      apply_kwargs: what selects training mode; None is the default of each form.
      rngs: the names of Linen's random streams.
      norms: whether the norms of gradient and update are among the metrics.
      accumulate: the number of micro-batches.
      kfac: arguments of ``kfac_value_and_grad`` that say what is captured.
    """

    needs: tuple[str, ...]
    loss_fn: LossFn
    inputs: Callable[[Any], Any]
    prepare: Callable[[jax.Array, Any], Any] | None
    apply_kwargs: dict[str, Any] | None
    rngs: tuple[str, ...]
    norms: bool
    accumulate: int = 1
    kfac: Mapping[str, Any] = types.MappingProxyType({})

    @property
    def captures(self) -> bool:
        """Whether the optimiser needs Kronecker factors."""
        return "kfac_factors" in self.needs

    def prepared(self, key: jax.Array | None, batch: Any) -> Any:
        """The batch of a step, the same for all its evaluations."""
        if self.prepare is None:
            return batch
        if key is None:
            raise ValueError("prepare needs a key: call train_step(..., batch, key).")
        return self.prepare(key, batch)

    def loss_and_metrics(self, outputs: Any, batch: Any) -> tuple[jax.Array, dict]:
        """The loss of outputs, and the metrics that came with it."""
        result = self.loss_fn(outputs, batch)
        loss, metrics = result if isinstance(result, tuple) else (result, {})
        if jnp.shape(loss) != ():
            raise ValueError(
                "loss_fn must return a scalar, the mean over the batch, got shape "
                f"{jnp.shape(loss)}."
            )
        return loss, dict(metrics)


def needs_of(optimizer: Any) -> tuple[str, ...]:
    """The extra arguments that an optimiser cannot do without.

    Args:
      optimizer: a registry name, a record, or the names of the arguments themselves.

    Returns:
      Their names.

    Raises:
      ValueError: if the name is unknown, or an argument that no step can supply.
    """
    if isinstance(optimizer, str):
        optimizer = registry.get_record(optimizer)
    if isinstance(optimizer, registry.OptimizerRecord):
        needs = optimizer.needs
    elif isinstance(optimizer, Collection):
        needs = tuple(optimizer)
    else:
        raise TypeError(
            "optimizer must be a registry name, a record or a collection of names of "
            f"extra arguments, got a {type(optimizer).__name__}."
        )
    for name in needs:
        if name not in KNOWN:
            raise ValueError(
                f"a training step can supply {', '.join(KNOWN)}, not {name!r}."
            )
    return needs


def extra_args(
    needs: tuple[str, ...],
    parts: Parts,
    loss: jax.Array,
    grads: Any,
    params: Any,
    opt_state: Any,
    full_gradient: Any,
    kfac_factors: Any,
) -> dict[str, Any]:
    """The extra arguments of one update.

    Args:
      needs: those wanted.
      parts: the losses of the step's micro-batches, with the step's keys and
        statistics.
      loss: that at the current parameters.
      grads: its gradient there.
      params: the current parameters.
      opt_state: the optimiser's state.
      full_gradient: the full gradient where a snapshot is due, else None, which stands
        for the one that the state holds.
      kfac_factors: the factors of this batch, or an empty dict.

    Returns:
      Name to value.
    """

    def make(name):
        if name == "value":
            return loss
        if name == "grad":
            return grads
        if name == "value_fn":
            return parts.value
        if name == "grad_fn":
            return parts.gradient
        if name == "matvec":
            return functools.partial(parts.product, params)
        if name == "kfac_factors":
            return kfac_factors
        if full_gradient is not None:
            return full_gradient
        return find_state(opt_state, SvrgState, "svrg").snapshot_gradient

    return {name: make(name) for name in needs}


def mean_gradient(
    gradient: Callable[[Any], Any],
    batches: Iterable[Any] | Callable[[], Iterable[Any]] | None,
    inputs: Callable[[Any], Any],
) -> Any:
    """The mean gradient over batches, weighed by their numbers of examples.

    A loop on the host: inside one of the compiler's, a convolution's gradient is forty
    times slower on CPU.

    Args:
      gradient: of one batch.
      batches: an iterable that can be read again, or a function that gives one.
      inputs: takes the model's inputs from a batch.

    Returns:
      The tree of the gradient.

    Raises:
      ValueError: if there is no batch.
    """
    if batches is None:
        raise ValueError(
            "full_gradient needs the data it is taken over: pass full_batches= to "
            "build_train_step."
        )
    total, examples = None, 0
    for batch in batches() if callable(batches) else batches:
        size = jnp.shape(jax.tree.leaves(inputs(batch))[0])[0]
        examples += size
        # NumPy's, which no device holds: on a mesh it is not moved between them.
        weight = np.asarray(size / examples, default_float())
        grads = gradient(batch)
        total = grads if total is None else _fold(total, grads, weight)
    if total is None:
        raise ValueError("full_batches must give at least one batch, got none.")
    return total


@jax.jit
def _fold(mean: Any, new: Any, weight: jax.Array | np.ndarray) -> Any:
    return jax.tree.map(lambda m, n: m + weight.astype(m.dtype) * (n - m), mean, new)
