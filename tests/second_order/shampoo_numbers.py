"""Options of Shampoo that are numbers, told apart from those that choose a program."""

import inspect
from typing import Any

from optax_ia.second_order._shampoo import scale_by_shampoo

_PARAMETERS = inspect.signature(scale_by_shampoo).parameters
_DEFAULTS = {
    name: _PARAMETERS[name].default
    for name in (
        *("eps", "precondition_every", "statistics_every", "start"),
        *("grafting_decay", "grafting_eps"),
    )
}


def split(options: dict[str, Any]) -> tuple[dict[str, Any], tuple]:
    """Splits options, so that a step compiled for some serves others too.

    Args:
      options: of ``scale_by_shampoo``.

    Returns:
      All numbers, for arguments of the compiled step, ``decay`` among them only where
      it is given; and the other options as pairs, which can be hashed.
    """
    numbers = {name: options.get(name, value) for name, value in _DEFAULTS.items()}
    if options.get("decay") is not None:
        numbers["decay"] = options["decay"]
    rest = {name: value for name, value in options.items() if name not in numbers}
    return numbers, tuple(rest.items())
