"""Scalars read from an optimiser state, for logging."""

import functools
from typing import Any

import jax
import optax

from optax_ia._src.scalars import bare_scalar


@functools.singledispatch
def read_diagnostics(state: Any) -> dict[str, Any]:
    """The scalars one state reports; a module registers its own state's reader."""
    del state
    return {}


@read_diagnostics.register
def _(state: optax.InjectStatefulHyperparamsState) -> dict[str, Any]:
    return dict(state.hyperparams)


@read_diagnostics.register
def _(state: optax.MultiStepsState) -> dict[str, Any]:
    return {"mini_step": state.mini_step, "gradient_step": state.gradient_step}


@read_diagnostics.register
def _(state: optax.ApplyIfFiniteState) -> dict[str, Any]:
    return {"total_notfinite": state.total_notfinite}


def _children(node: Any) -> list[Any]:
    """The subtrees one level below a node of a tree; none below a leaf."""
    return jax.tree.leaves(node, is_leaf=lambda child: child is not node)


def diagnostics(opt_state: optax.OptState) -> dict[str, jax.Array]:
    """Collects what an optimiser's state says of itself, as a flat dict of scalars.

    Looks through ``chain``, ``masked``, ``partition``, ``inject_hyperparams``,
    ``MultiSteps``, ``apply_if_finite`` and every wrapper of this package. The keys
    depend only on how the optimiser was built, and the values are arrays, so the dict
    may be returned from ``jit`` or stacked by ``lax.scan``. Reported are the current
    ``learning_rate``, ``num_averaged``, ``averaging_phase`` and ``trigger_*`` of
    :func:`gadam_auto`, ``sync_count`` of :func:`lookahead`, and the hyperparameters
    that ``optax.inject_hyperparams`` holds.

    Args:
      opt_state: the state of any optimiser (one of plain Optax gives an empty dict).

    Returns:
      Names to arrays of shape (). A name that stands in several places, as the rates of
      two groups under ``partition``, gets ``/1``, ``/2``... from its second place on.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> w = jnp.ones(2)
      >>> state = optax_ia.gadam(1e-3, start=100).init(w)
      >>> for name, value in optax_ia.diagnostics(state).items():
      ...     print(name, f"{float(value):.3g}")
      learning_rate 0.001
      num_averaged 0
    """
    found: dict[str, jax.Array] = {}

    def visit(node: Any) -> None:
        inside = len(found)
        for child in _children(node):
            if child is not node:
                visit(child)
        below = set(list(found)[inside:])
        for name, value in read_diagnostics(node).items():
            if name in below:  # an injected value, reported by the state that uses it
                continue
            number, unique = 1, name
            while unique in found:
                unique = f"{name}/{number}"
                number += 1
            found[unique] = bare_scalar(value)

    visit(opt_state)
    return found
