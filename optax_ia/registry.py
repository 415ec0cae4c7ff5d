"""The registry of methods, from whose records everything else is made.

The contract suite, the benchmarks, the experiments' command line and the README's table
run over these records. What a method needs, and what it is excused from, is data here.
"""

import difflib
import fnmatch
import types
from typing import Any

import optax

from optax_ia._record import OptimizerRecord as OptimizerRecord
from optax_ia._records import RECORDS

_BY_NAME = types.MappingProxyType({record.name: record for record in RECORDS})


def list_optimizers(pattern: str = "*") -> list[str]:
    """Names of the optimisers that ``get_optimizer`` makes.

    Args:
      pattern: a shell pattern (``fnmatch``).

    Returns:
      The matching names, in the registry's order; empty if none matches.

    Example:
      >>> import optax_ia
      >>> optax_ia.list_optimizers("gadam*")
      ['gadam', 'gadamx', 'gadam_lookahead', 'gadam_auto']
    """
    return [name for name in _BY_NAME if fnmatch.fnmatchcase(name, pattern)]


def get_record(name: str) -> OptimizerRecord:
    """The record of an optimiser.

    Args:
      name: one of :func:`list_optimizers`.

    Returns:
      The frozen record.

    Raises:
      ValueError: if there is no such name; the message lists the names there are.

    Example:
      >>> from optax_ia import registry
      >>> registry.get_record("gadamx").base
      'padamw'
    """
    try:
        return _BY_NAME[name]
    except (KeyError, TypeError):
        close = difflib.get_close_matches(str(name).lower(), _BY_NAME, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"unknown optimizer {name!r}.{hint} Known are {', '.join(_BY_NAME)}."
        ) from None


def get_optimizer(name: str, **overrides: Any) -> optax.GradientTransformationExtraArgs:
    """Makes an optimiser by name.

    Args:
      name: one of :func:`list_optimizers`.
      **overrides: arguments of the method, as ``learning_rate``, ``start`` or
        ``weight_decay``; the others keep their defaults.

    Returns:
      The transformation.

    Raises:
      ValueError: if the name is unknown (the choices are listed), or an argument is out
        of its range.
      TypeError: if an argument is unknown, missing or of another type.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> tx = optax_ia.get_optimizer("gadamx", learning_rate=0.05, start=100)
      >>> print(optax_ia.diagnostics(tx.init(jnp.ones(2)))["learning_rate"])
      0.05
    """
    return get_record(name).make(**overrides)
