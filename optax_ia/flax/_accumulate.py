"""Micro-batches: one step whose evaluations run over the parts of a batch in turn."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optax_ia._src.states import find_states

Loss = Callable[[Any], tuple[jax.Array, Any]]
"""Parameters to the mean loss over one part, and what else its pass gives."""


def split_batch(batch: Any, parts: int) -> list[Any]:
    """Cuts the first axis of every leaf of a batch into equal parts.

    Raises:
      ValueError: if the leaves' first axes differ, or do not divide.
    """
    if parts == 1:
        return [batch]
    shapes = [jnp.shape(leaf) for leaf in _leaves(batch)]
    sizes = {shape[0] for shape in shapes if shape}
    if len(sizes) != 1 or () in shapes:
        raise ValueError(
            "accumulate splits the first axis of every leaf of the batch, which must "
            f"have one length; the leaves have the shapes {shapes}."
        )
    (size,) = sizes
    if size % parts:
        raise ValueError(
            f"accumulate must divide the batch: {size} examples do not split into "
            f"{parts} equal parts."
        )
    step = size // parts
    return [
        jax.tree.map(lambda x, i=i: x[i * step : (i + 1) * step], batch)
        for i in range(parts)
    ]


def _leaves(batch: Any) -> list[Any]:
    leaves = jax.tree.leaves(batch)
    if not leaves:
        raise ValueError("accumulate needs a batch with at least one array, got none.")
    return leaves


def mean_of(trees: Sequence[Any]) -> Any:
    """The mean of trees; whole numbers are taken from the last one."""
    if len(trees) == 1:
        return trees[0]

    def mean(*leaves):
        if not jnp.issubdtype(jnp.result_type(leaves[0]), jnp.inexact):
            return leaves[-1]
        return sum(leaves[1:], leaves[0]) / len(leaves)

    return jax.tree.map(mean, *trees)


class Parts(NamedTuple):
    """The losses of a batch's parts, all else held: evaluated one after the other.

    Attributes:
      losses: a loss of each part.
    """

    losses: tuple[Loss, ...]

    def _over_parts(self, evaluate: Callable[[Loss, Any], Any], params: Any) -> Any:
        """The mean of an evaluation over the parts, in sequence to bound memory."""
        total = None
        for loss in self.losses:
            if total is not None:
                total, params = lax.optimization_barrier((total, params))
            value = evaluate(loss, params)
            total = value if total is None else optax.tree.add(total, value)
        if len(self.losses) == 1:
            return total
        return jax.tree.map(lambda x: x / len(self.losses), total)

    def value(self, params: Any) -> jax.Array:
        """The mean loss over the whole batch."""
        return self._over_parts(lambda loss, where: loss(where)[0], params)

    def gradient(self, params: Any) -> Any:
        """Its gradient."""
        return self._over_parts(
            lambda loss, where: jax.grad(loss, has_aux=True)(where)[0], params
        )

    def product(self, params: Any, vector: Any) -> Any:
        """The Hessian's product with a vector."""

        def evaluate(loss, where):
            def gradient(params):
                return jax.grad(loss, has_aux=True)(params)[0]

            return jax.jvp(gradient, (where,), (vector,))[1]

        return self._over_parts(evaluate, params)


def refuse_multi_steps(needs: Sequence[str], opt_state: Any) -> None:
    """Refuses ``optax.MultiSteps`` around a method that evaluates the loss itself."""
    if needs and find_states(opt_state, optax.MultiStepsState):
        raise ValueError(
            f"optax.MultiSteps hands an optimiser that needs {', '.join(needs)} those "
            "of the last micro-batch alone, beside the gradient of all: the step would "
            "be wrong. Leave MultiSteps away and pass accumulate=n to "
            "build_train_step, which evaluates all of them over all micro-batches."
        )
