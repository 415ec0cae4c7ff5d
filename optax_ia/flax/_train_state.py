"""A Linen training state with batch statistics, extra arguments and the average."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, cast

import jax
import jax.numpy as jnp
from flax import core, struct
from flax.training import train_state

from optax_ia._src.wrapping import copied, with_extra_args
from optax_ia.averaging import averaged_params
from optax_ia.flax._recalibrate import recalibrate_batch_stats


class TrainState(train_state.TrainState):
    """Flax's ``TrainState`` with batch statistics, extra arguments and averages.

    Attributes:
      step: number of updates done, shape (), int32.
      apply_fn: ``module.apply``.
      params: the parameters.
      tx: the transformation.
      opt_state: its state, averages included.
      batch_stats: the "batch_stats" collection; empty for networks without.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, optax_ia, optax_ia.flax
      >>> model = nn.Dense(1)
      >>> x = jnp.array([[1.0, 2.0]])
      >>> state = optax_ia.flax.TrainState.create(
      ...     apply_fn=model.apply,
      ...     params=model.init(jax.random.key(0), x)["params"],
      ...     tx=optax_ia.gadam(1e-2, start=2),
      ... )
      >>> @jax.jit
      ... def train_step(state, x):
      ...     loss = lambda p: jnp.mean((state.apply_fn({"params": p}, x) - 1.0) ** 2)
      ...     return state.apply_gradients(grads=jax.grad(loss)(state.params))
      >>> for _ in range(3):
      ...     state = train_step(state, x)
      >>> print(state.step, optax_ia.num_averaged(state.opt_state))
      3 2
      >>> list(state.averaged_variables())
      ['params']
    """

    batch_stats: core.FrozenDict[str, Any] | dict[str, Any] = struct.field(
        default_factory=dict
    )

    @classmethod
    def create(cls, *, apply_fn, params, tx, batch_stats=None, **kwargs):
        """Makes a state at step 0 with ``tx.init(params)``.

        The state owns copies of the parameters and batch statistics: a step that
        donates it leaves the caller's ``variables`` alone.

        Args:
          apply_fn: ``module.apply``.
          params: the parameters, ``variables["params"]``.
          tx: any gradient transformation, or an ``optax.MultiSteps``.
          batch_stats: ``variables["batch_stats"]``; None if there are none.
          **kwargs: the fields that a subclass adds.

        Returns:
          The state.
        """
        state = super().create(
            apply_fn=apply_fn,
            params=copied(params),
            tx=with_extra_args(tx),
            batch_stats={} if batch_stats is None else copied(batch_stats),
            **kwargs,
        )
        return state.replace(step=jnp.zeros([], jnp.int32))

    def apply_gradients(self, *, grads: Any, **kwargs: Any) -> Self:
        """One update.

        Args:
          grads: a tree like ``params``.
          **kwargs: those that name a field (``batch_stats=...``) replace it; all others
            (``value=...``, ``grad_fn=...``) are handed to the transformation.

        Returns:
          The new state.
        """
        fields = {field.name for field in dataclasses.fields(self)}
        replaced = {name: kwargs[name] for name in kwargs if name in fields}
        extra = {name: kwargs[name] for name in kwargs if name not in fields}
        bound = self.tx._replace(update=functools.partial(self.tx.update, **extra))
        # Flax's own method, on a transformation that has the extra arguments bound
        state = train_state.TrainState.apply_gradients(
            self.replace(tx=bound), grads=grads, **replaced
        )
        return cast(Self, state.replace(tx=self.tx))

    def averaged_variables(
        self,
        batches: Iterable[Any] | None = None,
        *,
        apply_kwargs: Mapping[str, Any] | None = None,
        inputs: Callable[[Any], Any] | None = None,
        rngs: Mapping[str, jax.Array] | None = None,
    ) -> dict[str, Any]:
        """The averaged parameters as variables, ready to evaluate.

        Args:
          batches: training batches for :func:`recalibrate_batch_stats`; None keeps the
            batch statistics, which is right only for networks without BatchNorm.
          apply_kwargs: see :func:`recalibrate_batch_stats`.
          inputs: see :func:`recalibrate_batch_stats`.
          rngs: see :func:`recalibrate_batch_stats`.

        Returns:
          A dict with "params" (the current ones while nothing has been collected) and,
          if the network has any, "batch_stats".

        Raises:
          ValueError: if ``opt_state`` holds no average or several.
        """
        variables = {"params": averaged_params(self.opt_state, self.params)}
        if jax.tree.leaves(self.batch_stats):
            variables["batch_stats"] = self.batch_stats
        variables = copied(variables)  # the next step may donate this state
        if batches is None:
            return variables
        return recalibrate_batch_stats(
            self.apply_fn,
            variables,
            batches,
            apply_kwargs=apply_kwargs,
            inputs=inputs,
            rngs=rngs,
        )
