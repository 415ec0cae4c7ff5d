"""What is said of one model: a frozen record."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """What the zoo knows about a model.

    Attributes:
      name: the name :func:`create_model` takes.
      factory: makes the Linen module from keyword arguments.
      summary: one line.
      paper: where it comes from; empty for the small ones made for tests.
      kind: "image", "language" or "generative".
      input_shape: of one example, without the batch axis; any other that fits the
        architecture will do.
      input_dtype: of the input; "int32" for tokens.
      parameters: the count that the paper or the reference implementation gives for
        these defaults, to the last digit; None where there is none.
      parameters_source: whose count that is, and what a rounded or wrong figure in
        print says.
    """

    name: str
    factory: Callable[..., nn.Module]
    summary: str
    paper: str = ""
    kind: str = "image"
    input_shape: tuple[int, ...] = (32, 32, 3)
    input_dtype: str = "float32"
    parameters: int | None = None
    parameters_source: str = ""

    @property
    def defaults(self) -> dict[str, Any]:
        """The attributes that the factory sets, other than the module's own."""
        if isinstance(self.factory, functools.partial):
            return dict(self.factory.keywords)
        return {}
