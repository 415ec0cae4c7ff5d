"""Checks of single values and of calls; :mod:`optax_ia._src.arguments` has the schema.

A traced value (for example under ``optax.inject_hyperparams``) passes unchecked, since
its value is not known.
"""

from collections.abc import Collection
from typing import Any

from optax_ia._src.accumulation import is_inside_multi_steps
from optax_ia._src.arguments import Choice, Integer, Number


def check_number(name: str, value: Any, **bounds: float) -> None:
    """Raises if a known ``value`` is no finite number or breaks one of its bounds.

    Args:
      name: the argument's name, for the message.
      value: the value received.
      **bounds: any of ``minimum``, ``above``, ``maximum``, ``below``.
    """
    Number(**bounds)(name, value)  # pyright: ignore[reportArgumentType]


def check_integer(name: str, value: Any, *, minimum: int) -> None:
    """Raises if a known ``value`` is no whole number or is below ``minimum``."""
    Integer(minimum)(name, value)


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raises ValueError if ``value`` is none of ``choices``."""
    Choice(tuple(choices))(name, value)


def check_params(name: str, params: Any) -> Any:
    """The parameters; raises ValueError if ``update`` was called without them."""
    if params is None:
        raise ValueError(
            f"{name} needs the parameters: call update(grads, state, params)."
        )
    return params


def check_extra_args(method: str, **values: Any) -> None:
    """Raises ValueError if an extra argument that ``update`` needs is None, or wrong.

    Inside ``optax.MultiSteps`` of two or more micro-batches the extra arguments are
    those of the last one alone.

    Args:
      method: the transformation, for the message.
      **values: every extra argument it needs, by name.
    """
    if is_inside_multi_steps():
        raise ValueError(
            f"{method} evaluates {' and '.join(values)}, of which optax.MultiSteps "
            "hands on those of the last micro-batch alone, beside the gradient of all: "
            "the step would be wrong. Use optax_ia.flax.build_train_step(..., "
            "accumulate=n), which evaluates them over all micro-batches, or call "
            "update once per step with functions of the whole batch."
        )
    missing = [name for name, value in values.items() if value is None]
    if missing:
        call = ", ".join(f"{name}={name}" for name in values)
        raise ValueError(
            f"{method} needs {' and '.join(missing)}: call "
            f"update(grads, state, params, {call}), or let "
            "optax_ia.flax.build_train_step make the call."
        )
