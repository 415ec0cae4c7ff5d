"""Argument checks that run at construction.

They look only at concrete Python and NumPy numbers: a traced value (for example
under ``optax.inject_hyperparams``) passes unchecked, since its value is not known.
"""

import numbers
import operator
from collections.abc import Collection
from typing import Any

import numpy as np


def is_concrete(value: Any) -> bool:
    """Whether a value is known: a Python or NumPy number, no traced or JAX array."""
    return isinstance(value, (numbers.Number, np.ndarray, np.generic))


_BOUNDS = {
    "minimum": (operator.ge, ">="),
    "above": (operator.gt, ">"),
    "maximum": (operator.le, "<="),
    "below": (operator.lt, "<"),
}


def check_number(name: str, value: Any, **bounds: float) -> None:
    """Raises ValueError if a concrete ``value`` breaks one of its bounds.

    Args:
      name: the argument's name, for the message.
      value: the value received; traced arrays are not looked at.
      **bounds: any of ``minimum``, ``above``, ``maximum``, ``below``.
    """
    if isinstance(value, (str, bytes)) or value is None:
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if callable(value):
        raise TypeError(
            f"{name} must be a number, got the function {value!r}; for a schedule wrap "
            "the optimiser in optax.inject_hyperparams."
        )
    if not is_concrete(value):
        return
    for bound, limit in bounds.items():
        compare, symbol = _BOUNDS[bound]
        if not compare(value, limit):  # also False for NaN
            raise ValueError(f"{name} must be {symbol} {limit}, got {value!r}.")


def check_integer(name: str, value: Any, *, minimum: int) -> None:
    """Raises if a concrete ``value`` is no whole number or is below ``minimum``."""
    check_number(name, value, minimum=minimum)
    if is_concrete(value) and value != int(value):
        raise ValueError(f"{name} must be a whole number, got {value!r}.")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raises ValueError if ``value`` is none of ``choices``."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {listed}, got {value!r}.")


def check_learning_rate(name: str, value: Any) -> None:
    """Raises if a concrete learning rate is negative; schedules pass."""
    if not callable(value):
        check_number(name, value, minimum=0)


def check_params(name: str, params: Any) -> Any:
    """The parameters; raises ValueError if ``update`` was called without them."""
    if params is None:
        raise ValueError(
            f"{name} needs the parameters: call update(grads, state, params)."
        )
    return params


def check_extra_args(method: str, **values: Any) -> None:
    """Raises ValueError if an extra argument that ``update`` needs is None.

    Args:
      method: the transformation, for the message.
      **values: every extra argument it needs, by name.
    """
    missing = [name for name, value in values.items() if value is None]
    if missing:
        call = ", ".join(f"{name}={name}" for name in values)
        raise ValueError(
            f"{method} needs {' and '.join(missing)}: call "
            f"update(grads, state, params, {call}), or let "
            "optax_ia.flax.build_train_step make the call."
        )
