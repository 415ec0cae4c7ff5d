"""The rows of ``metrics.jsonl``: what stands in those of every task."""

import math
from typing import Any

import jax
import optax

import optax_ia

Row = dict[str, Any]


def norms_and_diagnostics(means: dict[str, float], params: Any, opt_state: Any) -> Row:
    """The end of an epoch's row.

    Args:
      means: of the epoch, ``"gradient_norm"`` and ``"update_norm"`` among them.
      params: the parameters at its end.
      opt_state: the optimiser's state there.

    Returns:
      ``gradient_norm``, ``update_norm``, ``parameter_norm`` and what the optimiser
      tells about itself, as Python numbers.
    """
    row: Row = {
        "gradient_norm": means["gradient_norm"],
        "update_norm": means["update_norm"],
        "parameter_norm": _norm(params),
    }
    for name, value in optax_ia.diagnostics(opt_state).items():
        row[name] = value.item()
    return row


def _norm(params: Any) -> float:
    """The norm of a tree, wherever it lies, by one program.

    A program for each array would take longer to compile. And over several devices they
    would all be sums over the devices, none of them waiting for another: these can wait
    for ever for threads of the host on which the CPU's devices run.
    """
    return float(jax.jit(optax.tree.norm)(params))


def without_nan(row: Row) -> Row:
    """NaN and infinities, which JSON does not have, become None.

    Args:
      row: any row.

    Returns:
      A new one.
    """
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
