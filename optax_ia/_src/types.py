"""Type aliases of the public signatures."""

from collections.abc import Callable
from typing import Any

import optax

Mask = Any | Callable[[optax.Params], Any] | None
"""A tree (or prefix) of bools, a function of the parameters giving one, or None."""
